"""The scratch folder stays small while a run is at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples.media import Truth
from pipeline.curation import job
from pipeline.curation.config import Config
from pipeline.curation.job import curate
from pipeline.platform.config import load
from pipeline.report import page

SETTINGS = ("run.runner=local", "transcribe.require_speech=false", "match.required=false")


@pytest.mark.parametrize(("waiting", "frames"), [(50, 1), (0, 0)])
def test_packed_frames_go_as_videos_end_and_the_report_has_its_pictures(
    tmp_path: Path,
    wordless: tuple[Path, Truth],
    monkeypatch: pytest.MonkeyPatch,
    waiting: int,
    frames: int,
) -> None:
    seen: list[int] = []
    written = page.write_report

    def write_report(output: Path, *given: Any, **options: Any) -> Path:
        seen.append(len(list((tmp_path / "out").rglob("_work/frames/*/*.zip"))))
        return written(output, *given, **options)

    monkeypatch.setattr(page, "write_report", write_report)
    monkeypatch.setattr(job, "FRAMES_FOR_REPORT", waiting)
    curate(str(wordless[0]), tmp_path / "out", load(None, SETTINGS, Config), memo=None)
    assert seen == [frames]
    assert 'src="data:image/jpeg;base64,' in (tmp_path / "out" / "report.html").read_text()
    assert not list(tmp_path.rglob("*.zip"))
