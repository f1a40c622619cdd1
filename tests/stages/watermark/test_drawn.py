"""Places that look drawn, followed from picture to picture."""

from __future__ import annotations

import numpy as np
import pytest

from stages.records import Box
from stages.watermark.drawn import Cells, drawn_places, shared


def cells(*marks: tuple[int, int, int, int]) -> Cells:
    """A map of 10 x 20 cells that are certain where the marks (x, y, width, height) are."""
    found = np.full((10, 20), 0.01, np.float32)
    for x, y, width, height in marks:
        found[y : y + height, x : x + width] = 0.9
    return found


def test_a_mark_that_stays_is_one_place() -> None:
    (place,) = drawn_places([cells((2, 1, 3, 2))] * 3)
    assert place.box == pytest.approx((0.1, 0.1, 0.25, 0.3))
    assert place.cells == {0: 6, 1: 6, 2: 6}


def test_a_mark_that_drifts_is_one_place_with_a_box_for_each_picture() -> None:
    (place,) = drawn_places([cells((x, 4, 4, 2)) for x in range(0, 16, 2)])
    assert place.box == pytest.approx((0.0, 0.4, 0.9, 0.6))
    assert place.boxes[2] == pytest.approx((0.2, 0.4, 0.4, 0.6))


def test_a_mark_lies_where_it_is_in_most_pictures_and_nowhere_if_it_travels() -> None:
    (stays,) = drawn_places([cells((2, 1, 3, 2))] * 3)
    (drifts,) = drawn_places([cells((x, 4, 4, 2)) for x in range(0, 16, 2)])
    assert stays.lies_at((0.1, 0.1, 0.2, 0.2)) and not stays.lies_at((0.3, 0.1, 0.5, 0.2))
    assert not drifts.lies_at((0.2, 0.4, 0.3, 0.5))


def test_marks_apart_are_two_places_and_a_lone_cell_is_none() -> None:
    maps = [cells((1, 1, 3, 2), (14, 7, 4, 2), (10, 4, 1, 1)), cells((14, 7, 4, 2))]
    first, second = drawn_places(maps)
    assert (sorted(first.boxes), sorted(second.boxes)) == ([0, 1], [0])


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ((0, 0, 1, 1), (0.4, 0.4, 0.6, 0.6), 1),
        ((0, 0, 0.5, 1), (0.25, 0, 0.75, 1), 0.5),
        ((0, 0, 0.5, 1), (0.5, 0, 1, 1), 0),
    ],
)
def test_share_of_the_smaller_box(a: Box, b: Box, share: float) -> None:
    assert shared(a, b) == pytest.approx(share)
