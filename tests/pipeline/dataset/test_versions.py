"""All that a dataset consists of changes in one step, whenever a run is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.dataset import versions
from pipeline.dataset.manifest import MANIFEST, DatasetError, absolute_uri, relative_uri
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.dataset.tables import write_tables
from pipeline.dataset.versions import OTHERS, VersionWriter, recover


class Killed(BaseException):
    """Stands in for SIGKILL: no handler may touch it."""


def rows(generation: int) -> dict[str, list[dict[str, Any]]]:
    """One row in every table, which names the generation."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, schema in TABLES.items():
        row = dict.fromkeys(schema.names) | {"video_id": f"{generation:016x}"}
        found[name] = [row]
    return found


def write(output: Path, generation: int) -> None:
    with VersionWriter(
        output, scratch=output / "_work", input_root="file:///in/", max_shard=10**6, max_row_group=10**6
    ) as version:
        version.add(rows(generation))
        version.write()
        for name in OTHERS:
            (version.folder / name).write_text(f"{generation}")
        version.commit()


def seen(output: Path) -> set[int]:
    """The generations that a reader sees who goes by the names in OUTPUT."""
    found = {int((output / name).read_text()) for name in OTHERS if (output / name).exists()}
    for name in TABLES:
        ids = [pq.read_table(path)["video_id"].to_pylist() for path in (output / name).glob("*.parquet")]
        found |= {int(video_id, 16) for part in ids for video_id in part}
    return found


def names(output: Path) -> list[str]:
    return sorted(path.name for path in output.iterdir())


def test_a_version_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for generation in (1, 2, 3):
        write(tmp_path, generation)
        assert seen(tmp_path) == {generation}
        opened = open_dataset(tmp_path)
        assert opened.table("clips")["video_id"].to_pylist() == [f"{generation:016x}"]
        assert opened.uri("a/b.mp4") == "file:///in/a/b.mp4"
    assert names(tmp_path) == sorted(["_versions", "_work", MANIFEST, *OTHERS, *TABLES])
    assert len(names(tmp_path / "_versions")) == 2, "the version and the link to it"


def calls(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Count calls that change the file system, and act before each."""
    count = iter(range(10**6))

    def watched(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            act(next(count))
            return real(*args, **kwargs)

        return call

    for name in ("rename", "replace", "symlink_to", "unlink", "mkdir", "write_bytes"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    monkeypatch.setattr(shutil, "rmtree", watched(shutil.rmtree))
    monkeypatch.setattr(os, "fsync", watched(os.fsync))


def moments() -> Iterator[int]:
    yield from range(200)


@pytest.mark.parametrize("first", [True, False])
def test_a_kill_at_any_moment_leaves_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    outcomes = []
    for moment in moments():
        output = tmp_path / f"{moment}"
        if not first:
            write(output, 1)

        def kill(at: int, moment: int = moment) -> None:
            if at >= moment:  # Dead from then on: handlers change nothing.
                raise Killed

        with monkeypatch.context() as patched:
            calls(patched, kill)
            try:
                write(output, 2)
                finished = True
            except Killed:
                finished = False
        before = seen(output)
        assert len(before) <= 1, f"a mix after a kill at {moment}"
        if output.exists():
            recover(output)
        after = seen(output)
        assert after == before or after == {2}, "forward, or what was there"
        assert first or len(after) == 1
        if not first or after:
            assert names(output / "_versions") == sorted(
                ["current", (output / "_versions" / "current").readlink().name]
            )
        outcomes.append(after)
        write(output, 3)
        assert seen(output) == {3}
        if finished:
            break
    else:
        raise AssertionError("never finished")
    assert len(outcomes) > 20 and outcomes[0] == (set() if first else {1}) and outcomes[-1] == {2}


def test_readers_never_see_a_mix_while_versions_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    found: list[set[int]] = []
    calls(monkeypatch, lambda _: found.append(seen(tmp_path)))
    write(tmp_path, 2)
    assert [each for each in found if len(each) != 1] == []
    assert found[0] == {1} and found[-1] == {2}


def test_a_reader_of_the_old_version_gets_an_error_and_no_row_of_the_new(tmp_path: Path) -> None:
    write(tmp_path, 1)
    opened, listed = open_dataset(tmp_path), sorted((tmp_path / "clips").glob("*.parquet"))
    write(tmp_path, 2)
    with pytest.raises(DatasetError, match="cannot be read"):
        opened.table("clips")
    assert not any(path.exists() for path in listed)


def test_a_failing_disk_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(versions, "describe_file", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 2)
    assert sorted(tmp_path.rglob("*")) == before and seen(tmp_path) == {1}


def test_tables_of_an_earlier_release_become_a_version(tmp_path: Path) -> None:
    write_tables(tmp_path, [rows(1)], max_shard=10**6, max_row_group=10**6)
    for name in OTHERS:
        (tmp_path / name).write_text("1")
    assert open_dataset(tmp_path).table("videos").num_rows == 1
    recover(tmp_path)
    assert seen(tmp_path) == {1}
    assert all((tmp_path / name).is_symlink() for name in (*TABLES, *OTHERS))
    write(tmp_path, 2)
    assert seen(tmp_path) == {2}


@pytest.mark.parametrize("symlinks", [True, False])
def test_a_copied_dataset_is_read_and_goes_on(tmp_path: Path, symlinks: bool) -> None:
    write(tmp_path / "one", 1)
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=symlinks)
    shutil.rmtree(tmp_path / "one")
    assert seen(tmp_path / "two") == {1}
    assert open_dataset(tmp_path / "two").table("clips").num_rows == 1
    write(tmp_path / "two", 2)
    assert seen(tmp_path / "two") == {2}


def test_columns_of_an_earlier_schema_are_null_and_of_a_later_one_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (path,) = (tmp_path / "narratives").iterdir()
    old = pq.read_table(path).drop_columns(["integrity"])
    for version, fails in ((b"1", False), (b"99", True)):
        pq.write_table(old.replace_schema_metadata({b"schema_version": version}), path)
        if fails:
            with pytest.raises(DatasetError, match=r"schema version 99.*update videoauteur"):
                open_dataset(tmp_path).table("narratives")
        else:
            read = open_dataset(tmp_path).table("narratives")
            assert read.schema.equals(TABLES["narratives"]) and read["integrity"].null_count == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [(b"{}", "not a manifest"), (b"\xff", "not a manifest"), (b'{"format": 99}', "not a manifest")],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: bytes, why: str) -> None:
    (tmp_path / MANIFEST).write_bytes(text)
    with pytest.raises(DatasetError, match=why):
        open_dataset(tmp_path)


def test_a_manifest_does_not_lead_out_of_the_dataset(tmp_path: Path) -> None:
    write(tmp_path, 1)
    text = (tmp_path / MANIFEST).read_text().replace("clips/part", "../../clips/part")
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DatasetError, match="outside the dataset"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("uri", "root", "relative"),
    [
        ("file:///in/a%20b.mp4", "file:///in/", "a%20b.mp4"),
        ("s3://bucket/in/x/a.mp4", "s3://bucket/in/", "x/a.mp4"),
        ("file:///other/a.mp4", "file:///in/", "file:///other/a.mp4"),
        ("file:///in/a.mp4", "", "file:///in/a.mp4"),
        ("file:///in/", "file:///in/", "file:///in/"),
    ],
)
def test_uris_are_relative_to_the_root(uri: str, root: str, relative: str) -> None:
    assert relative_uri(uri, root) == relative
    assert absolute_uri(relative, root) == uri
