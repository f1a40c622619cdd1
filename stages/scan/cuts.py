"""Hard cuts, found on thumbnails by comparing pictures in time, not by their number.

A cut is a change that stands out from the changes around it, that lasts, and after which colours and shapes
are others. So a flash is no cut (the picture returns), a fast pan or a shaking camera is none (the changes
around are as large), a jump in time within one shot is none (colours and shapes stay). Nor is it a cut
when a hand that fills the picture leaves it: each part behind it was seen in one of the pictures before.

A small network weighs the evidence; ``python -m benchmarks.train_shots`` fits it.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from models.perceptron import Perceptron
from stages.scan.thumbnails import (
    Thumbnail,
    active_area,
    alignment,
    difference,
    least_changes,
    shared_colours,
)

Evidence: TypeAlias = tuple[float, ...]

REPEAT = 0.5
"""Change in grey levels up to which a picture repeats the one before: films shown at a higher rate."""
MIN_CHANGE = 8.0
MIN_RATIO = 1.4
"""Change and its ratio to the changes around it below which nothing is weighed."""
AROUND_S = 0.2
LASTS_S = 0.3
"""Time around a change within which other changes are compared, and the picture must not return."""
SEEN_S = 0.5
MOST_SEEN = 8
"""Time around a change within which parts of a picture may be seen again, and most pictures searched."""
CALM_SHARES = (0.15, 0.5)
"""Shares of the blocks of a picture, the calmest first, whose largest change is evidence."""
LOST_S = (0.1, 0.5)
"""Distances of two pictures between which others may have been lost; a longer one is a still picture."""
ALONE_S = 0.045
"""Time from a change to the last picture up to which what follows is a single picture of a film."""
ENOUGH_LASTS = 0.6
"""Share of a change that lasts, from which more says nothing more."""
WEIGHTS_FILE = Path(__file__).with_name("cuts.safetensors")


@dataclass(frozen=True)
class Change:
    """A picture and how far it differs from the one before.

    Attributes:
        lost_s: time before it from which pictures were lost; 0 as a rule.
    """

    thumbnail: Thumbnail
    size: float
    lost_s: float = 0.0

    @property
    def time_s(self) -> float:
        return self.thumbnail.time_s


class CutFinder:
    """Finds hard cuts in a sequence of thumbnails.

    Args:
        odds: log odds of a cut by the time and the evidence of a change; the trained network by default.

    Attributes:
        changed_s: times of the pictures that did not repeat the one before.
    """

    def __init__(self, odds: Callable[[float, Evidence], float] | None = None) -> None:
        self.changed_s = array("d")
        self._odds = odds or trained(Perceptron.load(WEIGHTS_FILE))
        self._found: list[tuple[float, float]] = []
        self._changes: list[Change] = []
        self._next = 1
        self._last_s = 0.0
        self._distances_s: deque[float] = deque(maxlen=16)

    def add(self, thumbnail: Thumbnail) -> None:
        """Look at the next picture."""
        size = difference(self._changes[-1].thumbnail, thumbnail) if self._changes else 0.0
        if self._changes:
            self._distances_s.append(thumbnail.time_s - self._last_s)
        if not self._changes or size > REPEAT:
            self._changes.append(Change(thumbnail, size, self._lost_s()))
            self.changed_s.append(thumbnail.time_s)
        self._last_s = thumbnail.time_s
        self._judge(thumbnail.time_s)

    def finish(self) -> list[tuple[float, float]]:
        """Return (time, log-odds) of every change that was weighed.

        The time is that of the first picture after it. Where pictures were lost before that one, the change
        may lie anywhere between the two pictures that are left: the time is the middle between them.
        """
        # The last picture alone is no shot, at a higher rate neither; one that stays is.
        while self._changes and self._changes[-1].time_s > self._last_s - ALONE_S:
            self._changes.pop()
        self._judge(math.inf)
        return self._found

    def _lost_s(self) -> float:
        """The last distance of two pictures, if it is much longer than others around; else 0."""
        if len(self._distances_s) < 4:
            return 0.0
        last_s = self._distances_s[-1]
        usual_s = sorted(self._distances_s)[len(self._distances_s) // 4]
        return last_s if LOST_S[0] < last_s < LOST_S[1] and last_s > 2 * usual_s else 0.0

    def _judge(self, now_s: float) -> None:
        """Weigh the changes after which enough was seen."""
        changes = self._changes
        while self._next < len(changes):
            centre = changes[self._next]
            if now_s < centre.time_s + SEEN_S and len(changes) < self._next + 3 + 30:
                break
            evidence = weigh(changes, self._next)
            if evidence is not None:
                time_s = round(centre.time_s - centre.lost_s / 2, 6)
                self._found.append((time_s, self._odds(centre.time_s, evidence)))
            self._next += 1
        # What lies behind is compared with for a while: the half second before, at 60 pictures a second.
        while self._next > 60:
            del changes[:20]
            self._next -= 20


def trained(network: Perceptron) -> Callable[[float, Evidence], float]:
    """Return a judge of evidence at any time."""
    return lambda _, evidence: network.odds(evidence)


def weigh(changes: Sequence[Change], index: int) -> Evidence | None:
    """Return the evidence for a cut before a picture; None where there is no need to look."""
    centre = changes[index]
    if centre.size < MIN_CHANGE:
        return None
    ratio = centre.size / (usual_change(changes, index) + 1)
    if ratio < MIN_RATIO:
        return None
    before, after = settled(changes, index)
    size = difference(before, after)
    earlier = [c.thumbnail for c in changes[:index] if c.time_s >= before.time_s - LASTS_S][-8:]
    later = [c.thumbnail for c in changes[index:] if c.time_s <= after.time_s + LASTS_S][-8:]
    returns = min(difference(a, b) for a in earlier for b in later)
    return (
        math.log(size + 1),
        math.log(ratio),
        math.log(shared_colours(before, after) + 0.1),
        math.log(min(shared_colours(earlier[0], before), shared_colours(after, later[-1])) + 0.1),
        alignment(before, after),
        min(returns / centre.size, ENOUGH_LASTS),
        *returning(changes, index, before, after),
    )


def returning(
    changes: Sequence[Change], index: int, before: Thumbnail, after: Thumbnail
) -> tuple[float, ...]:
    """Return how much the calm blocks after a change differ from all pictures before it, and vice versa.

    Where a hand leaves, the parts behind it were seen in several of the pictures before, each at some time.
    Where it enters, they are seen again afterwards. The shot after a cut shows nothing of the one before.
    """
    now_s = changes[index].time_s
    earlier = [c.thumbnail for c in changes[:index] if c.time_s >= now_s - SEEN_S]
    later = [c.thumbnail for c in changes[index:] if c.time_s <= now_s + SEEN_S]
    area = active_area(before, after)
    found = []
    for one, others in ((after, spread(before, earlier[::-1])), (before, spread(after, later))):
        ordered = np.sort(least_changes(one, others, area), axis=None)
        found += [math.log(int(ordered[int(share * ordered.size)]) + 1) for share in CALM_SHARES]
    return tuple(found)


def spread(nearest: Thumbnail, pictures: Sequence[Thumbnail]) -> Sequence[Thumbnail]:
    """Return a picture and at most ``MOST_SEEN`` of those beyond it, evenly spread."""
    beyond = pictures[pictures.index(nearest) + 1 :] if nearest in pictures else []
    return [nearest, *beyond[:: len(beyond) // MOST_SEEN + 1]]


def settled(changes: Sequence[Change], index: int) -> tuple[Thumbnail, Thumbnail]:
    """Return the pictures before and after a change, beyond a picture in which both are woven.

    A cut between two fields of interlaced or telecined video leaves one picture with lines of both shots.
    """
    first, last = index - 1, index
    least = changes[index].size / 2
    if last + 1 < len(changes) and changes[last + 1].size > least:
        last += 1
    elif first > 0 and changes[first].size > least:
        first -= 1
    return changes[first].thumbnail, changes[last].thumbnail


def usual_change(changes: Sequence[Change], index: int) -> float:
    """Change expected from the motion around a picture, over the time since the picture before.

    Motion changes a picture with the square root of the time, roughly, since what has moved away cannot
    differ more. The largest change around is left out: it may be the cut before.
    """
    centre = changes[index]
    span_s = centre.time_s - changes[index - 1].time_s
    around = []
    for other in range(max(1, index - 8), min(len(changes), index + 9)):
        distance_s = abs(changes[other].time_s - centre.time_s)
        if other != index and (distance_s <= AROUND_S or (abs(other - index) <= 2 and distance_s <= 1)):
            share = span_s / (changes[other].time_s - changes[other - 1].time_s)
            around.append(changes[other].size * math.sqrt(min(3.0, max(1 / 3, share))))
    around.sort()
    return float(np.mean(around[:-1] if len(around) > 2 else around)) if around else 0.0
