"""Leaving out pictures that no other refers to changes no result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import MediaError
from models.language import Endpoint
from models.media import open_media
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Workspace
from stages.records import Evidence, Facts, Video
from stages.scan.stage import Scan, ScanSettings

DATA = os.environ.get("VIDEOAUTEUR_DATA")
SUFFIXES = {".mp4", ".mkv", ".ts", ".avi", ".webm"}


def footage() -> Iterator[Path]:
    """All videos of the footage, of clips those of one recipe."""
    for path in sorted(Path(DATA).rglob("*")) if DATA else ():
        if path.suffix in SUFFIXES:
            yield path


def scanned(path: Path, scratch: Path, decode: str) -> tuple[Evidence | str, bytes]:
    """Evidence, or why there is none, and the packed frames."""
    scan = Scan(ScanSettings.model_validate({"decode": decode}))
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    answers = Memo(scratch / "memo")
    workspace = Workspace(scratch=scratch / decode, answers=answers, language=nowhere, vision=None)
    scan.open(workspace)
    with open_media(path) as container:
        stream = container.streams.video[0]
        facts = Facts(
            container=container.format.name, video_codec=stream.codec.name, audio_codec=None, title="",
            duration_s=1.0, width_px=stream.width, height_px=stream.height, rotation_deg=0,
            fps=float(stream.average_rate or 25),
        )  # fmt: skip
    video = Video(uri=path.as_uri(), video_id="a" * 16, content_id="a" * 64, facts=facts)
    try:
        result = scan.measure(video)
    except (BadInputError, MediaError) as error:
        return str(error), b""
    assert result.evidence is not None
    return result.evidence, workspace.frames_path(video).read_bytes()


@pytest.mark.skipif(DATA is None, reason="VIDEOAUTEUR_DATA names no footage")
@pytest.mark.parametrize("path", list(footage()), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_boundaries_and_packed_frames_are_those_of_the_full_decode(path: Path, tmp_path: Path) -> None:
    assert scanned(path, tmp_path, "needed") == scanned(path, tmp_path, "all")
