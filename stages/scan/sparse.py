"""Shot boundaries of a video of which most pictures are not decoded, as if all had been.

The search runs on the pictures that were decoded. A cut counts at once if its evidence is clear and the
pictures on both sides of it were decoded. Everywhere else where there may be a boundary, all pictures are
decoded afterwards and searched once more, with as many around them as the evidence looks at.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise

from models.media import Frame, NotSparseError, Skipped
from models.media.sparse import NEAR_S, Span
from stages.records import Interval
from stages.scan.cuts import CutFinder
from stages.scan.gradual import SAMPLE_S, GradualFinder
from stages.scan.shots import Boundaries, ShotSettings, joined, log_odds
from stages.scan.thumbnails import ThumbnailMaker

DOUBT = 1.0
"""Distance of log-odds from those that make a cut within which all pictures are looked at. Without them
the log-odds of cuts changed by up to 0.7 (13,000 pictures of 45 films)."""
CLOSE_S = 0.2
"""Time between two possible cuts within which all pictures are looked at."""
LONG_S = 0.09
"""Distance of two pictures from which one may have been lost between them."""
AROUND_CUT_S = 0.6
INNER_S = 0.5
"""Seconds decoded around an uncertain cut, and those at either end that only serve as surroundings."""
MIN_PEAK = 2.0
AROUND_GRADUAL_S = 1.0
"""Votes from which a gradual transition is possible, and seconds decoded around it."""


class SparseShots:
    """Cuts and gradual transitions by evidence on thumbnails."""

    def __init__(self, settings: ShotSettings) -> None:
        self._settings = settings
        self._least = log_odds(settings.cut_confidence)
        self._thumbnail = ThumbnailMaker()
        self._cuts, self._gradual = CutFinder(), GradualFinder()
        self._times_s, self._samples_s = array("d"), array("d")
        self._decoded = bytearray()
        self._sure_s: list[tuple[float, float]] = []
        self._transitions: list[Interval] = []
        self._spans: list[Span] = []
        self._seen: dict[int, tuple[CutFinder, GradualFinder]] = {}
        self._counts: Counter[int] = Counter()

    def add(self, frame: Frame | Skipped) -> None:
        """Look at the next picture."""
        self._times_s.append(frame.time_s)
        self._decoded.append(isinstance(frame, Frame))
        if not self._samples_s or frame.time_s >= self._samples_s[-1] + SAMPLE_S - 1e-6:
            self._samples_s.append(frame.time_s)
        if isinstance(frame, Frame):
            thumbnail = self._thumbnail(frame.time_s, frame.picture)
            self._cuts.add(thumbnail)
            self._gradual.add(thumbnail)

    def spans(self) -> list[Span]:
        """Return the spans in which all pictures must be looked at, after the last picture."""
        if all(self._decoded):
            self._sure_s, self._transitions = self._cuts.finish(), self._gradual.finish()
            return []
        doubts: list[Span] = []
        possible = [(at, odds) for at, odds in self._cuts.finish() if odds >= self._least - DOUBT]
        close = {at for (a, _), (b, _) in pairwise(possible) if b - a < CLOSE_S for at in (a, b)}
        for time_s, odds in possible:
            before_s, after_s, adjacent = self._neighbours(time_s)
            if adjacent and odds > self._least + DOUBT and time_s not in close:
                self._sure_s.append((time_s, odds))
            else:
                doubts.append((before_s - AROUND_CUT_S, after_s + AROUND_CUT_S))
        doubts += [
            (start_s - AROUND_GRADUAL_S, end_s + AROUND_GRADUAL_S)
            for start_s, end_s in self._gradual.stretches(MIN_PEAK)
        ]
        for start_s, end_s in sorted(doubts):
            # The finder of transitions samples the pictures from the first one on.
            first = max(0, bisect_right(self._samples_s, start_s) - 1)
            if self._spans and start_s <= self._spans[-1][1] + SAMPLE_S:
                self._spans[-1] = (self._spans[-1][0], max(end_s, self._spans[-1][1]))
            else:
                self._spans.append((self._samples_s[first], end_s))
        return self._spans

    def _neighbours(self, time_s: float) -> tuple[float, float, bool]:
        """Decoded pictures around a change, and whether certainly none lies between them."""
        after = bisect_left(self._times_s, time_s - NEAR_S)
        before = max(0, after - 1)
        while before > 0 and not self._decoded[before]:
            before -= 1
        before_s, after_s = self._times_s[before], self._times_s[after]
        return before_s, after_s, before == after - 1 and after_s - before_s < LONG_S

    def look(self, number: int, frame: Frame) -> None:
        """Look at the next picture of a span."""
        if number not in self._seen:
            self._seen[number] = CutFinder(), GradualFinder()
        self._counts[number] += 1
        thumbnail = self._thumbnail(frame.time_s, frame.picture)
        for finder in self._seen[number]:
            finder.add(thumbnail)

    def result(self) -> Boundaries:
        """Return the boundaries, after the last picture of the last span.

        Raises:
            NotSparseError: a span had fewer pictures than the first pass named.
        """
        for number, (start_s, end_s) in enumerate(self._spans):
            first = bisect_left(self._times_s, start_s - NEAR_S)
            if self._counts[number] < bisect_right(self._times_s, end_s + NEAR_S) - first:
                raise NotSparseError(f"pictures are lost between {start_s:.2f} and {end_s:.2f} s")
        inner = [self._inner(span) for span in self._spans]
        cuts = [(at, odds) for at, odds in self._sure_s if not any(a <= at <= b for a, b in inner)]
        transitions = self._transitions
        for number, (found, gradual) in self._seen.items():
            start_s, end_s = inner[number]
            cuts += [(at, odds) for at, odds in found.finish() if start_s <= at <= end_s]
            transitions += gradual.finish()
        return joined(sorted(cuts), transitions, self._settings)

    def _inner(self, span: Span) -> Span:
        """The part of a span in which the finders know all surroundings."""
        return (
            span[0] + INNER_S if span[0] > self._times_s[0] + NEAR_S else span[0],
            span[1] - INNER_S if span[1] < self._times_s[-1] - NEAR_S else span[1],
        )
