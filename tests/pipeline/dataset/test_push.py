"""A pushed dataset is the current version, and a second push sends what changed."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.tables import synthetic
from models.errors import StoreError
from pipeline.cli.main import main
from pipeline.dataset.check import check_dataset
from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.push import Pushed, publish, push
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.dataset.stream import RowStream
from pipeline.dataset.versions import OTHERS, VERSIONS, VersionWriter
from pipeline.platform.storage import Store
from tests.support.buckets import bucket, s3_server

__all__ = ["bucket", "s3_server"]


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
    output, target = tmp_path / "out", tmp_path / "target"
    target.mkdir()
    write(output, 40)
    first = push(output, target.as_uri())
    assert first.there == first.removed == 0
    assert sorted(path.name for path in target.iterdir()) == sorted([*TABLES, *OTHERS, MANIFEST, VERSIONS])
    assert check_dataset(target).problems == []
    assert push(output, target.as_uri()) == Pushed(
        sent=len(OTHERS) + 1, there=first.sent - len(OTHERS) - 1, removed=0
    )
    write(output, 41)
    second = push(output, target.as_uri())
    assert 0 < second.removed < second.there
    assert check_dataset(target).problems == []
    assert pq.read_table(target / "clips").num_rows == 3 * 41


def test_a_push_that_died_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, target = tmp_path / "out", tmp_path / "target"
    target.mkdir()
    write(output, 4)
    push(output, target.as_uri())
    before = (target / MANIFEST).read_bytes()
    write(output, 9)

    import obstore

    real = obstore.put

    def broken(store: obstore.store.ObjectStore, path: str, data: object, **options: object) -> object:
        if path == MANIFEST:
            raise obstore.exceptions.GenericError("Connection reset\nlong answer")
        return real(store, path, data, **options)

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.platform.storage.FIRST_WAIT_S", 0.0)
        patched.setattr(obstore, "put", broken)
        assert main(["push", str(output), target.as_uri()]) == 1
    assert (target / MANIFEST).read_bytes() == before, "readers by the manifest see the old version"
    assert check_dataset(target).problems == []
    assert main(["push", str(output), target.as_uri()]) == 0
    assert check_dataset(target).problems == []


def test_without_a_dataset_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(tmp_path), tmp_path.as_uri()]) == 2
    assert "has no manifest.json" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_dataset_in_a_bucket_is_published_once_and_read_as_if_it_were_here(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOAUTEUR_CACHE", str(tmp_path / "node"))
    output, url = tmp_path / "out", f"{bucket}/data/set"
    write(output, 40)
    push(output, url)
    there = open_dataset(url)
    assert {name: there.table(name) for name in TABLES} == {
        name: open_dataset(output).table(name) for name in TABLES
    }
    rows = [row["clip_id"] for row in RowStream(url, "clips")]
    assert rows == [row["clip_id"] for row in RowStream(output, "clips")]
    assert main(["check", url]) == 0 and "120 clips" in capsys.readouterr().out
    assert there.manifest is not None
    Store(url).put(there.manifest.tables["clips"][0].path, b"other bytes")
    assert main(["check", url]) == 1 and "checksum: clips/part" in capsys.readouterr().out


def test_of_two_versions_published_at_once_the_first_stays(tmp_path: Path, bucket: str) -> None:
    output, store = tmp_path / "out", Store(bucket)
    write(output, 4)
    push(output, bucket)
    seen = store.head(MANIFEST)
    write(output, 5)
    push(output, bucket)
    write(output, 6)
    dataset = open_dataset(output)
    assert dataset.manifest is not None
    with pytest.raises(StoreError, match="another run published"):
        publish(store, dataset.folder, dataset.manifest, seen=seen)
    assert check_dataset(bucket).problems == []
    assert check_dataset(bucket).rows["videos"] == 5
