"""Clips of a dataset as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.media import Truth
from models.media import frames, open_media
from pipeline.cli.main import main
from pipeline.curation import job
from pipeline.curation.job import Outcome
from pipeline.dataset.schema import TABLES
from pipeline.dataset.tables import write_tables
from pipeline.report import text


def test_clips_are_copied_spliced_or_there(
    narrated: tuple[Path, Truth], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def clip(name: str, start_s: float, end_s: float) -> dict[str, object]:
        row = dict.fromkeys(TABLES["clips"].names) | {"clip_id": name, "video_uri": narrated[0].as_uri()}
        return row | {"start_s": start_s, "end_s": end_s, "video_id": "0" * 16}

    clips = [clip("whole", 6.0, 12.0), clip("part", 1.5, 16.5), clip("late", 40.0, 45.0)]
    write_tables(tmp_path, [{"clips": clips[:2]}], max_shard=10**9, max_row_group=10**6)
    assert main(["export", "media", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/media: 1 spliced, 1 copied\n"
    write_tables(tmp_path, [{"clips": clips}], max_shard=10**9, max_row_group=10**6)
    assert main(["export", "media", str(tmp_path)]) == 1
    assert "2 there, 1 no pictures from 40.000 s" in capsys.readouterr().out


def test_a_folder_without_a_dataset_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "media", str(tmp_path / "mistyped")]) == 2
    assert "mistyped: no table clips in it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_end_with_the_clips_as_files(
    narrated: tuple[Path, Truth],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def curated(given: str, output: Path, *_: object, **__: object) -> Outcome:
        row = dict.fromkeys(TABLES["clips"].names) | {"clip_id": "a", "video_id": "0" * 16}
        row |= {"video_uri": Path(given).as_uri(), "start_s": 6.0, "end_s": 12.0}
        write_tables(output, [{"clips": [row]}], max_shard=10**9, max_row_group=10**6)
        return Outcome(summary={})

    monkeypatch.setattr(job, "curate", curated)
    monkeypatch.setattr(text, "as_text", lambda *_: "done")
    command = ["curate", str(narrated[0]), str(tmp_path)]
    assert main(command) == 0
    assert not (tmp_path / "media").exists()
    assert main([*command, "--set", "media.write=true", "--set", "media.height_px=96"]) == 0
    assert capsys.readouterr().out == f"done\ndone\n{tmp_path}/media: 1 encoded\n"
    with open_media(tmp_path / "media" / "a.mp4") as container:
        assert next(iter(frames(container))).picture.height == 96
