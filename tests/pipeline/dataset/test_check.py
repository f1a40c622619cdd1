"""A sound dataset passes; each kind of damage is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.tables import synthetic
from pipeline.cli.main import main
from pipeline.dataset.check import check_dataset
from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.dataset.versions import OTHERS, VersionWriter


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Eight videos of three clips in several shards."""
    with VersionWriter(
        tmp_path, scratch=tmp_path / "_work", input_root="file:///in/", max_shard=8000, max_row_group=2000
    ) as version:
        for number in range(8):
            version.add(synthetic(number, 3))
        version.write()
        for name in OTHERS:
            (version.folder / name).write_text(name)
        version.commit()
    return tmp_path


def change(output: Path, table: str, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Edit the rows of the first shard of a table; without a manifest, whose checksums would tell."""
    path = open_dataset(output).files(table)[0]
    rows = pq.read_table(path).to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES[table]), path)
    (path.parents[1] / MANIFEST).unlink()


def test_a_sound_dataset_passes(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_dataset(output)
    assert report.problems == []
    assert report.rows == {"videos": 8, "narratives": 8} | dict.fromkeys(
        ("clips", "actions", "matches", "rejects"), 24
    )
    assert main(["check", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "24 clips" in printed and printed.endswith("; sound\n")


def test_without_a_manifest_the_verdict_says_that_no_checksum_was_verified(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(output, "clips", lambda rows: None)
    assert main(["check", str(output)]) == 0
    assert "; sound; no manifest.json in it, so no checksum was verified" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "edit", "problem"),
    [
        ("clips", lambda rows: rows.pop(), "reference: matches: clip "),
        ("actions", lambda rows: rows.pop(), "reference: matches: action "),
        ("matches", lambda rows: rows.pop(), "contradicts matches"),
        ("clips", lambda rows: rows.insert(1, rows[0]), "key: clips.clip_id "),
        ("clips", lambda rows: rows[0].update(end_s=-1.0), "interval: clips "),
        ("clips", lambda rows: rows.reverse(), "order: clips: video "),
        ("rejects", lambda rows: rows.insert(1, rows[0]), "2 times in rejects"),
        ("videos", lambda rows: rows[0].update(status="failed"), "is failed, and not in rejects"),
        ("videos", lambda rows: rows[0].update(num_clips=7), "has 7 clips, there are 3"),
        ("narratives", lambda rows: rows.pop(), "is kept, and has no narrative"),
        ("videos", lambda rows: rows.pop(), "is not in videos"),
    ],
)
def test_damage_is_found(
    output: Path, table: str, edit: Callable[[list[dict[str, Any]]], Any], problem: str
) -> None:
    change(output, table, edit)
    assert any(problem in found for found in check_dataset(output).problems)


def test_changed_and_missing_files_are_found(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (output / "README.md").write_text("changed")
    open_dataset(output).files("clips")[0].unlink()
    assert main(["check", str(output)]) == 1
    out = capsys.readouterr().out
    assert "checksum: README.md" in out and "file: clips/part-" in out and "damaged" in out


def test_what_is_no_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert "no table" in capsys.readouterr().err
