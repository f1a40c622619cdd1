"""A pushed dataset is the current version, and a second push sends what changed."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.tables import synthetic
from pipeline.cli.main import main
from pipeline.dataset.check import check_dataset
from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.push import Pushed, push
from pipeline.dataset.schema import TABLES
from pipeline.dataset.versions import OTHERS, VersionWriter


def write(output: Path, videos: int) -> None:
    with VersionWriter(
        output, scratch=output / "_work", input_root="file:///in/", max_shard=8000, max_row_group=2000
    ) as version:
        for number in range(videos):
            version.add(synthetic(number, 3))
        version.write()
        for name in OTHERS:
            (version.folder / name).write_text(f"{videos}")
        version.commit()


def test_a_second_push_sends_what_changed_and_removes_what_is_gone(tmp_path: Path) -> None:
    output, bucket = tmp_path / "out", tmp_path / "bucket"
    bucket.mkdir()
    write(output, 40)
    first = push(output, bucket.as_uri())
    assert first.there == first.removed == 0
    assert sorted(path.name for path in bucket.iterdir()) == sorted([*TABLES, *OTHERS, MANIFEST])
    assert check_dataset(bucket).problems == []
    assert push(output, bucket.as_uri()) == Pushed(
        sent=len(OTHERS) + 1, there=first.sent - len(OTHERS) - 1, removed=0
    )
    write(output, 41)
    second = push(output, bucket.as_uri())
    assert 0 < second.removed < second.there
    assert check_dataset(bucket).problems == []
    assert pq.read_table(bucket / "clips").num_rows == 3 * 41


def test_a_push_that_died_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, bucket = tmp_path / "out", tmp_path / "bucket"
    bucket.mkdir()
    write(output, 4)
    push(output, bucket.as_uri())
    before = (bucket / MANIFEST).read_bytes()
    write(output, 9)

    import obstore

    real = obstore.put

    def broken(store: obstore.store.ObjectStore, path: str, file: Path) -> object:
        if path == "README.md":
            raise obstore.exceptions.GenericError("Connection reset\nlong answer")
        return real(store, path, file)

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "put", broken)
        assert main(["push", str(output), bucket.as_uri()]) == 1
    assert (bucket / MANIFEST).read_bytes() == before, "readers by the manifest see the old version"
    assert main(["push", str(output), bucket.as_uri()]) == 0
    assert check_dataset(bucket).problems == []


def test_without_a_dataset_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(tmp_path), tmp_path.as_uri()]) == 1
    assert "has no manifest.json" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []  # noqa: PTH208
