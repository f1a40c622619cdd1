"""Shake is measured in percent of the long side; pans, objects and still pictures have none."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from stages.records import Shake
from stages.scan.shake import EVERY_S, LASTS_S, ShakeMeter, ShakeScaler
from stages.scan.stage import Scan

Picture = NDArray[np.uint8]
WIDTH, HEIGHT = 640, 360
HERTZ, AMPLITUDE_PX = 6.0, 4.0
PERCENT = 100 * AMPLITUDE_PX / 2**0.5 / WIDTH


def scene(seed: int, width: int = WIDTH + 400, height: int = HEIGHT + 100) -> Picture:
    """Blurred noise of several sizes, larger than the picture that is cut out of it."""
    generator = np.random.default_rng(seed)
    layers = [
        cv2.resize(generator.normal(0, 30, (height // size, width // size)), (width, height))
        for size in (4, 16, 64)
    ]
    return np.asarray(np.clip(128 + sum(layers), 30, 255), np.uint8)


def cut_out(image: Picture, x: float, y: float) -> Picture:
    centre = (image.shape[1] / 2 + x, image.shape[0] / 2 + y)
    return np.asarray(cv2.getRectSubPix(image, (WIDTH, HEIGHT), centre), np.uint8)


def measured(picture: Callable[[float], Picture], fps: float = 25.0, seconds: float = 3.0) -> list[Shake]:
    """Return the bursts of a film whose pictures are given by their time."""
    meter, scale = ShakeMeter(), ShakeScaler()
    for number in range(round(seconds * fps)):
        time_s = round(number / fps, 6)
        gray = np.ascontiguousarray(picture(time_s))
        frame = VideoFrame.from_ndarray(gray, format="gray")
        meter.add(time_s, scale(frame))
    return meter.result()


def shaken(time_s: float) -> float:
    return AMPLITUDE_PX * float(np.sin(2 * np.pi * HERTZ * time_s))


def noisy(picture: Picture, time_s: float) -> Picture:
    noise = np.random.default_rng(round(time_s * 1000)).normal(0, 3, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


@pytest.mark.parametrize("fps", [15.0, 25.0, 50.0])
@pytest.mark.parametrize("across", [True, False])
def test_known_shake_is_measured_at_any_rate(fps: float, across: bool) -> None:
    image = scene(1)
    bursts = measured(
        lambda at: cut_out(image, shaken(at) if across else 0, 0 if across else shaken(at)), fps
    )
    assert [burst.start_s // EVERY_S for burst in bursts] == [0, 1]
    assert all(burst.duration_s < LASTS_S for burst in bursts)
    assert [burst.percent for burst in bursts] == pytest.approx([PERCENT] * 2, rel=0.2)


def test_a_pan_is_no_shake_and_hides_none() -> None:
    image = scene(2)
    pan = measured(lambda at: cut_out(image, -180 + 120 * at, 0))
    both = measured(lambda at: cut_out(image, -180 + 120 * at, shaken(at)))
    assert max(burst.percent for burst in pan) < 0.1 * PERCENT
    assert [burst.percent for burst in both] == pytest.approx([PERCENT] * 2, rel=0.2)


def test_a_still_camera_has_none_whatever_moves_before_it() -> None:
    image = scene(3)

    def picture(time_s: float) -> Picture:
        still = cut_out(image, 0, 0)
        x = 200 + round(100 * np.sin(2 * np.pi * 2 * time_s))
        cv2.circle(still, (x, 200), 60, (240,), -1)
        return noisy(still, time_s)

    assert max(burst.percent for burst in measured(picture)) < 0.05 * PERCENT


def test_black_bars_hide_no_shake() -> None:
    image = scene(4)

    def picture(time_s: float) -> Picture:
        barred = np.full((HEIGHT, WIDTH), 16, np.uint8)
        barred[:, 140:500] = cut_out(image, shaken(time_s), 0)[:, 140:500]
        return barred

    assert [burst.percent for burst in measured(picture)] == pytest.approx([PERCENT] * 2, rel=0.2)


def test_a_burst_with_a_cut_is_left_out_and_black_pictures_have_no_shake() -> None:
    before, after = scene(5), scene(6)
    cut = measured(lambda at: cut_out(before if at < 0.3 else after, 0, 0))
    assert [burst.start_s for burst in cut] == [EVERY_S]
    black = measured(lambda _: np.full((HEIGHT, WIDTH), 16, np.uint8))
    assert [burst.percent for burst in black] == [0.0, 0.0]


@pytest.mark.parametrize("bound", [None, 0.5])
def test_the_scan_measures_shake_only_where_clips_are_bounded_by_it(bound: float | None) -> None:
    chain = build_stages(Config.model_validate({"clip": {"max_shake": bound}}))
    assert [stage.shake for stage in chain if isinstance(stage, Scan)] == [bound is not None]
