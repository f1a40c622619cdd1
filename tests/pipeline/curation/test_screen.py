"""Files that do not begin like a video are rejected as in a pool, and no cluster starts for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.curation.config import Config
from pipeline.curation.engine import Engine
from pipeline.curation.ingest import identify, list_files, survey
from pipeline.curation.job import curate
from pipeline.curation.runners import Site
from pipeline.curation.screen import screened
from pipeline.curation.worker import StageEvent
from pipeline.dataset.reading import open_dataset
from pipeline.platform.config import load
from pipeline.platform.memo import Memo

CONTENTS = {
    "list.mp4": b"a list\n",
    "page.html": b"<html></html>",
    "none.mp4": b"",
    "thumb.jpg": b"\xff\xd8\xff\xe0JFIF",
}


def given(folder: Path) -> Path:
    for name, content in CONTENTS.items():
        (folder / "in").mkdir(exist_ok=True)
        (folder / "in" / name).write_bytes(content)
    return folder / "in"


def test_no_cluster_starts_for_files_that_are_no_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = given(tmp_path)
    for runner in ("local", "ray"):
        if runner == "ray":
            monkeypatch.delattr(Engine, "_start_runner")
        curate(str(files), tmp_path / runner, load(None, [f"run.runner={runner}"], Config), memo=None)
    tables = [open_dataset(tmp_path / runner).manifest for runner in ("local", "ray")]
    assert tables[0] and tables[1] and tables[0].tables == tables[1].tables
    rejects = open_dataset(tmp_path / "ray").table("rejects").to_pylist()
    assert {row["uri"]: row["reason"] for row in rejects} == {
        "list.mp4": "not_a_video", "page.html": "not_a_video", "none.mp4": "empty_file",
        "thumb.jpg": "not_a_video",
    }  # fmt: skip


def test_what_begins_like_a_video_is_left_to_a_worker(tmp_path: Path) -> None:
    files = given(tmp_path)
    (files / "damaged.mp4").write_bytes(b"\0\0\0\x18ftypisom and no more")
    memo = Memo(tmp_path / "found")
    videos = [source.video() for source in identify(survey(list_files(str(files))), memo)]
    site = Site(
        config=Config(), scratch=tmp_path / "work", memo=tmp_path / "memo", language=None, vision=None,
        only=("probe",),
    )  # fmt: skip
    events: list[StageEvent] = []
    found = {Path(video.uri).name: video.rejected for video in screened(videos, site, events.append)}
    assert found.keys() == CONTENTS.keys()
    assert [(event.stage, event.outcome) for event in events] == [("probe", "rejected")] * len(CONTENTS)
