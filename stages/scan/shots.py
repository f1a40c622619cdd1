"""Shot boundaries: settings, results, and the interface of :mod:`stages.scan.detectors`."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from pydantic import Field

from models.media import Frame
from models.settings import NonNegative, Positive, Section, Share
from stages.records import Interval

Detector = Literal["own", "adaptive", "content", "transnet"]
SAME_CUT_S = 0.1
"""Time between two pictures of which only one can begin a shot."""
CLEAR = 3.0
"""Log-odds from which a cut is clear: 95 %."""


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
        detector: which one, see :mod:`stages.scan.detectors`.
        cut_confidence: probability from which a change is a cut, of ``own`` and ``transnet``.
        cut_ratio: how far a change must stand out from its neighbours to be a cut, of ``adaptive``.
        cut_min_content: how large the change must be at least, of ``adaptive`` and ``content``.
        min_shot_s: of two cuts that are closer, the first counts if both are clear, else the likelier one.
    """

    detector: Detector = "own"
    cut_confidence: Share = 0.4
    cut_ratio: Positive = 3.0
    cut_min_content: Annotated[float, Field(ge=0, le=255)] = 15.0
    min_shot_s: NonNegative = 0.5


class ShotFinder(Protocol):
    """Interface of every detector."""

    def add(self, frame: Frame) -> None:
        """Look at the next picture."""

    def result(self) -> Boundaries:
        """Return what was found; called once, after the last picture."""


def joined(
    cuts: list[tuple[float, float]], transitions: list[Interval], settings: ShotSettings
) -> Boundaries:
    """Return cuts that are likely enough, and the transitions that hold none.

    Args:
        cuts: time and log-odds of possible cuts, in order of time.
    """
    least = log_odds(settings.cut_confidence)
    likely = [cut for cut in cuts if cut[1] >= least]
    single = spaced(likely, SAME_CUT_S)
    # Of two clear cuts the first one counts, whichever has more odds.
    capped = [(time_s, min(odds, CLEAR)) for time_s, odds in single]
    cuts_s = [time_s for time_s, _ in spaced(capped, settings.min_shot_s)]
    # What holds a hard cut is no dissolve: a cut between fields leaves a picture that mixes two shots.
    gradual = [
        one for one in transitions if not any(one.start_s <= time_s <= one.end_s for time_s in cuts_s)
    ]
    return Boundaries(cuts_s=cuts_s, transitions=gradual)


def log_odds(probability: float) -> float:
    """Logarithm of the odds of a probability in [0, 1]."""
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def spaced(cuts: list[tuple[float, float]], least_s: float) -> list[tuple[float, float]]:
    """Return the cuts that are at least ``least_s`` apart; of two that are closer, the likelier one.

    Where much moves, a picture shortly before a cut may count as a cut, too; the cut itself is likelier.

    Args:
        cuts: time and log-odds; of equal ones the first counts.
    """
    kept: list[tuple[float, float]] = []
    for cut in sorted(cuts, key=lambda cut: (-cut[1], cut[0])):
        place = bisect_left(kept, cut)
        if all(abs(cut[0] - other_s) >= least_s for other_s, _ in kept[max(0, place - 1) : place + 1]):
            kept.insert(place, cut)
    return kept
