"""One pass over the pictures.

The file is decoded once. Every picture feeds the shot detector; pictures on a fixed grid feed the
measurements and are packed, as JPEG, into one indexed file that later stages choose from.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Annotated, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scenedetect.common import FrameTimecode, Timecode
from scenedetect.detectors import AdaptiveDetector

from models.media import MAX_PIXELS, Bounds, Frame, Losses, frames, open_media, start_of
from models.settings import NonNegative, Positive, Section, Share
from stages.base import BadInputError, Pool, Stage
from stages.frames import FramePacker
from stages.records import Evidence, Facts, Interval, Reason, Video
from stages.view import file_of

DETECTOR_WIDTH_PX = 256
"""scenedetect's own working width."""
CLOCK = Fraction(1, 1_000_000)


class ScanMeasuring(Section):
    """How a file is decoded.

    Attributes:
        grid_fps: packed frames a second.
        short_side_px: of the packed frames; smaller pictures are kept as they are.
        jpeg_quality: 1 to 100.
        cut_ratio: how far a frame's change must stand out from its neighbours' to be a cut.
        cut_min_content: how large the change must be at least.
        min_shot_s: a cut closer to the one before is not one.
        jump_cut_likeness: share of colours that survive a cut from which it counts as a jump within
            the same shot; 1 keeps every cut.
    """

    grid_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    short_side_px: Annotated[int, Field(ge=64, le=2160)] = 448
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    cut_ratio: Positive = 3.0
    cut_min_content: Annotated[float, Field(ge=0, le=255)] = 15.0
    min_shot_s: NonNegative = 0.5
    jump_cut_likeness: Share = 0.75


class ScanSettings(ScanMeasuring):
    """The one decoding pass. A video that ends earlier than announced by more is truncated."""

    max_missing_share: Share = 0.05


class Scan(Stage):
    """Decodes a video once: shots, measurements, packed frames."""

    name: ClassVar[str] = "scan"
    version: ClassVar[int] = 4
    pool: ClassVar[Pool] = "media"
    reads = ("content_id", "facts")
    writes = ("facts", "evidence")
    reads_file = True

    measuring = ScanMeasuring
    settings: ScanSettings

    def __init__(
        self, settings: ScanSettings, *, bounds: Bounds | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.settings = settings
        self.bounds = bounds or Bounds()
        self.max_pixels = max_pixels

    def has_packed(self, video: Video) -> bool:
        """See :meth:`Stage.has_packed`; those of other settings are not the ones."""
        try:
            with zipfile.ZipFile(self.workspace.frames_path(video)) as file:
                return file.comment == self._label()
        except (FileNotFoundError, zipfile.BadZipFile):
            return False

    def rejects_with(self) -> object:
        return [asdict(self.bounds), self.max_pixels]

    def _label(self) -> bytes:
        return json.dumps([self.version, self.measures_with()], sort_keys=True).encode()

    def measure(self, video: Video) -> Video:
        assert video.facts is not None
        target = self.workspace.frames_path(video)
        target.parent.mkdir(parents=True, exist_ok=True)
        losses = Losses()
        with (
            open_media(file_of(video), max_pixels=self.max_pixels) as container,
            FramePacker(target, self._label()) as packer,
        ):
            pictures = frames(container, bounds=self.bounds, losses=losses)
            evidence = scan(pictures, video.facts, self.settings, packer)
            origin_s = start_of(container)
        start_s, end_s = evidence.shots[0].start_s, evidence.shots[-1].end_s
        return video.with_results(
            facts=replace(
                video.facts,
                start_s=start_s,
                duration_s=round(end_s - start_s, 6),
                duration_of="pictures",
            ),
            evidence=replace(
                evidence,
                num_lost=losses.failed_packets + losses.skipped,
                gaps=[
                    Interval(start_s=a, end_s=min(b, end_s)) for a, b in losses.gaps(origin_s) if a < end_s
                ],
                announced_s=video.facts.duration_s,
                reached_s=round(losses.end_s - origin_s, 6),
            ),
        )

    def judge(self, video: Video) -> Video:
        assert video.facts is not None and video.evidence is not None
        facts, seen = video.facts, video.evidence
        share = seen.num_lost / (seen.num_lost + seen.num_frames)
        # Sound that reaches the announced length shows that the file is whole.
        reached_s = max(facts.duration_s, seen.reached_s)
        if reached_s < seen.announced_s * (1 - self.settings.max_missing_share):
            detail = f"pictures end at {facts.end_s:.2f} s of {seen.announced_s:.2f} s"
            return video.reject(self.name, Reason.TRUNCATED, detail)
        if share > self.settings.max_missing_share:
            detail = (
                f"{seen.num_lost} of {seen.num_lost + seen.num_frames} pictures are damaged or out of order"
            )
            return video.reject(self.name, Reason.CORRUPT, detail)
        if facts.duration_s > self.bounds.max_span_s:
            detail = f"{facts.duration_s:.0f} s; probe.max_duration_s is {self.bounds.max_span_s:g}"
            return video.reject(self.name, Reason.TOO_LONG, detail)
        return video


def scan(pictures: Iterator[Frame], facts: Facts, settings: ScanMeasuring, packer: FramePacker) -> Evidence:
    """Run all analysers over the pictures of one video.

    Raises:
        BadInputError: there are no pictures.
    """
    short_side_px = min(facts.width_px, facts.height_px)
    small = scaled(facts, DETECTOR_WIDTH_PX / facts.width_px)
    large = scaled(facts, settings.short_side_px / short_side_px)
    fps = facts.fps if facts.fps > 0 else 25.0
    finder, meter = ShotFinder(settings, fps), Meter()
    count = 0
    next_s = start_s = end_s = last_s = 0.0
    for frame in pictures:
        finder.add(frame.time_s, frame.bgr(*small))
        if count == 0:
            start_s = next_s = frame.time_s
        if frame.time_s >= next_s:
            picture = frame.bgr(*large)
            packer.add(frame.time_s, picture, settings.jpeg_quality)
            gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
            meter.add(frame.time_s, resized(gray, small))
            steps = int((frame.time_s - start_s) * settings.grid_fps + 1e-6) + 1
            next_s = start_s + steps / settings.grid_fps - 1e-6
        # Containers that tell no duration of a frame: it lasts as long as the one before.
        lasts_s = frame.duration_s or (frame.time_s - last_s if count else 1 / fps)
        last_s, end_s = frame.time_s, frame.time_s + lasts_s
        count += 1
    if count == 0:
        raise BadInputError(Reason.CORRUPT, "no picture can be decoded")
    edges = [start_s, *finder.cuts_s, round(end_s, 6)]
    return Evidence(
        shots=[Interval(start_s=a, end_s=b) for a, b in itertools.pairwise(edges)],
        frame_times_s=meter.times_s,
        sharpness=meter.sharpness,
        exposure=meter.exposure,
        motion=meter.motion,
        num_frames=count,
    )


def scaled(facts: Facts, factor: float) -> tuple[int, int]:
    """Width and height after scaling down; a factor above 1 leaves the picture as it is."""
    factor = min(factor, 1.0)
    return max(2, round(facts.width_px * factor)), max(2, round(facts.height_px * factor))


def resized(gray: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A grey picture ``[h, w]`` scaled to (width, height)."""
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


class ShotFinder:
    """scenedetect's adaptive detector on our frames and their times, without jump cuts.

    A jump cut leaves the scene as it is and skips time: most colours survive it. At the true cuts of
    PySceneDetect's test videos and of camera footage at most 0.48 did; of 900 pairs of key frames
    from different steps of a YouCook2 video 5 % share more than 0.75, many of them one locked-off
    shot. So the default of 0.75 costs few true cuts and keeps one shot in one piece.
    """

    def __init__(self, settings: ScanMeasuring, fps: float) -> None:
        self._detector = AdaptiveDetector(
            adaptive_threshold=settings.cut_ratio,
            min_content_val=settings.cut_min_content,
            min_scene_len=settings.min_shot_s,
        )
        self._likeness = settings.jump_cut_likeness
        self._fps = fps
        # The detector looks ahead before it calls a cut; the frames around it are needed then.
        self._recent: deque[tuple[float, NDArray[np.uint8]]] = deque(
            maxlen=self._detector.event_buffer_length + 2
        )
        self.cuts_s: list[float] = []

    def add(self, time_s: float, image: NDArray[np.uint8]) -> None:
        """Look at the next picture, BGR ``[h, w, 3]``."""
        self._recent.append((round(time_s, 6), image))
        code = Timecode(pts=round(time_s / CLOCK), time_base=CLOCK)
        for cut in self._detector.process_frame(FrameTimecode(timecode=code, fps=self._fps), image):
            cut_s = round(cut.seconds, 6)
            times = [seen_s for seen_s, _ in self._recent]
            after = times.index(cut_s)
            if shared_colours(self._recent[after - 1][1], self._recent[after][1]) < self._likeness:
                self.cuts_s.append(cut_s)


def shared_colours(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Histogram intersection of two BGR pictures in HSV, 12 x 6 x 6 bins, in [0, 1]."""
    histograms = []
    for image in (a, b):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        bins = cv2.calcHist([hsv], [0, 1, 2], None, [12, 6, 6], [0, 180, 0, 256, 0, 256])
        histograms.append(bins / bins.sum())
    return float(np.minimum(*histograms).sum())


class Meter:
    """Sharpness, exposure and motion of the packed frames; see :class:`Evidence`."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.sharpness: list[float] = []
        self.exposure: list[float] = []
        self.motion: list[float] = []
        self._last: NDArray[np.uint8] | None = None

    def add(self, time_s: float, gray: NDArray[np.uint8]) -> None:
        """Measure one picture ``[h, w]``."""
        spread = float(cv2.Laplacian(gray, cv2.CV_32F).var())
        moved = 0.0 if self._last is None else float(cv2.absdiff(gray, self._last).mean()) / 255
        self._last = gray
        self.times_s.append(time_s)
        self.sharpness.append(round(spread / (spread + 100), 4))
        self.exposure.append(round(float(gray.mean()) / 255, 4))
        self.motion.append(round(moved, 5))
