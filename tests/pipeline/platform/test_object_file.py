"""Objects are read like files, at any place, and by the ranges of RFC 9110."""

from __future__ import annotations

import os

import pytest

from pipeline.platform import object_file
from pipeline.platform.object_file import ObjectFile, byte_range
from pipeline.platform.storage import Store
from tests.support.buckets import bucket, s3_server

__all__ = ["bucket", "s3_server"]


@pytest.mark.parametrize(
    ("header", "place"),
    [
        ("", (0, 100)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-900", (90, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=100-", None),
        ("bytes=-0", None),
        ("bytes=20-10", (0, 100)),
        ("bytes=0-1,5-6", (0, 100)),
        ("bytes=a-b", (0, 100)),
        ("pictures=0-1", (0, 100)),
        ("bytes=" + "9" * 30 + "-", (0, 100)),
        ("bytes=\u0661-\u0662", (0, 100)),
    ],
)
def test_byte_range(header: str, place: tuple[int, int] | None) -> None:
    assert byte_range(header, 100) == place


def test_an_object_is_read_like_a_file(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_file, "BLOCK_BYTES", 100)
    monkeypatch.setattr(object_file, "BLOCKS", 2)
    store, data = Store(bucket), os.urandom(1234)
    store.put("a", data)
    found = store.head("a")
    assert found is not None
    with ObjectFile(store, found) as file:
        assert file.read(150) == data[:150]
        assert (file.seek(-10, os.SEEK_END), file.read()) == (1224, data[-10:])
        assert (file.seek(450), file.seek(50, os.SEEK_CUR)) == (450, 500)
        assert (file.read(1), file.tell()) == (data[500:501], 501)
        assert (file.seek(5000), file.read(10)) == (5000, b"")
        store.put("a", os.urandom(1234))
        file.seek(0)
        with pytest.raises(OSError, match="written again"):
            file.read(10)
