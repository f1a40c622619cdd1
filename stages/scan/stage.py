"""One pass over the pictures.

The pictures feed the shot detector; those on a fixed grid also feed the measurements and are packed, as
JPEG, into one indexed file that later stages choose from. Several decoders work side by side, each on
another section of the file. Of large pictures, those to which no other refers are not decoded, except on
the grid and where a boundary is possible. A damaged file is decoded in full and in order.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from av.container import InputContainer

from models.media import (
    MAX_PIXELS,
    Bounds,
    Choice,
    Frame,
    InOrderError,
    Losses,
    Reduced,
    Skipped,
    decoders_for,
    frames,
    nvidia_decoder,
    open_media,
    read_again,
    read_ahead,
    side_by_side,
    start_of,
)
from models.media.losses import AnyPacket
from models.media.sections import OpenAgain
from models.settings import Share
from stages.base import BadInputError, Pool, Stage
from stages.frames import FramePacker
from stages.reasons import Reason
from stages.records import Evidence, Facts, Interval, Video
from stages.scan.detectors import shot_finder
from stages.scan.sampler import GridSettings, Meter, Sample, Sampler
from stages.scan.shots import Boundaries, ShotSettings
from stages.scan.sparse import SparseShots
from stages.scan.thumbnails import Thumbnail, ThumbnailMaker
from stages.view import file_of

MIN_SPARSE_FPS = 15.0
"""Pictures a second below which all are decoded: each counts where they are far apart or were dropped."""
AHEAD = 9
AHEAD_PX = 10_000_000
"""Pictures that may be decoded before they are looked at, and a bound on their pixels together."""
SPARSE_FROM_PX = 600_000
"""Pixels of a picture from which it pays not to decode all: of smaller ones the decode costs little, and
much of what was saved is spent on decoding some again."""
MAX_START_S = 600.0
"""First picture's latest time: all before it would be read as sound."""
Reading: TypeAlias = Callable[[InputContainer, OpenAgain, Facts, Sampler, Losses], Evidence]


class ScanMeasuring(GridSettings, ShotSettings):
    """Settings of decoding and of the search for shots."""


class ScanSettings(ScanMeasuring):
    """The one decoding pass.

    Attributes:
        decode: ``needed`` decodes sections of the file side by side, and leaves out pictures that no other
            refers to, away from possible boundaries, where pictures are large and come 15 times a second or
            more; both with the detector ``own``. ``all`` decodes every picture in order. Boundaries and
            packed frames are the same.
        decoder: ``cuda`` decodes on an NVIDIA card where there is one; else the processor does.
        max_missing_share: a video that ends earlier than announced by more is truncated.
    """

    decode: Literal["needed", "all"] = "needed"
    decoder: Literal["cpu", "cuda"] = "cpu"
    max_missing_share: Share = 0.05


class Scan(Stage):
    """Decodes a video once: shots, measurements, packed frames.

    Args:
        bounds: within which pictures are read.
        max_pixels: of a picture.
        shake: whether the shake of the camera is measured.
    """

    name: ClassVar[str] = "scan"
    version: ClassVar[int] = 15
    pool: ClassVar[Pool] = "media"
    reads = ("content_id", "facts")
    writes = ("facts", "evidence")
    reads_file = True

    measuring = ScanMeasuring
    settings: ScanSettings

    def __init__(
        self,
        settings: ScanSettings,
        *,
        bounds: Bounds | None = None,
        max_pixels: int = MAX_PIXELS,
        shake: bool = False,
    ) -> None:
        self.settings = settings
        self.bounds = bounds or Bounds()
        self.max_pixels = max_pixels
        self.shake = shake

    def has_packed(self, video: Video) -> bool:
        """See :meth:`Stage.has_packed`; those of other settings are not the ones."""
        try:
            with zipfile.ZipFile(self.workspace.frames_path(video)) as file:
                return file.comment == self._label()
        except (FileNotFoundError, zipfile.BadZipFile):
            return False

    def measures_with(self) -> object:
        return [super().measures_with(), self.shake]

    def rejects_with(self) -> object:
        return [asdict(self.bounds), self.max_pixels]

    def _label(self) -> bytes:
        # The frames are the same with and without shake.
        return json.dumps([self.version, super().measures_with()], sort_keys=True).encode()

    def measure(self, video: Video) -> Video:
        assert video.facts is not None
        target = self.workspace.frames_path(video)
        target.parent.mkdir(parents=True, exist_ok=True)
        evidence = losses = None
        if self.settings.decode == "needed" and self.settings.detector == "own":
            with suppress(InOrderError):
                evidence, losses, origin_s = self._decode(video, target, self._side_by_side)
        if evidence is None or losses is None:
            evidence, losses, origin_s = self._decode(video, target, self._in_order)
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
                num_lost=losses.num_lost,
                num_unplaced=losses.skipped,
                gaps=[
                    Interval(start_s=a, end_s=min(b, end_s)) for a, b in losses.gaps(origin_s) if a < end_s
                ],
                announced_s=video.facts.duration_s,
                reached_s=round(losses.end_s - origin_s, 6),
            ),
        )

    def _decode(self, video: Video, target: Path, read: Reading) -> tuple[Evidence, Losses, float]:
        """Read the pictures in one of two ways: evidence, what was lost, and the time that counts as 0."""
        assert video.facts is not None
        losses = Losses()
        decoder = nvidia_decoder() if self.settings.decoder == "cuda" else None
        open_file = partial(open_media, file_of(video), max_pixels=self.max_pixels, decoder=decoder)
        with (
            open_file() as container,
            FramePacker(target, self._label()) as packer,
            Sampler(video.facts, self.settings, packer, shake=self.shake) as sampler,
        ):
            evidence = read(container, open_file, video.facts, sampler, losses)
            return evidence, losses, start_of(container)

    def _in_order(
        self, container: InputContainer, _: OpenAgain, facts: Facts, sampler: Sampler, losses: Losses
    ) -> Evidence:
        """Decode all pictures, one after the other."""
        finder = shot_finder(self.settings, facts)
        extent = Extent(facts)
        every = frames(container, bounds=self.bounds, losses=losses)
        with read_ahead(every, most=most_ahead(facts)) as pictures:
            for frame in pictures:
                finder.add(frame)
                sampler.add(frame)
                extent.add(frame)
        return extent.evidence(finder.result(), sampler.result())

    def _side_by_side(
        self, container: InputContainer, again: OpenAgain, facts: Facts, sampler: Sampler, losses: Losses
    ) -> Evidence:
        """Decode sections beside each other, then the pictures left out where a boundary is possible.

        Raises:
            InOrderError: all pictures must be decoded in order.
        """
        finder = SparseShots(self.settings)
        extent = Extent(facts)
        number = 1 if self.settings.decoder == "cuda" else decoders_for(facts.width_px * facts.height_px)
        needed = Choice(sampler.wants, start_of(container)) if leaves_out(facts) else is_needed
        reducers = [Reducer(sampler) for _ in range(number)]
        pictures = side_by_side(container, again, reducers, needed, bounds=self.bounds, losses=losses)
        with closing(pictures):
            for seen in pictures:
                extent.add(seen)
                if isinstance(seen, Skipped):
                    finder.add(seen)
                else:
                    thumbnail, sample = seen.kept
                    finder.add(thumbnail)
                    if sample is not None:
                        sampler.record(sample)
        keys_s = losses.key_times(start_of(container))
        thumbnails = [reducer.thumbnail for reducer in reducers]
        for stretch, thumbnail in read_again(
            again, thumbnails, finder.wanted(), keys_s, bounds=self.bounds
        ):
            finder.look(stretch, thumbnail)
        return extent.evidence(finder.result(), sampler.result())

    def judge(self, video: Video) -> Video:
        assert video.facts is not None and video.evidence is not None
        facts, seen = video.facts, video.evidence
        if facts.start_s > MAX_START_S:
            detail = f"the first picture is at {facts.start_s:.0f} s"
            return video.reject(self.name, Reason.BAD_TIMESTAMPS, detail)
        share = seen.num_lost / (seen.num_lost + seen.num_frames)
        # Sound that reaches the announced length shows that the file is whole.
        reached_s = max(facts.duration_s, seen.reached_s)
        if reached_s < seen.announced_s * (1 - self.settings.max_missing_share):
            detail = f"pictures end at {facts.end_s:.2f} s of {seen.announced_s:.2f} s"
            return video.reject(self.name, Reason.TRUNCATED, detail)
        if share > self.settings.max_missing_share:
            whole = seen.num_lost + seen.num_frames
            if seen.num_unplaced > seen.num_lost / 2:
                detail = f"time stamps of {seen.num_unplaced} of {whole} pictures go back"
                return video.reject(self.name, Reason.BAD_TIMESTAMPS, detail)
            detail = f"{seen.num_lost} of {whole} pictures are damaged, missing or out of order"
            return video.reject(self.name, Reason.CORRUPT, detail)
        if facts.duration_s > self.bounds.max_span_s:
            detail = f"{facts.duration_s:.0f} s; probe.max_duration_s is {self.bounds.max_span_s:g}"
            return video.reject(self.name, Reason.TOO_LONG, detail)
        return video


def most_ahead(facts: Facts) -> int:
    """Return the number of pictures that may be decoded before they are looked at."""
    return max(2, min(AHEAD, AHEAD_PX // (facts.width_px * facts.height_px)))


def leaves_out(facts: Facts) -> bool:
    """Return whether pictures are left out of a video."""
    large = facts.width_px * facts.height_px >= SPARSE_FROM_PX
    return large and not 0 < facts.fps < MIN_SPARSE_FPS


def is_needed(_: AnyPacket) -> bool:
    """Return that a picture must be decoded: no one is left out."""
    return True


class Reducer:
    """Keeps of a picture what the scan looks at; one for each thread."""

    def __init__(self, sampler: Sampler) -> None:
        self._thumbnail, self._sample = ThumbnailMaker(), sampler.maker()

    def __call__(self, frame: Frame, before_s: float) -> tuple[Thumbnail, Sample | None]:
        """Return its thumbnail, and the sample if it is sampled, by the time of the picture before it."""
        return self.thumbnail(frame), self._sample(frame, before_s)

    def thumbnail(self, frame: Frame) -> Thumbnail:
        """Return the thumbnail of a picture."""
        return self._thumbnail(frame.time_s, frame.picture)


class Extent:
    """Begin and end of a video's pictures, and their number."""

    def __init__(self, facts: Facts) -> None:
        self._usual_s = 1 / (facts.fps if facts.fps > 0 else 25.0)
        self._start_s = self._last_s = self._end_s = 0.0
        self._count = 0

    def add(self, frame: Frame | Reduced[Any] | Skipped) -> None:
        """Record the next picture."""
        if self._count == 0:
            self._start_s = frame.time_s
        # Where the container stores no duration, a picture lasts as long as the one before.
        lasts_s = frame.duration_s or (frame.time_s - self._last_s if self._count else self._usual_s)
        self._last_s, self._end_s = frame.time_s, frame.time_s + lasts_s
        self._count += 1

    def evidence(self, found: Boundaries, meter: Meter) -> Evidence:
        """Put the results together.

        Raises:
            BadInputError: there are no pictures.
        """
        if self._count == 0:
            raise BadInputError(Reason.CORRUPT, "no picture can be decoded")
        edges = [self._start_s, *found.starts_s, round(self._end_s, 6)]
        return Evidence(
            shots=[Interval(start_s=a, end_s=b) for a, b in itertools.pairwise(edges)],
            transitions=found.transitions,
            frame_times_s=meter.times_s,
            sharpness=meter.sharpness,
            exposure=meter.exposure,
            motion=meter.motion,
            picture_box=meter.bars.inside(),
            shakes=meter.shakes,
            num_frames=self._count,
        )
