"""One pass over the pictures.

The file is decoded once. Every picture feeds the shot detector; pictures on a fixed grid feed the
measurements and are packed, as JPEG, into one indexed file that later stages choose from.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import ClassVar

from models.media import MAX_PIXELS, Bounds, Frame, Losses, frames, open_media, start_of
from models.settings import Share
from stages.base import BadInputError, Pool, Stage
from stages.frames import FramePacker
from stages.records import Evidence, Facts, Interval, Reason, Video
from stages.scan.sampler import GridSettings, Sampler
from stages.scan.shots import ShotSettings, shot_finder
from stages.view import file_of


class ScanMeasuring(GridSettings, ShotSettings):
    """Settings of decoding and of the search for shots."""


class ScanSettings(ScanMeasuring):
    """The one decoding pass. A video that ends earlier than announced by more is truncated."""

    max_missing_share: Share = 0.05


class Scan(Stage):
    """Decodes a video once: shots, measurements, packed frames."""

    name: ClassVar[str] = "scan"
    version: ClassVar[int] = 5
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
    finder = shot_finder(settings, facts)
    fps = facts.fps if facts.fps > 0 else 25.0
    count = 0
    next_s = start_s = end_s = last_s = 0.0
    with Sampler(facts, settings, packer) as sampler:
        for frame in pictures:
            finder.add(frame)
            if count == 0:
                start_s = next_s = frame.time_s
            if frame.time_s >= next_s:
                sampler.add(frame)
                steps = int((frame.time_s - start_s) * settings.grid_fps + 1e-6) + 1
                next_s = start_s + steps / settings.grid_fps - 1e-6
            # Containers that tell no duration of a frame: it lasts as long as the one before.
            lasts_s = frame.duration_s or (frame.time_s - last_s if count else 1 / fps)
            last_s, end_s = frame.time_s, frame.time_s + lasts_s
            count += 1
    if count == 0:
        raise BadInputError(Reason.CORRUPT, "no picture can be decoded")
    found = finder.result()
    edges = [start_s, *found.starts_s, round(end_s, 6)]
    meter = sampler.meter
    return Evidence(
        shots=[Interval(start_s=a, end_s=b) for a, b in itertools.pairwise(edges)],
        transitions=found.transitions,
        frame_times_s=meter.times_s,
        sharpness=meter.sharpness,
        exposure=meter.exposure,
        motion=meter.motion,
        num_frames=count,
    )
