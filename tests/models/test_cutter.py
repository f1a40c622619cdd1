"""Clips hold the frames and the sound of their span, copied or encoded."""

from __future__ import annotations

import random
from pathlib import Path

import av
import pytest

from benchmarks.cuts import check, decode, random_span
from examples.media import Truth
from models.errors import MediaError
from models.media import frames, open_media
from models.media.cutter import CutSettings, cut


def test_random_spans_begin_and_end_with_the_right_frame_and_sound(narrated: tuple[Path, Truth]) -> None:
    source = decode(narrated[0])
    chance = random.Random(5)
    spans = [random_span(source, chance, at_keys=number % 3 == 0) for number in range(9)]
    checks = [check(source, *span) for span in spans]
    assert [one for one in checks if not one.right] == []
    assert {"copied", "encoded"} <= {one.means for one in checks}


def test_only_the_edges_of_a_span_are_encoded(narrated: tuple[Path, Truth]) -> None:
    source = decode(narrated[0])
    assert source.keys_s[0] < 1.5 < source.keys_s[1] < source.keys_s[2] < 16.5
    found = check(source, 1.5, 16.5)
    assert found.means == "spliced"
    assert found.right


def test_size_and_rate_are_as_asked(narrated: tuple[Path, Truth], tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    assert cut(narrated[0], target, 2.0, 5.0, CutSettings(height_px=120, fps=10.0)) == "encoded"
    with open_media(target) as container:
        shown = list(frames(container))
    assert [frame.time_s for frame in shown] == pytest.approx(
        [number / 10 for number in range(30)], abs=1e-3
    )
    assert {(frame.picture.width, frame.picture.height) for frame in shown} == {(160, 120)}


def test_a_video_without_sound_gives_a_clip_without(wordless: tuple[Path, Truth], tmp_path: Path) -> None:
    cut(wordless[0], tmp_path / "clip.mp4", 1.0, 3.0, CutSettings())
    with av.open(tmp_path / "clip.mp4") as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_span_without_pictures_leaves_no_file(wordless: tuple[Path, Truth], tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no pictures from 40\.000 s"):
        cut(wordless[0], tmp_path / "clip.mp4", 40.0, 45.0, CutSettings())
    assert list(tmp_path.iterdir()) == []
