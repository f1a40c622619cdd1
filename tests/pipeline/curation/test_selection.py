"""Parts of INPUT: shards that are disjoint and complete, samples that grow slowly, and an exact merge."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engine import nothing_measured
from benchmarks.free_stages import FreeSite, write_files
from pipeline.curation import engine
from pipeline.curation.config import Config
from pipeline.curation.ingest import InputError, Source
from pipeline.curation.job import curate
from pipeline.curation.selection import EVERYTHING, Selection
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.platform.config import load

ROOT = "file:///in/"
SOURCES = [Source(uri=f"{ROOT}{number:03}.mp4") for number in range(100)]


def test_shards_are_disjoint_and_complete() -> None:
    parts = [Selection(shard=(number, 3)).of(SOURCES, ROOT) for number in (1, 2, 3)]
    assert sorted(one.uri for part in parts for one in part) == [one.uri for one in SOURCES]
    assert all(len(part) > 20 for part in parts)


def test_a_moved_input_has_the_same_parts() -> None:
    moved = [Source(uri=one.uri.replace("/in/", "/there/")) for one in SOURCES]
    part = Selection(shard=(1, 3), sample=10)
    names = [one.uri.rpartition("/")[2] for one in part.of(SOURCES, ROOT)]
    assert names == [one.uri.rpartition("/")[2] for one in part.of(moved, "file:///there/")]


def test_a_sample_of_a_grown_input_changes_little() -> None:
    before = {one.uri for one in Selection(sample=20).of(SOURCES[:90], ROOT)}
    after = {one.uri for one in Selection(sample=20).of(SOURCES, ROOT)}
    assert len(before) == len(after) == 20 and len(before & after) >= 15


def test_a_limit_takes_the_first_by_name() -> None:
    assert Selection(limit=2).of(SOURCES, ROOT) == SOURCES[:2]
    with pytest.raises(InputError, match="no file of it is in this part"):
        Selection(shard=(1, 2), limit=1).of([], ROOT)


def test_what_is_written_of_a_selection_is_read_again() -> None:
    for part in (EVERYTHING, Selection(shard=(2, 3), sample=4, limit=1)):
        assert Selection.of_facts(part.facts()) == part


def test_shards_with_one_memo_merge_to_the_bytes_of_a_single_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Site", FreeSite)
    write_files(tmp_path / "in", 8, "merge")
    (tmp_path / "in" / "copy.mp4").write_bytes((tmp_path / "in" / "0000" / "0000003.mp4").read_bytes())
    loaded = load(None, ["run.runner=local"], Config)

    def run(name: str, memo: str, selection: Selection = EVERYTHING) -> dict[str, str]:
        curate(str(tmp_path / "in"), tmp_path / name, loaded, memo=tmp_path / memo, selection=selection)
        manifest = open_dataset(tmp_path / name).manifest
        assert manifest is not None and set(manifest.tables) == set(TABLES)
        return {file.path: file.sha256 for files in manifest.tables.values() for file in files}

    single = run("single", "memo")
    parts = [run(f"part{number}", "shared", Selection(shard=(number, 2))) for number in (1, 2)]
    assert all(part != single for part in parts)
    assert run("merged", "shared") == single
    nothing_measured(tmp_path / "merged")
