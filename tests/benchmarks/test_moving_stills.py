"""Clips made of photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.moving_stills import SECONDS, SIZE, darting, write_clips
from models.media import frames, open_media


def test_clips_of_photographs_are_of_one_length_and_keep_most_of_their_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stills = []
    for number in range(2):
        path = tmp_path / f"{number}.jpg"
        rough = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
        cv2.imwrite(str(path), cv2.resize(rough, (600, 400), interpolation=cv2.INTER_CUBIC))
        stills.append(path)
    (path,) = write_clips(tmp_path, stills, 1, rng)
    with open_media(path) as container:
        seen = list(frames(container))
    assert (seen[0].picture.width, seen[0].picture.height) == SIZE
    assert abs(seen[-1].time_s - SECONDS) < 0.1


def test_what_passes_rests_and_darts() -> None:
    course = darting(np.random.default_rng(1), 300, 25.0)
    steps = np.hypot(*np.diff(course, axis=0).T)
    assert course.shape == (300, 2)
    assert np.median(steps) < 0.02 and steps.max() > 0.1
