"""Shake of the camera, measured on short bursts of consecutive pictures.

A shaking camera moves the whole picture to and fro within fractions of a second. Phase correlation of
neighbouring pictures gives the path of the picture; the distance of the path from a smooth curve is shake.
A pan follows the curve. The path is the median of those of several tiles, so that an object that moves
before a still background has no shake.
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from stages.records import Shake

Gray = NDArray[np.float32]

EVERY_S = 2.0
LASTS_S = 0.6
"""Distance between the starts of two bursts, and length of a burst."""
LONG_SIDE_PX = 192
"""Long side of the pictures that are compared."""
TILES = (3, 2)
"""Columns and rows of tiles."""
MIN_PICTURES = 6
"""Pictures of a burst: with fewer, the curve passes through nearly all of the path."""
DEGREE = 2
"""Degree of the curve: a pan of constant or of evenly changing speed."""
MIN_RESPONSE = 0.3
"""Response of the phase correlation below which two tiles show no common content."""
BLACK = 24
BAR_SHARE = 0.04
"""Grey level up to which a pixel is black, and share of other pixels in a line of a black bar, at most."""


class ShakeScaler:
    """Scales pictures to the grey ones that are compared."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, picture: VideoFrame) -> Gray:
        """Return a picture as ``[h, w]``."""
        factor = min(1.0, LONG_SIDE_PX / max(picture.width, picture.height))
        width, height = (max(2, round(side * factor)) for side in (picture.width, picture.height))
        small = self._reformatter.reformat(picture, width, height, "gray", interpolation="AREA", threads=1)
        return np.asarray(small.to_ndarray(), np.float32)


class ShakeMeter:
    """Shake of the camera in each burst."""

    def __init__(self) -> None:
        self._burst = -1
        self._times_s: list[float] = []
        self._steps: list[tuple[float, float]] = []
        self._last: Gray | None = None
        self._area = slice(None), slice(None)
        self._found: list[Shake] = []

    @staticmethod
    def wants(time_s: float) -> bool:
        """Return whether a picture is part of a burst."""
        return time_s % EVERY_S < LASTS_S

    def add(self, time_s: float, gray: Gray) -> None:
        """Measure the next picture; one outside the bursts is ignored.

        Args:
            gray: made by :class:`ShakeScaler`.
        """
        if not self.wants(time_s):
            return
        burst = int(time_s // EVERY_S)
        if burst != self._burst:
            self._finish()
            self._burst = burst
        if self._last is None:
            self._area = inside_bars(gray)
        gray = np.ascontiguousarray(gray[self._area])
        if self._last is not None:
            self._steps.append(shift(self._last, gray))
        self._last = gray
        self._times_s.append(time_s)

    def result(self) -> list[Shake]:
        """Return the shake of every burst that could be measured, after the last picture."""
        self._finish()
        return self._found

    def _finish(self) -> None:
        """Record the burst that ends."""
        if len(self._times_s) >= MIN_PICTURES and not np.isnan(self._steps).any():
            percent = round(100 * roughness(self._times_s, self._steps) / LONG_SIDE_PX, 4)
            self._found.append(Shake(start_s=self._times_s[0], end_s=self._times_s[-1], percent=percent))
        self._times_s, self._steps, self._last = [], [], None


def shift(before: Gray, after: Gray) -> tuple[float, float]:
    """Return by how many pixels a picture ``[h, w]`` has moved, to the right and down.

    Both are NaN where most tiles show no common content: at a cut.
    """
    columns, rows = TILES
    height, width = before.shape[0] // rows, before.shape[1] // columns
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    found = []
    for y, x in product(range(0, rows * height, height), range(0, columns * width, width)):
        tile = slice(y, y + height), slice(x, x + width)
        moved, response = cv2.phaseCorrelate(before[tile], after[tile], window)
        if response >= MIN_RESPONSE:
            found.append(moved)
    if 2 * len(found) <= columns * rows:
        return np.nan, np.nan
    across, down = np.median(found, axis=0)
    return float(across), float(down)


def roughness(times_s: list[float], steps: list[tuple[float, float]]) -> float:
    """Return the root mean square distance of a path from the smooth curve that fits best.

    Args:
        times_s: of the points.
        steps: from each point to the next.
    """
    path = np.concatenate((np.zeros((1, 2)), np.cumsum(steps, axis=0)))
    since_s = np.asarray(times_s) - times_s[0]
    powers = np.vander(since_s / since_s[-1], DEGREE + 1)
    curve = powers @ np.linalg.lstsq(powers, path, rcond=None)[0]
    return float(np.sqrt(np.square(path - curve).sum(axis=1).mean()))


def inside_bars(gray: Gray) -> tuple[slice, slice]:
    """Return the rows and columns inside black bars: bars stand still while the camera shakes."""
    lit = gray > BLACK
    lines = [np.flatnonzero(lit.mean(axis=axis) > BAR_SHARE) for axis in (1, 0)]
    if any(found.size < side // 4 for found, side in zip(lines, gray.shape, strict=True)):
        return slice(None), slice(None)
    rows, columns = (slice(int(found[0]), int(found[-1]) + 1) for found in lines)
    return rows, columns
