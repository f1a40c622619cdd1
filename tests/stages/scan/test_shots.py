"""Cuts, dissolves and fades on drawn thumbnails: what is found, and what is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame

from stages.records import Interval
from stages.scan import shots
from stages.scan.cuts import CutFinder
from stages.scan.gradual import GradualFinder, peaks
from stages.scan.shots import ShotSettings, log_odds, spaced
from stages.scan.thumbnails import (
    HEIGHT,
    WIDTH,
    Pixels,
    Thumbnail,
    ThumbnailMaker,
    active_area,
    difference,
    least_changes,
)

Look = Callable[[float], Pixels]
FPS = 25


def scene(seed: int, speed: float = 4.0) -> Look:
    """Coarse coloured texture that moves, ``speed`` pixels a second."""
    rng = np.random.default_rng(seed)
    base, tint = rng.integers(60, 180), rng.integers(70, 190, 2)
    luma = cv2.resize(rng.normal(base, 45, (12, 96)).astype(np.float32), (480, HEIGHT))

    def look(time_s: float) -> Pixels:
        left = 100 + round(speed * time_s)
        colours = np.broadcast_to(np.repeat(tint, WIDTH // 2), (HEIGHT, WIDTH))
        return np.vstack([luma[:, left : left + WIDTH], colours]).clip(16, 235).astype(np.uint8)

    return look


def black(_: float) -> Pixels:
    return np.vstack([np.full((HEIGHT, WIDTH), 16), np.full((HEIGHT, WIDTH), 128)]).astype(np.uint8)


def mixed(a: Pixels, b: Pixels, share: float) -> Pixels:
    return np.asarray(cv2.addWeighted(a, 1 - share, b, share, 0), np.uint8)


def joined(a: Look, b: Look, start_s: float, length_s: float = 0.0) -> Look:
    """One look after the other, dissolving from ``start_s``; a cut without a length."""

    def look(time_s: float) -> Pixels:
        share = np.clip((time_s - start_s) / length_s, 0, 1) if length_s else float(time_s >= start_s)
        return mixed(a(time_s), b(time_s), float(share))

    return look


def found(look: Look, times_s: Sequence[float]) -> tuple[list[float], list[Interval]]:
    """Cuts at even odds and gradual transitions."""
    cuts, gradual = CutFinder(), GradualFinder()
    for time_s in times_s:
        thumbnail = Thumbnail(time_s=time_s, pixels=look(time_s))
        cuts.add(thumbnail)
        gradual.add(thumbnail)
    return [time_s for time_s, odds in cuts.finish() if odds > 0], gradual.finish()


def steady(seconds: float = 6.0, fps: float = FPS) -> list[float]:
    return [index / fps for index in range(round(seconds * fps))]


def barred(look: Look) -> Look:
    """The middle third between black bars."""

    def bars(time_s: float) -> Pixels:
        pixels = look(time_s).copy()
        outside = np.ones((2 * HEIGHT, WIDTH), bool)
        outside[:HEIGHT, 21:43] = outside[HEIGHT:, 11:21] = outside[HEIGHT:, 43:53] = False
        return np.where(outside, black(0), pixels).astype(np.uint8)

    return bars


@pytest.mark.parametrize("fps", [12, 25, 60])
@pytest.mark.parametrize("bars", [False, True])
def test_a_cut_is_found_at_any_rate_and_between_bars(fps: int, bars: bool) -> None:
    look = joined(scene(1), scene(2), 3.0)
    cuts, gradual = found(barred(look) if bars else look, steady(fps=fps))
    assert cuts == [3.0]
    assert gradual == []


def test_uneven_distances_of_pictures_neither_make_nor_hide_cuts() -> None:
    # Distances of one and four twenty-fourths of a second in turn.
    times_s = [(5 * (index // 2) + (index % 2)) / 24 for index in range(58)]
    cuts, _ = found(joined(scene(3, speed=40), scene(4, speed=40), 3.0), times_s)
    # Pictures were lost around the cut: it lies halfway between the two that are left.
    before, after = max(t for t in times_s if t < 3.0), min(t for t in times_s if t >= 3.0)
    assert cuts == [pytest.approx((before + after) / 2)]


def test_a_picture_that_stays_for_a_second_is_not_lost() -> None:
    times_s = [time_s for time_s in steady() if not 2.0 < time_s < 3.0]
    assert found(joined(scene(16), scene(17), 3.0), times_s)[0] == [3.0]


def test_repeated_pictures_do_not_make_motion_a_cut() -> None:
    # 12 pictures a second, shown at 60.
    look = scene(5, speed=30)
    assert found(lambda time_s: look(int(time_s * 12 + 1e-6) / 12), steady(fps=60)) == ([], [])


def test_a_flash_is_no_cut() -> None:
    look = scene(6)

    def flash(time_s: float) -> Pixels:
        white = np.full((2 * HEIGHT, WIDTH), 235, np.uint8)
        return mixed(look(time_s), white, 0.8) if 3.0 <= time_s < 3.1 else look(time_s)

    assert found(flash, steady())[0] == []


def test_a_cut_between_two_fields_is_found_once_and_is_no_dissolve() -> None:
    before, after = scene(7), scene(8)

    def woven(time_s: float) -> Pixels:
        return (
            mixed(before(time_s), after(time_s), 0.5)
            if abs(time_s - 3) < 1e-6
            else joined(before, after, 3)(time_s)
        )

    cuts, _ = found(woven, steady())
    assert spaced([(time_s, 0.0) for time_s in cuts], 0.5) == [(3.0, 0.0)]


@pytest.mark.parametrize("length_s", [0.5, 1.0])
@pytest.mark.parametrize("to_black", [False, True], ids=["dissolve", "fade"])
def test_gradual_transitions_are_found_where_they_are(length_s: float, to_black: bool) -> None:
    first, last = scene(9, speed=0), scene(10, speed=0)
    if to_black:
        look = joined(joined(first, black, 3.0, length_s / 2), last, 3.0 + length_s / 2, length_s / 2)
    else:
        look = joined(first, last, 3.0, length_s)
    cuts, gradual = found(look, steady())
    assert cuts == []
    assert len(gradual) == 1
    assert gradual[0].start_s == pytest.approx(3.0, abs=0.25)
    assert gradual[0].end_s == pytest.approx(3.0 + length_s, abs=0.25)


def test_motion_alone_is_no_transition() -> None:
    assert found(scene(11, speed=25), steady()) == ([], [])


def test_black_in_both_pictures_does_not_dilute_a_change() -> None:
    looks = scene(12), scene(13)
    plain, bars = ([Thumbnail(0.0, change(look)(0)) for look in looks] for change in (lambda x: x, barred))
    assert difference(*bars) > 0.6 * difference(*plain)


@pytest.mark.parametrize("bars", [False, True])
def test_blocks_that_were_seen_in_any_of_several_pictures_have_not_changed(bars: bool) -> None:
    shown = barred if bars else (lambda look: look)
    behind, hand = (shown(scene(seed))(0) for seed in (1, 2))
    # The hand covers one half of the picture, then the other one.
    left, right = behind.copy(), behind.copy()
    left[:HEIGHT, : WIDTH // 2] = hand[:HEIGHT, : WIDTH // 2]
    right[:HEIGHT, WIDTH // 2 :] = hand[:HEIGHT, WIDTH // 2 :]
    after, *before = (Thumbnail(time_s=0, pixels=pixels) for pixels in (behind, left, right))
    area = active_area(after, Thumbnail(time_s=0, pixels=hand))
    assert least_changes(after, before, area).max() == 0
    assert np.median(least_changes(after, before[:1], area)) > 0
    assert least_changes(after, [Thumbnail(time_s=0, pixels=hand)], area).mean() > 20


@pytest.mark.parametrize("bars", [False, True])
def test_a_hand_that_fills_the_picture_for_a_moment_is_no_cut(bars: bool) -> None:
    behind, hand = scene(1, speed=0), scene(2, speed=20)

    def passes(time_s: float) -> Pixels:
        # It enters from the left within 0.3 s, and is gone from one picture to the next.
        covered = round(WIDTH * np.clip((time_s - 2.66) / 0.3, 0, 1)) if time_s < 3.14 else 0
        pixels = behind(time_s)
        for start, width in ((0, covered // 2), (WIDTH // 2, covered // 2)):
            pixels[HEIGHT:, start : start + width] = hand(time_s)[HEIGHT:, start : start + width]
        pixels[:HEIGHT, :covered] = hand(time_s)[:HEIGHT, :covered]
        return pixels

    assert found(barred(passes) if bars else passes, steady())[0] == []


def test_a_last_picture_of_another_scene_is_no_shot() -> None:
    times_s = steady()
    assert found(joined(scene(14), scene(15), times_s[-1]), times_s) == ([], [])
    # Shown three times by a film at a higher rate, neither.
    for count in (1, 2):
        again = [*times_s, *(times_s[-1] + n / 60 for n in range(1, count + 1))]
        assert found(joined(scene(14), scene(15, speed=0), times_s[-1]), again) == ([], [])
    # A last picture that stays is one.
    assert found(joined(scene(14), scene(15, speed=0), times_s[-20]), times_s) == ([times_s[-20]], [])


@pytest.mark.parametrize(("width", "height"), [(64, 48), (162, 98), (640, 360)])
def test_pictures_of_a_graphics_card_have_the_same_thumbnails(width: int, height: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height * 3 // 2, width), np.uint8)
    planar = VideoFrame.from_ndarray(pixels, format="yuv420p")
    interleaved = planar.reformat(format="nv12")
    one, other = (ThumbnailMaker()(0.0, picture) for picture in (planar, interleaved))
    assert np.array_equal(one.pixels, other.pixels)


def test_of_cuts_closer_than_the_shortest_shot_the_likelier_counts() -> None:
    cuts = [(1.0, 1.5), (1.04, 5.2), (2.0, 3.0), (2.04, 1.0), (2.5, 0.5)]
    assert shots.joined(cuts, [], ShotSettings()).cuts_s == [1.04, 2.0, 2.5]
    # Each is likelier than the one before it: the first does not go with the second, which goes.
    assert shots.joined([(1.0, 0.5), (1.4, 1.5), (1.8, 2.5)], [], ShotSettings()).cuts_s == [1.0, 1.8]
    # Of two clear ones the first counts.
    assert shots.joined([(1.0, 5.0), (1.3, 7.0), (1.6, 6.0)], [], ShotSettings()).cuts_s == [1.0, 1.6]
    assert shots.joined(cuts, [], ShotSettings(min_shot_s=0)).cuts_s == [1.04, 2.0, 2.5]


def test_log_odds() -> None:
    assert log_odds(0.5) == 0 and log_odds(0) == -np.inf and log_odds(1) == np.inf


def test_a_peak_of_votes_at_a_single_sample_is_no_transition() -> None:
    votes = np.zeros(12)
    votes[[2, 6, 7, 8]] = 3.5, 3.2, 4.0, 3.1
    assert peaks(votes) == [(6, 8)]
