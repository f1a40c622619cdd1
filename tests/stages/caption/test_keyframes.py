"""Frames of a clip that a model is shown: where things change, sharp, none twice, no part left out."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from stages.caption.keyframes import choose, covering, divided, pictured, spread
from stages.records import Evidence, Interval


def chosen(motion: list[float], count: int, **other: list[float]) -> list[int]:
    n = len(motion)
    looks = {"sharpness": [0.5] * n, "exposure": [0.5] * n} | other
    return covering(motion, looks["sharpness"], looks["exposure"], count)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (10, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]),
        (3, [3, 10, 16]),
        (1, [10]),
        (20, range(20)),
        (99, range(20)),
    ],
)
def test_frames_are_spread_evenly(count: int, expected: list[int]) -> None:
    assert spread([float(number) for number in range(20)], count) == list(expected)
    assert spread([], count) == []


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_where_everything_changes_alike_frames_lie_evenly(count: int) -> None:
    found = chosen([0.02] * 40, count)
    assert found == [int((number + 0.5) * 40 / count) for number in range(count)]


def test_more_frames_where_more_changes_and_none_of_the_rest_forgotten() -> None:
    """Thirty calm frames with some noise, then ten in which the pot boils over."""
    found = chosen([0.004] * 30 + [0.1] * 10, 8)
    calm, wild = [i for i in found if i < 30], [i for i in found if i >= 30]
    assert len(found) == 8 and len(wild) >= 4 and len(calm) >= 3
    # No calm frame is farther from a chosen one than half as many even ones would leave it.
    assert max(min(abs(frame - i) for i in found) for frame in range(30)) <= 30 / 4 / 2 + 1


def test_both_sides_of_every_cut_are_shown() -> None:
    motion = [0.01] * 40
    for cut in (4, 30, 34):
        motion[cut] = 0.4
    found = chosen(motion, 6)
    for start, end in itertools.pairwise([0, 4, 30, 34, 40]):
        assert any(start <= index < end for index in found)


def test_the_cut_before_a_clip_is_not_a_change_of_it() -> None:
    calm = [0.01] * 20
    assert chosen([0.9, *calm[1:]], 4) == chosen(calm, 4)


def test_frames_that_show_the_same_are_shown_once() -> None:
    """A title card, ten frames of hands at work, and a still end card."""
    motion = [0.3] + [0.0] * 14 + [0.3] + [0.05] * 9 + [0.3] + [0.00005] * 14
    found = chosen(motion, 30)
    parts = ((0, 15), (15, 25), (25, 40))
    assert [sum(start <= index < end for index in found) for start, end in parts] == [1, 10, 1]
    assert chosen([0.0] * 20, 5) == [0]


def test_a_slow_fade_is_not_the_same_picture() -> None:
    assert len(chosen([0.0004] * 40, 5)) == 5


def test_of_frames_near_each_other_the_sharpest_is_shown() -> None:
    sharp = [0.2] * 40
    for index in (4, 13, 26, 36):
        sharp[index] = 0.8
    assert chosen([0.02] * 40, 4, sharpness=sharp) == [4, 13, 26, 36]


def test_a_black_or_white_frame_is_shown_only_where_there_is_no_other() -> None:
    light = [0.5] * 40
    for index in (14, 15, 16):
        light[index] = 0.0
    light[25] = 1.0
    found = chosen([0.02] * 40, 4, exposure=light, sharpness=[0.3] * 14 + [0.9] * 3 + [0.3] * 23)
    assert not {14, 15, 16, 25} & set(found)
    assert len(chosen([0.02] * 8, 4, exposure=[0.0] * 8)) == 4


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_a_clip_of_few_frames_shows_them_all(n: int) -> None:
    assert chosen([0.02] * n, 3) == list(range(n))


def test_times_are_those_of_the_clip_in_order() -> None:
    generator = np.random.default_rng(5)
    times = [index / 2 for index in range(60)]
    evidence = Evidence(
        shots=[Interval(start_s=0.0, end_s=30.0)], frame_times_s=times,
        sharpness=generator.uniform(0, 1, 60).tolist(), exposure=generator.uniform(0, 1, 60).tolist(),
        motion=(0.002 + generator.exponential(0.02, 60)).tolist(), num_frames=60,
    )  # fmt: skip
    part = Interval(start_s=5.25, end_s=22.0)
    inside = [time_s for time_s in times if 5.25 <= time_s < 22.0]
    for count in range(1, 40):
        found = choose(evidence, part, count, "coverage")
        assert len(found) == min(count, len(inside)) and sorted(set(found)) == found
        assert set(found) <= set(inside)
    assert choose(evidence, part, 4, "even") == spread(inside, 4)


def test_stretches_are_the_best_of_all_divisions() -> None:
    """Against every other way to cut twelve places into four."""
    generator = np.random.default_rng(3)
    for _ in range(5):
        line = np.sort(generator.exponential(1.0, 12))
        weights = generator.integers(1, 5, 12).astype(float)

        def cost(edges: tuple[int, ...], line: np.ndarray = line, weights: np.ndarray = weights) -> float:
            return sum(
                float(np.sum(w * (x - np.average(x, weights=w)) ** 2))
                for a, b in itertools.pairwise(edges)
                for x, w in [(line[a:b], weights[a:b])]
            )

        best = min(cost((0, *cuts, 12)) for cuts in itertools.combinations(range(1, 12), 3))
        found = divided(line, weights, 4)
        assert found[0] == 0 and found[-1] == 12 and len(found) == 5
        assert cost(tuple(found)) == pytest.approx(best)


def jpeg(height: int, width: int) -> bytes:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 4] = (0, 0, 255)
    image[:, -(width // 4) :] = (255, 0, 0)
    return cv2.imencode(".jpg", image)[1].tobytes()


@pytest.mark.parametrize(
    ("size", "side_px", "shape", "edge"),
    [
        ((200, 400), 100, (100, 100), 0),
        ((400, 200), 100, (100, 100), 255),
        ((90, 360), 100, (90, 90), 0),
    ],
)
def test_a_square_is_cut_from_the_centre(
    size: tuple[int, int], side_px: int, shape: tuple[int, int], edge: int
) -> None:
    picture = cv2.imdecode(
        np.frombuffer(pictured(jpeg(*size), side_px, "square"), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture is not None and picture.shape == (*shape, 3)
    # Red is at the left edge of the whole; a wide picture loses it, a tall one does not.
    assert abs(int(picture[shape[0] // 2, 2, 2]) - edge) < 40


def test_a_frame_that_fits_is_sent_as_it_was_packed() -> None:
    wide, square = jpeg(90, 200), jpeg(90, 90)
    assert pictured(wide, 90, "whole") is wide
    assert pictured(square, 448, "square") is square
    small = cv2.imdecode(np.frombuffer(pictured(wide, 45, "whole"), np.uint8), cv2.IMREAD_COLOR)
    assert small is not None and small.shape == (45, 100, 3)
