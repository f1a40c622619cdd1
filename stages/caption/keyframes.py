"""Choice of a clip's frames for a model, and their form.

A model sees few frames of a clip. Taken evenly they may show the same still pot five times and miss
the moment in which it boils over. Taken for coverage, they stand at equal steps of what changes, as
the scan measured it, and of time. Of 36 clips of recipes and camera footage ten frames so chosen leave
the others 16 % less far in image features than even ones, and the farthest 23 %; three of 58 clips leave
them 1 % less far (``python -m benchmarks.keyframes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.clip import frames_in
from stages.records import Evidence, Interval

Choice = Literal["coverage", "even"]
Crop = Literal["square", "whole"]

TIME_SHARE = 0.5
"""Weight of time against change, so that a calm stretch is looked at half as often as evenly at least.
Between 0 and 0.5 there is no measurable difference; above, the gain over an even choice is lost."""
SAME_PICTURE = 0.001
"""Accumulated motion below which frames in a row show the same; the eye and codecs see none there."""
NOISE_QUANTILE = 0.1
"""The motion that nearly every frame of a clip has is noise, or steady; neither makes a frame special."""
USABLE_EXPOSURE = (0.03, 0.97)
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class _Look:
    """Run of frames that show the same: the best of them, and their number."""

    index: int
    count: int


def choose(evidence: Evidence, part: Interval, count: int, how: Choice) -> list[float]:
    """Choose at most ``count`` packed frames of a part of a video; return their times in order.

    Args:
        how: ``even`` in time; ``coverage`` for many looks where much changes.
    """
    inside = frames_in(evidence, part)
    times = evidence.frame_times_s[inside]
    if how == "even":
        return spread(times, count)
    chosen = covering(evidence.motion[inside], evidence.sharpness[inside], evidence.exposure[inside], count)
    return [times[index] for index in chosen]


def spread(times: Sequence[float], count: int) -> list[float]:
    """Choose at most ``count`` of the times, evenly placed, not the very edges if there is a choice."""
    if len(times) <= count:
        return list(times)
    return [times[int((number + 0.5) * len(times) / count)] for number in range(count)]


def covering(
    motion: Sequence[float], sharpness: Sequence[float], exposure: Sequence[float], count: int
) -> list[int]:
    """Choose the frames from which the others are least far, as indices in order.

    Frames lie on a line, at equal parts of accumulated change and of time. The line is divided into
    ``count`` stretches such that squared distances within them are smallest, and each is shown by a
    sharp frame from around its middle. So the beginning and the end are always shown, and of frames
    that show the same at most one.
    """
    quality = [
        sharp if USABLE_EXPOSURE[0] < light < USABLE_EXPOSURE[1] else sharp - 1
        for sharp, light in zip(sharpness, exposure, strict=True)
    ]
    looks = _looks(motion, quality)
    if len(looks) <= count:
        return [look.index for look in looks]
    line = _line(motion)[[look.index for look in looks]]
    edges = divided(line, np.array([look.count for look in looks], float), count)
    return [
        looks[_sharp_middle(line, [quality[look.index] for look in looks], start, end)].index
        for start, end in pairwise(edges)
    ]


def _looks(motion: Sequence[float], quality: Sequence[float]) -> list[_Look]:
    """Group frames that show the same; each group has its best frame."""
    runs: list[list[int]] = []
    moved = 0.0
    for index, step in enumerate(motion):
        moved += step
        if runs and moved < SAME_PICTURE:
            runs[-1].append(index)
        else:
            runs.append([index])
            moved = 0.0
    return [_Look(max(run, key=lambda index: quality[index]), len(run)) for run in runs]


def _line(motion: Sequence[float]) -> NDArray[np.float64]:
    """Place all frames on a line, ``[n]`` from 0 to 1; the first frame's motion lies before the part."""
    steps = np.array([0.0, *motion[1:]])
    change = np.maximum(0.0, steps - np.quantile(steps[1:], NOISE_QUANTILE)) if len(steps) > 1 else steps
    change[:1] = 0.0
    time = np.linspace(0.0, 1.0, len(steps))
    total = float(change.sum())
    if total == 0:
        return time
    return TIME_SHARE * time + (1 - TIME_SHARE) * np.cumsum(change) / total


def divided(line: NDArray[np.float64], weights: NDArray[np.float64], count: int) -> list[int]:
    """Cut ordered places into ``count`` parts with the least squares within them.

    Fisher's exact one-dimensional clustering (natural breaks) by dynamic programming.

    Args:
        line: places in rising order, ``[n]``, n at least ``count``.
        weights: of the places, ``[n]``.

    Returns:
        ``count + 1`` indices, from 0 to n.
    """
    n = len(line)
    zero = np.zeros(1)
    mass = np.concatenate([zero, np.cumsum(weights)])
    first = np.concatenate([zero, np.cumsum(weights * line)])
    second = np.concatenate([zero, np.cumsum(weights * line**2)])
    start, end = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    whole = np.maximum(mass[end] - mass[start], 1e-12)
    within = second[end] - second[start] - (first[end] - first[start]) ** 2 / whole
    cost = np.where(end > start, np.maximum(within, 0.0), np.inf)
    best, cuts = cost[0], []
    for _ in range(count - 1):
        totals = best[:, None] + cost
        cuts.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    edges = [n]
    for cut in reversed(cuts):
        edges.append(int(cut[edges[-1]]))
    return [0, *reversed(edges)]


def _sharp_middle(line: NDArray[np.float64], quality: Sequence[float], start: int, end: int) -> int:
    """Return the sharpest frame in the middle half of a part."""
    places = line[start:end]
    away = np.round(np.abs(places - places.mean()), 9)
    near = max(float(away.min()), float(places[-1] - places[0]) / 4)
    return max(
        (index for index in range(start, end) if away[index - start] <= near),
        key=lambda index: (quality[index], -away[index - start], index),
    )


def pictured(jpeg: bytes, side_px: int, crop: Crop) -> bytes:
    """Encode a frame as a model is shown it, as JPEG.

    Args:
        side_px: of the short side; a smaller frame is not enlarged.
        crop: ``square`` cuts the centre out, as the paper does; ``whole`` shows everything.
    """
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "packed frames are ours"
    height, width = image.shape[:2]
    side = min(height, width)
    if side <= side_px and (crop == "whole" or height == width):
        return jpeg
    if crop == "square":
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
        height = width = side
    factor = min(1.0, side_px / side)
    if factor < 1:
        size = (round(width * factor), round(height * factor))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()
