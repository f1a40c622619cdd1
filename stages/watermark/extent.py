"""Find the box of a drawing to the pixel.

The appearance network answers by cells of eight pixels, so boxes of cells err by half a line of text. In
each picture the sides of a box are moved to where strokes begin; the median is taken of sides that stay.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.records import Box

Gray = NDArray[np.uint8]

REACH_PX = 8
"""Distance up to which a side is moved: a cell of the appearance network."""
RIM_PX = 3
"""Pixels before and behind a side whose edges are compared."""
MIN_RATIO = 1.5
"""Edges behind a side, relative to those before it, from which strokes begin there."""
MAX_EDGE = 40.0
"""Bound on the steepness of a pixel, in grey levels: a lone border must not outweigh strokes."""
STAYS = 0.12
"""Share of the picture within which the middle half of a side's places lies, if the side stays."""


def snapped(box: Box, gray: Gray) -> Box:
    """Return a box with each side moved to where strokes begin, if there is such a place within a cell.

    Args:
        box: as fractions of the picture.
        gray: the picture, ``[h, w]``.
    """
    high, wide = gray.shape
    margin = REACH_PX + RIM_PX + 1
    x0, y0, x1, y1 = (round(side * size) for side, size in zip(box, (wide, high, wide, high), strict=True))
    left, top = max(0, x0 - margin), max(0, y0 - margin)
    edges = _steepness(gray[top : y1 + margin, left : x1 + margin])
    y0, y1 = _sides(edges[:, x0 - left : x1 - left].mean(axis=1), y0 - top, y1 - top)
    x0, x1 = _sides(edges[y0:y1].mean(axis=0), x0 - left, x1 - left)
    return (left + x0) / wide, (top + y0) / high, (left + x1) / wide, (top + y1) / high


def lasting(boxes: Collection[Box]) -> Box:
    """Return the box of a drawing from its boxes in some pictures.

    For a side that stays it is the median, so that a few wrong boxes do not count; else the outermost.
    """
    sides = np.array(list(boxes)).T
    low, middle, high = np.quantile(sides, (0.25, 0.5, 0.75), axis=1)
    outermost = (*sides[:2].min(axis=1), *sides[2:].max(axis=1))
    x0, y0, x1, y1 = np.where(high - low < STAYS, middle, outermost)
    return float(x0), float(y0), float(x1), float(y1)


def _steepness(gray: Gray) -> NDArray[np.float32]:
    """Return the gradient's length at every pixel, bounded."""
    x, y = (cv2.Sobel(gray, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return np.asarray(np.minimum(cv2.magnitude(x, y), MAX_EDGE), np.float32)


def _sides(profile: NDArray[np.float32], first: int, last: int) -> tuple[int, int]:
    """Return where strokes begin and end near two places in a profile of edges."""
    middle = (first + last) // 2
    count = len(profile)
    return _start(profile, first, middle), count - _start(profile[::-1], count - last, count - middle)


def _start(profile: NDArray[np.float32], first: int, middle: int) -> int:
    """Return the place near the first one, up to the middle, where the profile rises most."""
    sums = np.concatenate(([0.0], np.cumsum(profile, dtype=np.float64)))
    places = np.arange(max(1, first - REACH_PX), min(first + REACH_PX, middle, len(profile) - 1) + 1)
    if not places.size:
        return first
    low, high = np.maximum(places - RIM_PX, 0), np.minimum(places + RIM_PX, len(profile))
    before = (sums[places] - sums[low]) / (places - low)
    behind = (sums[high] - sums[places]) / (high - places)
    rises = np.where(behind > MIN_RATIO * before, behind - before, 0)
    best = int(rises.argmax())
    return int(places[best]) if rises[best] > 0 else first
