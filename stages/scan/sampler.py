"""Pictures on a fixed grid: packed as JPEG and measured.

What is dear - scaling and JPEG - runs in the threads of the decoders, or in one beside a single decoder.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.media import Frame, GrayScaler, Scaler
from models.settings import Section
from stages.frames import FramePacker, encoded
from stages.records import Box, Facts, Shake
from stages.scan.shake import Gray, ShakeMeter, ShakeScaler

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The parts of a sampled picture that are kept.

    Attributes:
        jpeg: the packed frame; None for a picture between those of the grid.
        gray: what is measured of it, ``[h, w]``.
        shaking: what shows the shake of the camera, ``[h, w]``; None outside its bursts.
    """

    time_s: float
    jpeg: bytes | None
    gray: NDArray[np.uint8] | None
    shaking: Gray | None


class Grid:
    """Times of the pictures that are sampled.

    Args:
        fps: pictures a second.
        shake: whether those are sampled, too, that show the shake of the camera.
    """

    def __init__(self, fps: float, *, shake: bool) -> None:
        self._fps, self.shake = fps, shake
        self._start_s: float | None = None

    def begin(self, time_s: float) -> None:
        """Begin with the first picture; later ones change nothing."""
        if self._start_s is None:
            self._start_s = time_s

    def holds(self, before_s: float, time_s: float) -> bool:
        """Return whether a picture is on the grid, by its time and that of the one before."""
        if self._start_s is None or before_s < self._start_s:
            return True
        steps = int((before_s - self._start_s) * self._fps + 1e-6) + 1
        return time_s >= self._start_s + steps / self._fps - 1e-6

    def wants(self, before_s: float, time_s: float) -> bool:
        """Return whether a picture is sampled, likewise."""
        return self.holds(before_s, time_s) or (self.shake and ShakeMeter.wants(time_s))


class SampleMaker:
    """Makes samples of the pictures of one stream; one for each thread."""

    def __init__(self, facts: Facts, settings: GridSettings, grid: Grid) -> None:
        short_side_px = min(facts.width_px, facts.height_px)
        self._scale = Scaler(*scaled(facts, settings.short_side_px / short_side_px))
        self._shrink = GrayScaler(*scaled(facts, METER_WIDTH_PX / facts.width_px))
        self._scale_shaking = ShakeScaler()
        self._quality, self._grid = settings.jpeg_quality, grid

    def __call__(self, frame: Frame, before_s: float) -> Sample | None:
        """Return the sample of a picture, if it is sampled, by the time of the one before."""
        self._grid.begin(frame.time_s)
        if not self._grid.wants(before_s, frame.time_s):
            return None
        jpeg = gray = shaking = None
        if self._grid.holds(before_s, frame.time_s):
            picture = self._scale(frame.picture)
            jpeg = encoded(picture, self._quality)
            gray = self._shrink(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8))
        if self._grid.shake and ShakeMeter.wants(frame.time_s):
            shaking = self._scale_shaking(frame.picture)
        return Sample(time_s=frame.time_s, jpeg=jpeg, gray=gray, shaking=shaking)


class Sampler:
    """Packs and measures samples, in order.

    Args:
        shake: whether the shake of the camera is measured, on pictures between those of the grid.
    """

    def __init__(
        self, facts: Facts, settings: GridSettings, packer: FramePacker, *, shake: bool = False
    ) -> None:
        self._facts, self._settings, self._packer = facts, settings, packer
        self._grid = Grid(settings.grid_fps, shake=shake)
        self.wants = self._grid.wants
        self._meter, self._shake = Meter(), ShakeMeter()
        self._make = self.maker()
        self._before_s = -math.inf
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Sampler:
        return self

    def maker(self) -> SampleMaker:
        """Return one for another thread."""
        return SampleMaker(self._facts, self._settings, self._grid)

    def record(self, sample: Sample) -> None:
        """Pack and measure the next sample."""
        if sample.jpeg is not None and sample.gray is not None:
            self._packer.add(sample.time_s, sample.jpeg)
            self._meter.add(sample.time_s, sample.gray)
        if sample.shaking is not None:
            self._shake.add(sample.time_s, sample.shaking)

    def add(self, frame: Frame) -> None:
        """Sample the next picture if it is wanted, in a thread, and wait while the thread is behind."""
        self._grid.begin(frame.time_s)
        if self.wants(self._before_s, frame.time_s):
            self._waiting.append(self._thread.submit(self._take, frame, self._before_s))
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft().result()
        self._before_s = frame.time_s

    def _take(self, frame: Frame, before_s: float) -> None:
        if (sample := self._make(frame, before_s)) is not None:
            self.record(sample)

    def result(self) -> Meter:
        """Return the measurements, after the last picture."""
        while self._waiting:
            self._waiting.popleft().result()
        self._meter.shakes = self._shake.result()
        return self._meter

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)


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
