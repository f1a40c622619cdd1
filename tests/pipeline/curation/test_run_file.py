"""Digest of a version: everything that decides about its content, and nothing else."""

from __future__ import annotations

from pathlib import Path

from pipeline.curation.config import Config
from pipeline.curation.ingest import list_files, survey
from pipeline.curation.run_file import made_from
from pipeline.platform.config import load

MEMO = Path("memo")


def digest(folder: Path, *settings: str, memo: Path | None = MEMO, root: str = "file:///in/") -> str:
    return made_from(survey(list_files(str(folder))), root, load(None, settings, Config).config, memo)


def test_all_that_decides_about_the_tables_is_in_it_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("a")
    first = digest(tmp_path)
    assert digest(tmp_path) == first
    assert digest(tmp_path, "run.runner=local", "run.video_deadline_s=5") == first
    others = [
        digest(tmp_path, "narrate.min_steps=4"),
        digest(tmp_path, "run.max_shard_bytes=5000"),
        digest(tmp_path, memo=Path("other")),
        digest(tmp_path, root="file:///"),
    ]
    (tmp_path / "b.mp4").write_text("b")
    others.append(digest(tmp_path))
    (tmp_path / "b.mp4").write_text("c")
    others.append(digest(tmp_path))
    assert len({first, *others}) == 7


def test_a_file_beside_a_video_counts_where_it_is_read(tmp_path: Path) -> None:
    video, prefer = tmp_path / "a.mp4", "transcribe.subtitles=prefer"
    video.write_text("a")
    before, reading = digest(video), digest(video, prefer)
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nStir.\n")
    assert digest(video) == before
    assert digest(video, prefer) != reading
