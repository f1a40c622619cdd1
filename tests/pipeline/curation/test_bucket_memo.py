"""A memo in a bucket loses no record of a process that was killed, and pays for nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.curation import bucket_memo
from pipeline.curation.bucket_memo import BucketMemo, open_memo
from pipeline.curation.store import GuardedMemo
from pipeline.platform.storage import Store
from tests.support.buckets import bucket, s3_server

__all__ = ["bucket", "s3_server"]
ROOT = Path(__file__).parents[3]
WRITER = """
import sys
from pipeline.curation.bucket_memo import BucketMemo
memo = BucketMemo(sys.argv[1])
for number in range(1_000_000):
    memo.put(f"key-{number}", str(number))
    if number == 3:
        memo.seal()
    print(number, flush=True)
    if number == 9:
        sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A node of its own for each test."""
    monkeypatch.setenv("VIDEOAUTEUR_CACHE", str(tmp_path / "node"))
    return tmp_path / "node"


def other_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDEOAUTEUR_CACHE", str(tmp_path / "other"))


def objects(bucket: str) -> list[str]:
    return [found.key for found in Store(bucket).list()]


def read(bucket: str, *keys: str) -> list[str | None]:
    memo = BucketMemo(bucket)
    try:
        return [memo.get(key) for key in keys]
    finally:
        memo.close()


def test_another_node_sees_what_is_sealed_and_only_that(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memo = BucketMemo(bucket)
    memo.put("a", '"é"')
    memo.seal()
    memo.seal()
    assert len(objects(bucket)) == 1, "nothing new is no object"
    memo.put("b", "2")
    assert read(bucket, "a", "b") == ['"é"', "2"], "a process of the same node sees all"
    other_node(monkeypatch, tmp_path)
    assert read(bucket, "a", "b") == ['"é"', None]
    memo.close()
    assert read(bucket, "a", "b") == ['"é"', "2"]


def test_records_of_another_node_are_found_after_a_while(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bucket_memo, "TAKE_S", 0.0)
    memo = BucketMemo(bucket)
    assert memo.get("a") is None
    other_node(monkeypatch, tmp_path)
    other = BucketMemo(bucket)
    other.put("a", "1")
    other.close()
    assert memo.get("a") == "1"
    memo.close()


def test_a_killed_writer_s_records_are_sealed_by_the_next_process_of_its_node(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, node: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, bucket], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as writer:  # fmt: skip
        assert writer.stdout is not None
        assert [next(writer.stdout).strip() for _ in range(10)][-1] == "9"
        assert len(objects(bucket)) == 1
        assert read(bucket, "key-9") == ["9"]
        assert len(objects(bucket)) == 1, "it is alive"
        writer.send_signal(signal.SIGKILL)
    (journal,) = node.rglob("*.seg")
    with journal.open("ab") as torn:
        torn.write(b"key-10 0000")
    read(bucket)
    read(bucket)
    assert len(objects(bucket)) == 2, "sealed once"
    other_node(monkeypatch, tmp_path)
    assert read(bucket, "key-0", "key-3", "key-4", "key-9", "key-10") == ["0", "3", "4", "9", None]


def test_many_pieces_become_few_while_others_read(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bucket_memo, "MOST_PIECES", 5)
    monkeypatch.setattr(bucket_memo, "LARGE_BYTES", 100)
    memo = BucketMemo(bucket)
    for number in range(12):
        memo.put(f"key-{number}", str(number) * 5)
        memo.seal()
    keys, values = [f"key-{n}" for n in range(12)], [str(n) * 5 for n in range(12)]
    assert len(objects(bucket)) == 12
    memo.compact()
    assert len(objects(bucket)) < 6 and all(name.startswith("all-") for name in objects(bucket))
    assert [memo.get(key) for key in keys] == values
    memo.put("later", "1")
    memo.close()
    other_node(monkeypatch, tmp_path)
    assert read(bucket, *keys, "later") == [*values, "1"]


def test_the_kind_of_place_decides(bucket: str, tmp_path: Path) -> None:
    for place, kind in ((bucket, BucketMemo), (tmp_path, GuardedMemo)):
        memo = open_memo(place)
        assert type(memo) is kind
        memo.close()
