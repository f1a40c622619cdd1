"""Gradual transitions - dissolves, fades through black and white - found on thumbnails.

Halfway through a dissolve every pixel is halfway between the pictures before and after it, so the path from
one to the other, by way of the pictures between, is hardly longer than the direct one. Where objects or
the camera move, each picture differs from all others, and the path is several times as long. A fade is a
dissolve to one colour.

Windows of several lengths slide over samples of the video; a small network weighs each, and every window
votes for the samples that it covers. ``python -m benchmarks.train_shots`` fits the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from models.perceptron import Perceptron
from stages.records import Interval
from stages.scan.thumbnails import Thumbnail, active_area, contrast, difference, shared_colours

Evidence: TypeAlias = tuple[float, ...]

SAMPLE_S = 0.08
LENGTHS = (4, 6, 8, 12, 16, 20)
"""Lengths of the windows, in samples: a third of a second to one and a half."""
MIN_CHANGE = 25.0
MAX_PATH = 1.9
"""Bounds on a window's evidence beyond which it is not weighed."""
WEIGHTS_FILE = Path(__file__).with_name("gradual.safetensors")
MIN_VOTE = 0.3
"""Probability below which a window does not vote."""
MIN_VOTES = 3.0
EDGE_SHARE = 0.5
"""Fewest votes of each sample in a transition, in number and as a share of the votes at its peak."""


class GradualFinder:
    """Finds gradual transitions in a sequence of thumbnails.

    Args:
        probability: that a window holds a transition, by its start, its end and the evidence; that of the
            trained network by default.
    """

    def __init__(self, probability: Callable[[float, float, Evidence], float] | None = None) -> None:
        self._probability = probability or trained(Perceptron.load(WEIGHTS_FILE))
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
            evidence = weigh(self._recent[end - length - 1 - margin :], length, margin)
            if evidence is None:
                continue
            window = self._recent[end - length - 1 : end]
            vote = self._probability(window[0].time_s, window[-1].time_s, evidence)
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


def trained(network: Perceptron) -> Callable[[float, float, Evidence], float]:
    """Return a judge of evidence at any time."""
    return lambda _, __, evidence: network.probability(evidence)


def weigh(samples: Sequence[Thumbnail], length: int, margin: int) -> Evidence | None:
    """Return the evidence that a window holds a transition; None where there is no need to look.

    Args:
        samples: the window, with ``margin`` samples before and after it.
        length: of the window, in steps from its first to its last sample.
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
    area = active_area(first, last)
    contrasts = [contrast(one, area) for one in (first, middle, last)]
    uniform = min(contrasts[0], contrasts[2]) < 10
    mixed = cv2.addWeighted(first.pixels, 0.5, last.pixels, 0.5, 0)
    return (
        math.log(change),
        sum(legs),
        min(step, 6.0),
        float(cv2.norm(middle.pixels, mixed, cv2.NORM_L1)) / whole,
        shared_colours(first, last),
        min(outside, 1.0),
        0.0 if uniform else 2 * contrasts[1] / (contrasts[0] + contrasts[2] + 2),
    )


@lru_cache(maxsize=512)
def distance(a: Thumbnail, b: Thumbnail) -> float:
    """Sum of absolute differences of two thumbnails, and 1; remembered, since windows share most pairs."""
    return float(cv2.norm(a.pixels, b.pixels, cv2.NORM_L1)) + 1


def peaks(votes: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return first and last index of every stretch of votes that stands for one transition."""
    found: list[tuple[int, int]] = []
    left = votes.copy()
    while left.size and left.max() >= MIN_VOTES:
        top = int(left.argmax())
        least = max(MIN_VOTES, EDGE_SHARE * left[top])
        first = last = top
        while first > 0 and left[first - 1] >= least:
            first -= 1
        while last + 1 < left.size and left[last + 1] >= least:
            last += 1
        # At a single sample nothing can change gradually.
        if first < last:
            found.append((first, last))
        # The slopes of a peak are no peaks of their own.
        while first > 0 and 0 < left[first - 1] <= left[first] + 1e-9:
            first -= 1
        while last + 1 < left.size and 0 < left[last + 1] <= left[last] + 1e-9:
            last += 1
        left[first : last + 1] = 0
    return sorted(found)
