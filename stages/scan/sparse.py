"""Shot boundaries of a video of which most pictures are not decoded, as if all had been.

The search runs on the pictures that were decoded. A cut counts at once if its evidence is clear and the
pictures on both sides of it were decoded. Everywhere else where there may be a boundary, all pictures are
decoded afterwards and searched once more, with as many around them as the evidence looks at. A search for
gradual transitions needs only the pictures that it samples.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Generic, TypeAlias, TypeVar

from models.media import InOrderError, Skipped
from models.media.sparse import NEAR_S, is_near
from stages.records import Interval
from stages.scan.cuts import CutFinder
from stages.scan.gradual import SAMPLE_S, GradualFinder
from stages.scan.shots import Boundaries, ShotSettings, joined, log_odds
from stages.scan.thumbnails import Thumbnail

Span: TypeAlias = tuple[float, float]
"""Start and end in seconds of presentation time, both included."""
Finder = TypeVar("Finder", CutFinder, GradualFinder)

DOUBT = 1.0
"""Distance of log-odds from those that make a cut within which all pictures are looked at. Without them
the log-odds of cuts changed by up to 0.7 (13,000 pictures of 45 films)."""
CLOSE_S = 0.2
"""Time between two possible cuts within which all pictures are looked at; the shortest shot if longer."""
LONG_S = 0.09
"""Distance of two pictures from which one may have been lost between them."""
AROUND_CUT_S = 0.6
INNER_S = 0.1
"""Seconds decoded around an uncertain cut, and those around it within which the second look decides."""
CHANGES = 3
STILL_S = 4.0
"""Changes that a look at a cut reaches to on either side, and seconds within which: where the picture
changes rarely, as in a slide show, they lie far beyond the 0.6 s."""
MIN_PEAK = 1.3
AROUND_GRADUAL_S = 1.0
"""Votes from which a gradual transition is possible, and seconds decoded around it."""


class _Look(Generic[Finder]):
    """A second look at the pictures of a span.

    Attributes:
        times_s: of the pictures that the finder looks at.
    """

    def __init__(self, span: Span, times_s: Sequence[float], finder: Finder) -> None:
        first, end = bisect_left(times_s, span[0] - NEAR_S), bisect_right(times_s, span[1] + NEAR_S)
        self.span, self.times_s = span, times_s[first:end]
        self.finder: Finder = finder
        self._count = 0

    def add(self, thumbnail: Thumbnail) -> None:
        """Look at a picture if it is one of these."""
        if is_near(self.times_s, thumbnail.time_s):
            self.finder.add(thumbnail)
            self._count += 1

    def check(self) -> None:
        """Raise :class:`InOrderError` if pictures were missing."""
        if self._count < len(self.times_s):
            start_s, end_s = self.span
            raise InOrderError(f"pictures are lost between {start_s:.2f} and {end_s:.2f} s")


AnyLook: TypeAlias = _Look[CutFinder] | _Look[GradualFinder]


class SparseShots:
    """Cuts and gradual transitions by evidence on thumbnails."""

    def __init__(self, settings: ShotSettings) -> None:
        self._settings = settings
        self._least = log_odds(settings.cut_confidence)
        self._cuts, self._gradual = CutFinder(), GradualFinder()
        self._times_s, self._samples_s = array("d"), array("d")
        self._decoded = bytearray()
        self._sure_s: list[tuple[float, float]] = []
        self._transitions: list[Interval] = []
        self._doubts: list[Span] = []
        self._cut_looks: list[_Look[CutFinder]] = []
        self._gradual_looks: list[_Look[GradualFinder]] = []
        self._together: list[list[AnyLook]] = []

    def add(self, picture: Thumbnail | Skipped) -> None:
        """Look at the next picture."""
        self._times_s.append(picture.time_s)
        self._decoded.append(isinstance(picture, Thumbnail))
        if not self._samples_s or picture.time_s >= self._samples_s[-1] + SAMPLE_S - 1e-6:
            self._samples_s.append(picture.time_s)
        if isinstance(picture, Thumbnail):
            self._cuts.add(picture)
            self._gradual.add(picture)

    def wanted(self) -> list[list[float]]:
        """Return the times of the pictures to look at again, after the last picture.

        One list for each stretch of the video.
        """
        if all(self._decoded):
            self._sure_s, self._transitions = self._cuts.finish(), self._gradual.finish()
            return []
        doubts: list[Span] = []
        around: list[Span] = []
        possible = [(at, odds) for at, odds in self._cuts.finish() if odds >= self._least - DOUBT]
        # Of two cuts that are close the likelier one counts, and all pictures tell which one that is.
        least_s = max(CLOSE_S, self._settings.min_shot_s)
        close = {at for (a, _), (b, _) in pairwise(possible) if b - a < least_s for at in (a, b)}
        for time_s, odds in possible:
            before_s, after_s, adjacent = self._neighbours(time_s)
            if adjacent and odds > self._least + DOUBT and time_s not in close:
                self._sure_s.append((time_s, odds))
            else:
                doubts.append((before_s - INNER_S, after_s + INNER_S))
                around.append(self._surroundings(before_s, after_s))
        self._doubts = united(doubts)
        stretches = [
            # The finder of transitions samples the pictures from the first one on.
            (self._sample_before(start_s - AROUND_GRADUAL_S), end_s + AROUND_GRADUAL_S)
            for start_s, end_s in self._gradual.stretches(MIN_PEAK)
        ]
        self._cut_looks = [_Look(span, self._times_s, CutFinder()) for span in united(around)]
        self._gradual_looks = [_Look(span, self._samples_s, GradualFinder()) for span in united(stretches)]
        looks: list[AnyLook] = [*self._cut_looks, *self._gradual_looks]
        for start_s, end_s in united([look.span for look in looks]):
            self._together.append([look for look in looks if start_s <= look.span[0] <= end_s])
        return [sorted({at for look in some for at in look.times_s}) for some in self._together]

    def _surroundings(self, before_s: float, after_s: float) -> Span:
        """Return the span that the evidence for a cut between two pictures is taken from."""
        changed_s = self._cuts.changed_s
        place = bisect_left(changed_s, after_s - NEAR_S)
        first_s = changed_s[max(0, place - CHANGES)]
        last_s = changed_s[min(len(changed_s), place + CHANGES) - 1]
        return (
            max(before_s - STILL_S, min(before_s - AROUND_CUT_S, first_s)),
            min(after_s + STILL_S, max(after_s + AROUND_CUT_S, last_s)),
        )

    def _sample_before(self, time_s: float) -> float:
        """Return the time of the last sample up to a time, or of the first one."""
        return self._samples_s[max(0, bisect_right(self._samples_s, time_s) - 1)]

    def _neighbours(self, time_s: float) -> tuple[float, float, bool]:
        """Decoded pictures around a change, and whether certainly none lies between them."""
        after = bisect_left(self._times_s, time_s - NEAR_S)
        before = max(0, after - 1)
        while before > 0 and not self._decoded[before]:
            before -= 1
        before_s, after_s = self._times_s[before], self._times_s[after]
        return before_s, after_s, before == after - 1 and after_s - before_s < LONG_S

    def look(self, number: int, thumbnail: Thumbnail) -> None:
        """Look at the next picture of a stretch."""
        for look in self._together[number]:
            look.add(thumbnail)

    def result(self) -> Boundaries:
        """Return the boundaries, after the last picture of the last span.

        Raises:
            InOrderError: there were fewer pictures than the first pass named.
        """
        for some in self._together:
            for each in some:
                each.check()
        cuts = [(at, odds) for at, odds in self._sure_s if not self._doubted(at)]
        for look in self._cut_looks:
            cuts += [(at, odds) for at, odds in look.finder.finish() if self._doubted(at)]
        transitions = self._transitions
        for gradual in self._gradual_looks:
            transitions += gradual.finder.finish()
        return joined(sorted(cuts), transitions, self._settings)

    def _doubted(self, time_s: float) -> bool:
        return any(start_s <= time_s <= end_s for start_s, end_s in self._doubts)


def united(spans: Sequence[Span]) -> list[Span]:
    """Return spans in order, those joined that overlap or nearly meet."""
    result: list[Span] = []
    for start_s, end_s in sorted(spans):
        if result and start_s <= result[-1][1] + SAMPLE_S:
            result[-1] = (result[-1][0], max(end_s, result[-1][1]))
        else:
            result.append((start_s, end_s))
    return result
