"""Gradual transitions - dissolves, fades through black and white - found on thumbnails.

Halfway through a dissolve every pixel is halfway between the pictures before and after it, so the path from
one to the other, by way of the pictures between, is hardly longer than the direct one. Where objects or
the camera move, each picture differs from all others, and the path is several times as long. A fade is a
dissolve to one colour.

Windows of several lengths slide over samples of the video; a logistic model weighs each, and every window
votes for the samples that it covers. ``python -m benchmarks.train_shots`` fits the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.records import Interval
from stages.scan.thumbnails import Thumbnail, alignment, difference, shared_colours

Evidence: TypeAlias = tuple[float, ...]

SAMPLE_S = 0.08
LENGTHS = (4, 6, 8, 12, 16, 20)
"""Lengths of the windows, in samples: a third of a second to one and a half."""
MIN_CHANGE = 25.0
MAX_PATH = 1.9
"""Bounds on a window's evidence beyond which it is not weighed."""
WEIGHTS = (-1.471, 6.972, -1.752, -19.735, -8.407, -0.707, -1.971, -1.832)
BIAS = 15.02
"""Of what :func:`weigh` returns, in its order."""
MIN_VOTE = 0.3
"""Probability below which a window does not vote."""
MIN_ODDS = math.log(MIN_VOTE / (1 - MIN_VOTE))
MIN_VOTES = 3.0
MIN_PEAK = 5.0
EDGE_SHARE = 0.5
"""Votes in a transition, at its peak, and share of the peak up to which it reaches."""


class GradualFinder:
    """Finds gradual transitions in a sequence of thumbnails.

    Attributes:
        witness: called with start, end and evidence of every window that is weighed; for training.
    """

    def __init__(self) -> None:
        self.witness: Callable[[float, float, Evidence], None] | None = None
        self._recent: list[Thumbnail] = []
        self._times_s: list[float] = []
        self._votes: list[float] = []

    def add(self, thumbnail: Thumbnail) -> None:
        """Look at the next picture."""
        if self._times_s and thumbnail.time_s < self._times_s[-1] + SAMPLE_S - 1e-6:
            return
        self._times_s.append(thumbnail.time_s)
        self._votes.append(0.0)
        self._recent = [*self._recent[-LENGTHS[-1] - LENGTHS[-1] // 2 :], thumbnail]
        for length in LENGTHS:
            # A quarter of the window on either side shows what moves without a transition.
            margin = length // 4
            if len(self._recent) < length + 2 * margin + 1:
                break
            end = len(self._recent) - margin
            least = -math.inf if self.witness else MIN_ODDS
            evidence = weigh(self._recent[end - length - 1 - margin :], length, margin, least)
            if evidence is None:
                continue
            if self.witness:
                window = self._recent[end - length - 1 : end]
                self.witness(window[0].time_s, window[-1].time_s, evidence)
            vote = probability(evidence)
            if vote >= MIN_VOTE:
                last = len(self._votes) - margin
                for place in range(last - length - 1, last):
                    self._votes[place] += vote

    def stretches(self, least: float) -> list[tuple[float, float]]:
        """Return start and end of every stretch of samples with votes, at least so many at its peak."""
        votes = np.asarray(self._votes)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], votes > 0, [0]))))
        return [
            (self._times_s[first], self._times_s[end - 1])
            for first, end in edges.reshape(-1, 2)
            if votes[first:end].max() >= least
        ]

    def finish(self) -> list[Interval]:
        """Return the transitions in order of time."""
        votes = np.asarray(self._votes)
        return [
            Interval(start_s=self._times_s[first], end_s=self._times_s[last])
            for first, last in peaks(votes)
        ]


def probability(evidence: Evidence) -> float:
    """Probability that a window covers a transition."""
    return 1 / (1 + math.exp(-min(30.0, max(-30.0, log_odds_of(evidence)))))


def log_odds_of(evidence: Evidence) -> float:
    """Log-odds of evidence, or of the first parts of it."""
    return BIAS + sum(w * x for w, x in zip(WEIGHTS, evidence, strict=False))


def weigh(
    samples: Sequence[Thumbnail], length: int, margin: int, least: float = -math.inf
) -> Evidence | None:
    """Return the evidence that a window holds a transition; None where there is no need to look.

    Args:
        samples: the window, with ``margin`` samples before and after it.
        length: of the window, in steps from its first to its last sample.
        least: log-odds; a window that cannot reach them is not weighed to the end.
    """
    window = samples[margin : margin + length + 1]
    first, middle, last = window[0], window[length // 2], window[-1]
    change = difference(first, last)
    if change < MIN_CHANGE:
        return None
    whole = distance(first, last)
    quarters = [window[length * quarter // 4] for quarter in range(5)]
    legs = [distance(a, b) / whole for a, b in pairwise(quarters)]
    if sum(legs) > MAX_PATH:
        return None
    step = max(distance(a, b) for a, b in pairwise(window)) / whole * length
    outside = (distance(samples[0], first) + distance(last, samples[-1])) / whole
    uniform = min(first.spread, last.spread) < 10
    spread = (first.spread + last.spread) / 2 + 1
    mixed = cv2.addWeighted(first.pixels, 0.5, last.pixels, 0.5, 0)
    evidence = (
        math.log(change),
        sum(legs),
        min(step, 6.0),
        float(cv2.norm(middle.pixels, mixed, cv2.NORM_L1)) / whole,
        shared_colours(first, last),
        min(outside, 1.0),
        0.0 if uniform else middle.spread / spread,
    )
    # The alignment costs more than all other evidence; it lies in [-1, 1].
    if log_odds_of(evidence) + abs(WEIGHTS[-1]) < least:
        return None
    return (*evidence, alignment(first, last))


def distance(a: Thumbnail, b: Thumbnail) -> float:
    """Sum of absolute differences of two thumbnails, and 1."""
    return float(cv2.norm(a.pixels, b.pixels, cv2.NORM_L1)) + 1


def peaks(votes: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return first and last index of every stretch of votes that stands for one transition."""
    found: list[tuple[int, int]] = []
    left = votes.copy()
    while left.size and left.max() >= MIN_PEAK:
        top = int(left.argmax())
        least = max(MIN_VOTES, EDGE_SHARE * left[top])
        first = last = top
        while first > 0 and left[first - 1] >= least:
            first -= 1
        while last + 1 < left.size and left[last + 1] >= least:
            last += 1
        found.append((first, last))
        # The slopes of a peak are no peaks of their own.
        while first > 0 and 0 < left[first - 1] <= left[first] + 1e-9:
            first -= 1
        while last + 1 < left.size and 0 < left[last + 1] <= left[last] + 1e-9:
            last += 1
        left[first : last + 1] = 0
    return sorted(found)
