"""Pictures on a fixed grid: packed as JPEG and measured.

All of it runs in a thread beside the decoder.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.media import Frame, GrayScaler, Scaler, Skipped
from models.settings import Section
from stages.frames import FramePacker
from stages.records import Box, Facts, Shake
from stages.scan.shake import ShakeMeter

METER_WIDTH_PX = 256
BAR_LEVEL = 16
LIT_SHARE = 0.02
"""Grey level, and share of a row or column above it, up to which it may be part of a black bar."""
MIN_BARS = 0.02
"""Share of a side that its two bars take, at least."""
BAR_OUTLIERS = 0.02
"""Share of the pictures that may reach into the bars."""
MAX_WAITING = 4
"""Pictures of full size that wait for the thread."""


class GridSettings(Section):
    """The packed frames.

    Attributes:
        grid_fps: packed frames a second.
        short_side_px: of the packed frames; smaller pictures are kept as they are.
        jpeg_quality: 1 to 100.
    """

    grid_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    short_side_px: Annotated[int, Field(ge=64, le=2160)] = 448
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90


class Sampler:
    """Packs and measures sampled pictures, in a thread of its own.

    Args:
        shake: whether the shake of the camera is measured, on pictures between those of the grid.
    """

    def __init__(
        self, facts: Facts, settings: GridSettings, packer: FramePacker, *, shake: bool = False
    ) -> None:
        short_side_px = min(facts.width_px, facts.height_px)
        self._meter = Meter()
        self._scale = Scaler(*scaled(facts, settings.short_side_px / short_side_px))
        self._shrink = GrayScaler(*scaled(facts, METER_WIDTH_PX / facts.width_px))
        self._packer, self._quality, self._fps = packer, settings.jpeg_quality, settings.grid_fps
        self._shake = ShakeMeter() if shake else None
        self._start_s: float | None = None
        self._next_s = -math.inf
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Sampler:
        return self

    def wants(self, before_s: float, time_s: float) -> bool:
        """Return whether a picture is sampled, by its time and that of the one before."""
        if self._start_s is None or (self._shake and self._shake.wants(time_s)):
            return True
        steps = int((before_s - self._start_s) * self._fps + 1e-6) + 1
        return time_s >= self._point(self._start_s, steps)

    def begun(self, pictures: Iterable[Frame | Skipped]) -> Iterator[Frame | Skipped]:
        """Pass pictures on; the grid begins with the first, as soon as it is decoded."""
        for picture in pictures:
            if self._start_s is None:
                self._start_s = picture.time_s
            yield picture

    def _point(self, start_s: float, steps: int) -> float:
        return start_s + steps / self._fps - 1e-6

    def add(self, frame: Frame) -> None:
        """Hand a picture to the thread if it is sampled, and wait while the thread is behind."""
        if frame.time_s >= self._next_s:
            if self._start_s is None:
                self._start_s = frame.time_s
            steps = int((frame.time_s - self._start_s) * self._fps + 1e-6) + 1
            self._next_s = self._point(self._start_s, steps)
            self._submit(self._take, frame)
        if self._shake and self._shake.wants(frame.time_s):
            self._submit(self._shake.add, frame)

    def _submit(self, work: Callable[[Frame], None], frame: Frame) -> None:
        self._waiting.append(self._thread.submit(work, frame))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().result()

    def result(self) -> Meter:
        """Return the measurements, after the last picture."""
        while self._waiting:
            self._waiting.popleft().result()
        if self._shake:
            self._meter.shakes = self._shake.result()
        return self._meter

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _take(self, frame: Frame) -> None:
        picture = self._scale(frame.picture)
        self._packer.add(frame.time_s, picture, self._quality)
        gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
        self._meter.add(frame.time_s, self._shrink(gray))


class Meter:
    """Measurements of the sampled pictures; see :class:`stages.records.Evidence`."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.sharpness: list[float] = []
        self.exposure: list[float] = []
        self.motion: list[float] = []
        self.shakes: list[Shake] = []
        self.bars = Bars()
        self._last: NDArray[np.uint8] | None = None

    def add(self, time_s: float, gray: NDArray[np.uint8]) -> None:
        """Measure one picture ``[h, w]``."""
        # OpenCV's means take a tenth of numpy's time.
        spread = float(cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_32F))[1][0, 0]) ** 2
        moved = 0.0 if self._last is None else cv2.mean(cv2.absdiff(gray, self._last))[0] / 255
        self._last = gray
        self.times_s.append(time_s)
        self.sharpness.append(round(spread / (spread + 100), 4))
        self.exposure.append(round(cv2.mean(gray)[0] / 255, 4))
        self.motion.append(round(moved, 5))
        self.bars.add(gray)


class Bars:
    """Black bars at the rim, by all pictures together."""

    def __init__(self) -> None:
        self._edges: list[Box] = []

    def add(self, gray: NDArray[np.uint8]) -> None:
        """Look at one picture ``[h, w]``; a black one says nothing."""
        lit = cv2.threshold(gray, BAR_LEVEL, 1, cv2.THRESH_BINARY)[1]
        shares = (cv2.reduce(lit, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F) for axis in (1, 0))
        rows, columns = (np.flatnonzero(share > LIT_SHARE) for share in shares)
        if rows.size and columns.size:
            height, width = gray.shape
            self._edges.append(
                (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
            )

    def inside(self) -> Box | None:
        """Return the part of the picture inside the bars; None for all of it.

        Nearly all pictures lie inside of it, so that a dark scene has no bars and a flash takes none away.
        """
        if not self._edges:
            return None
        edges = np.array(self._edges)
        x0, y0 = np.quantile(edges[:, :2], BAR_OUTLIERS, axis=0, method="lower").tolist()
        x1, y1 = np.quantile(edges[:, 2:], 1 - BAR_OUTLIERS, axis=0, method="higher").tolist()
        if (x1 - x0) > 1 - MIN_BARS and (y1 - y0) > 1 - MIN_BARS:
            return None
        return round(x0, 4), round(y0, 4), round(x1, 4), round(y1, 4)


def scaled(facts: Facts, factor: float) -> tuple[int, int]:
    """Width and height after scaling down; a factor above 1 leaves the picture as it is."""
    factor = min(factor, 1.0)
    return max(2, round(facts.width_px * factor)), max(2, round(facts.height_px * factor))
