"""Thumbnails: what the search for shot boundaries sees of every picture.

The planes of the decoded picture are read in place, a few rows of each, so that a thumbnail costs the same
at any size and no picture is converted to RGB for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]

WIDTH, HEIGHT = 64, 36
PLANAR = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})
"""Pixel formats whose three planes can be read as they are."""
INTERLEAVED = "nv12"
"""Pixel format with both chroma planes in one: graphics cards decode to it."""
BLACK = 24
"""Luma up to which a pixel is black: bars and their coding noise."""
MIN_LIT_SHARE = 0.1
BAR_SHARE = 0.04
MIN_ACTIVE = 12
"""Share of a line's pixels up to which it belongs to a black bar, and least lines between two bars."""
FLAT = 8
"""Distance in grey levels from the colour of a bar up to which a pixel belongs to it: coding noise."""
WHOLE = (slice(0, HEIGHT), slice(0, WIDTH))
"""Rows and columns of a picture without bars."""
BLOCKS = (16, 9)
"""Columns and rows of blocks in which changes are compared."""
REACH = (6, 4)
"""Columns and rows by which a picture is moved when two are aligned."""
Area: TypeAlias = tuple[slice, slice]
"""Rows and columns."""
Bar: TypeAlias = tuple[int, tuple[int, ...]]
"""Number of lines of one colour at a side of a picture, and that colour in luma and chroma."""
NO_BAR: Bar = (0, (0, 0, 0))


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A picture at 64 x 36 pixels. Equal to itself only.

    Attributes:
        time_s: presentation time in seconds.
        pixels: ``[72, 64]``: luma above, the two chroma planes side by side, 36 x 32 each, below.
    """

    time_s: float
    pixels: Pixels

    @property
    def luma(self) -> Pixels:
        """Luma, ``[36, 64]``."""
        return self.pixels[:HEIGHT]

    @property
    def chroma(self) -> tuple[Pixels, Pixels]:
        """The two chroma planes, ``[36, 32]`` each."""
        return self.pixels[HEIGHT:, : WIDTH // 2], self.pixels[HEIGHT:, WIDTH // 2 :]

    @cached_property
    def lit(self) -> NDArray[np.bool_]:
        """Pixels that are not black, ``[36, 64]``."""
        return self.luma > BLACK

    @cached_property
    def colours(self) -> NDArray[np.float64]:
        """Shares of 8 x 16 x 16 bins of luma and chroma among the lit pixels, ``[2048]``."""
        return self.colours_in(WHOLE)

    def colours_in(self, area: Area) -> NDArray[np.float64]:
        """Return :attr:`colours` of some rows and columns."""
        rows, columns = area[0], slice((area[1].start + 1) // 2, area[1].stop // 2)
        small = cv2.resize(self.luma, (WIDTH // 2, HEIGHT), interpolation=cv2.INTER_AREA)
        luma = small[rows, columns].astype(np.int64)
        blue, red = (plane[rows, columns].astype(np.int64) for plane in self.chroma)
        bins = (luma >> 5) * 256 + (blue >> 4) * 16 + (red >> 4)
        lit = luma > BLACK
        chosen = bins[lit] if np.count_nonzero(lit) > MIN_LIT_SHARE * lit.size else bins.ravel()
        return np.asarray(np.bincount(chosen, minlength=2048) / chosen.size)

    @cached_property
    def bars(self) -> tuple[Bar, Bar, Bar, Bar]:
        """Bars above, below, left and right."""
        above, below = (tuple(int(plane[at, at]) for plane in self.chroma) for at in (0, -1))
        return (
            _bar(self.luma, above),
            _bar(self.luma[::-1, ::-1], below),
            _bar(self.luma.T, above),
            _bar(self.luma.T[::-1, ::-1], below),
        )

    @cached_property
    def barred(self) -> bool:
        """True if at least one side has a bar."""
        return any(lines for lines, _ in self.bars)


def _bar(lines: Pixels, chroma: tuple[int, ...]) -> Bar:
    """Return the bar that the first of some lines of luma belong to."""
    # Most pictures have none, which the first line shows.
    low, high, *_ = cv2.minMaxLoc(lines[:1])
    if high - low > FLAT:
        return NO_BAR
    level = int(lines[0, 0])
    flat = np.abs(lines.astype(np.int16) - level).max(axis=1) <= FLAT
    return (int(flat.size if flat.all() else flat.argmin()), (level, *chroma))


class ThumbnailMaker:
    """Makes thumbnails of the pictures of one stream."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, time_s: float, picture: VideoFrame) -> Thumbnail:
        """Return the thumbnail of a picture."""
        interleaved = picture.format.name == INTERLEAVED
        if not interleaved and picture.format.name not in PLANAR:
            picture = self._reformatter.reformat(
                picture, 4 * WIDTH, 4 * HEIGHT, "yuv420p", interpolation="AREA", threads=1
            )
        pixels = np.empty((2 * HEIGHT, WIDTH), np.uint8)
        luma, *chroma = picture.planes
        pixels[:HEIGHT] = reduced(luma, WIDTH)
        if interleaved:
            both = reduced(chroma[0], WIDTH // 2, channels=2)
            pixels[HEIGHT:, : WIDTH // 2], pixels[HEIGHT:, WIDTH // 2 :] = both[..., 0], both[..., 1]
        else:
            pixels[HEIGHT:, : WIDTH // 2] = reduced(chroma[0], WIDTH // 2)
            pixels[HEIGHT:, WIDTH // 2 :] = reduced(chroma[1], WIDTH // 2)
        return Thumbnail(time_s=time_s, pixels=pixels)


def reduced(plane: VideoPlane, width: int, channels: int = 1) -> Pixels:
    """Reduce a plane of bytes to ``[36, width, channels]``: the mean of 72 of its rows, evenly spaced.

    Averaging is several times as fast where each pixel is the mean of a whole number of rows.
    """
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    used = lines[: plane.height, : plane.width * channels]
    pixels = used.reshape(plane.height, plane.width, channels)
    if plane.height % (2 * HEIGHT) == 0:
        rows = pixels[:: plane.height // (2 * HEIGHT)]
    elif plane.height > 2 * HEIGHT:
        rows = pixels[np.arange(2 * HEIGHT) * plane.height // (2 * HEIGHT)]
    else:
        rows = pixels
    small = cv2.resize(rows, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def inside(a: Thumbnail, b: Thumbnail) -> Area:
    """Return the rows and columns inside the bars of one colour that two pictures share."""
    # Asked for every pair of pictures that is compared, and most pictures have no bars.
    if not (a.barred and b.barred):
        return WHOLE
    above, below, left, right = (
        min(lines, others) if max(abs(x - y) for x, y in zip(colour, other, strict=True)) <= FLAT else 0
        for (lines, colour), (others, other) in zip(a.bars, b.bars, strict=True)
    )
    if above + below > HEIGHT - MIN_ACTIVE or left + right > WIDTH - MIN_ACTIVE:
        return WHOLE
    return slice(above, HEIGHT - below), slice(left, WIDTH - right)


def lit_in(a: Thumbnail, b: Thumbnail) -> NDArray[np.bool_]:
    """Return the pixels, ``[36, 64]``, that are not black in two pictures nor in bars that they share."""
    lit = np.asarray(a.lit | b.lit)
    area = inside(a, b)
    if area == WHOLE:
        return lit
    shown = np.zeros_like(lit)
    shown[area] = lit[area]
    return shown


def difference(a: Thumbnail, b: Thumbnail) -> float:
    """Mean difference in grey levels, luma and chroma together.

    Pixels that are black in both pictures, and bars, say nothing, so that they do not dilute a change.
    """
    return float(cv2.norm(a.pixels, b.pixels, cv2.NORM_L1)) / lit_pixels(a, b)


def lit_pixels(a: Thumbnail, b: Thumbnail) -> float:
    """Number of luma pixels that can show a change between two pictures, and some at least."""
    return max(float(np.count_nonzero(lit_in(a, b))), MIN_LIT_SHARE * WIDTH * HEIGHT)


def shared_colours(a: Thumbnail, b: Thumbnail) -> float:
    """Histogram intersection of two pictures, in [0, 1], without bars that they share."""
    area = inside(a, b)
    if area == WHOLE:
        return float(np.minimum(a.colours, b.colours).sum())
    return float(np.minimum(a.colours_in(area), b.colours_in(area)).sum())


def active_area(a: Thumbnail, b: Thumbnail) -> Area:
    """Return the rows and columns of luma inside the bars that two pictures share."""
    lit = lit_in(a, b)
    area = []
    for axis in (1, 0):
        lines = np.flatnonzero(lit.mean(axis=axis) > BAR_SHARE)
        wide = lines.size and lines[-1] + 1 - lines[0] >= MIN_ACTIVE
        area.append(slice(int(lines[0]), int(lines[-1]) + 1) if wide else slice(None))
    return area[0], area[1]


def contrast(a: Thumbnail, area: Area) -> float:
    """Return the standard deviation of luma in some rows and columns, in grey levels."""
    return float(cv2.meanStdDev(np.ascontiguousarray(a.luma[area]))[1][0, 0])


def alignment(a: Thumbnail, b: Thumbnail) -> float:
    """Return the correlation of two pictures' luma at the best of some shifts, in [-1, 1].

    Bars are left out: they are alike in any two pictures.
    """
    across, down = REACH
    area = active_area(a, b)
    smooth = cv2.GaussianBlur(np.ascontiguousarray(a.luma[area]), (0, 0), 1.5)
    padded = cv2.copyMakeBorder(smooth, down, down, across, across, cv2.BORDER_REPLICATE)
    moved = cv2.GaussianBlur(np.ascontiguousarray(b.luma[area]), (0, 0), 1.5)
    return float(cv2.matchTemplate(padded, moved, cv2.TM_CCOEFF_NORMED).max())


def least_changes(picture: Thumbnail, others: Sequence[Thumbnail], area: Area) -> NDArray[np.int16]:
    """Return by how much each block differs from the most similar of several pictures, ``[9, 16]``.

    In grey levels, luma and chroma together. The area is divided, so that a narrow picture between bars has
    as many blocks as a whole one.
    """
    rows, columns = area[0], slice(*area[1].indices(WIDTH))
    blue = slice(columns.start // 2, (columns.stop + 1) // 2)
    red = slice(WIDTH // 2 + blue.start, WIDTH // 2 + blue.stop)
    least = np.full(BLOCKS[::-1], np.iinfo(np.int16).max, np.int16)
    for other in others:
        change = cv2.absdiff(picture.pixels, other.pixels)
        luma, *chroma = (
            cv2.resize(plane, BLOCKS, interpolation=cv2.INTER_AREA)
            for plane in (
                change[:HEIGHT][rows, columns],
                change[HEIGHT:][rows, blue],
                change[HEIGHT:][rows, red],
            )
        )
        np.minimum(least, luma.astype(np.int16) + chroma[0] + chroma[1], out=least)
    return least
