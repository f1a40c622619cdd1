"""Boxes of drawings, to the pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.records import Box
from stages.watermark.extent import Gray, lasting, snapped

WIDTH, HEIGHT = 200, 100
TEXT: Box = (0.2, 0.4, 0.7, 0.5)


def lettered() -> Gray:
    """A soft scene with strokes that fill ``TEXT``."""
    rough = np.random.default_rng(0).integers(60, 120, (5, 10)).astype(np.uint8)
    gray = cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for x in range(40, 140, 4):
        gray[40:50, x : x + 2] = 240
    return np.asarray(gray, np.uint8)


@pytest.mark.parametrize(
    "rough", [TEXT, (0.2, 0.32, 0.72, 0.56), (0.18, 0.34, 0.73, 0.5), (0.22, 0.42, 0.68, 0.48)]
)
def test_sides_move_to_where_strokes_begin(rough: Box) -> None:
    assert snapped(rough, lettered()) == pytest.approx(TEXT, abs=0.011)


def test_sides_stay_where_nothing_begins() -> None:
    rough = (0.2, 0.32, 0.72, 0.56)
    assert snapped(rough, np.full((HEIGHT, WIDTH), 90, np.uint8)) == pytest.approx(rough, abs=0.005)


def test_a_box_at_the_rim_of_the_picture_stays_in_it() -> None:
    gray = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
    for rough in [(0.0, 0.0, 0.1, 0.1), (0.9, 0.9, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)]:
        x0, y0, x1, y1 = snapped(rough, gray)
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1


def test_a_wrong_box_does_not_count_for_a_drawing_that_stays() -> None:
    assert lasting([TEXT, TEXT, TEXT, (0.1, 0.2, 0.9, 0.9)]) == TEXT


def test_a_drawing_that_moves_has_a_box_around_all_of_its_places() -> None:
    boxes = [(0.1 * n, 0.4, 0.1 * n + 0.2, 0.5) for n in range(6)]
    assert lasting(boxes) == pytest.approx((0.0, 0.4, 0.7, 0.5))
