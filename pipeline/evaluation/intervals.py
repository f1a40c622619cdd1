"""Confidence intervals over independent groups: stories, videos.

Clips of one video resemble each other, so a video is drawn or left out whole. A percentile bootstrap for
means; a jackknife for distances between sets, which a bootstrap would bias: a sample with repeated items
has a smaller covariance than the set that it was drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

RESAMPLES = 1000
"""Draws of a bootstrap."""
LEVEL = 0.95
"""Share of all samples whose interval holds the true value."""
BLOCKS = 20
"""Most blocks of a jackknife: more cost time and change the interval little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        mean: of all values; their median, or the distance of the whole sets, where the figure is one.
        low: lower end; NaN where one group alone gives no interval.
        high: upper end.
        n: independent groups.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.4g} (n = {self.n}, no interval)"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    values: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    statistic: Literal["mean", "median"] = "mean",
    seed: int = 0,
) -> Estimate:
    """Mean or median of values and its percentile interval, groups resampled whole.

    Args:
        values: ``[n]``.
        groups: the group of each value; each its own if left out.
        seed: of the resampling; the same values and seed give the same interval.

    Raises:
        ValueError: no values, or some are not finite.
    """
    numbers = np.asarray(values, np.float64)
    names = np.asarray(groups if groups is not None else np.arange(len(numbers)))
    if numbers.ndim != 1 or numbers.shape != names.shape:
        raise ValueError(f"values {numbers.shape} and groups {names.shape} must be two lists of one length")
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError("an interval needs at least one value, and only finite ones")
    found, of_value = np.unique(names, return_inverse=True)
    middle, count = float(np.mean(numbers) if statistic == "mean" else np.median(numbers)), len(found)
    if count < 2:
        return Estimate(mean=middle, low=math.nan, high=math.nan, n=count)
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    if statistic == "mean":
        sums, sizes = np.bincount(of_value, weights=numbers), np.bincount(of_value)
        resampled = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    else:
        parts = [numbers[of_value == group] for group in range(count)]
        resampled = np.array([np.median(np.concatenate([parts[group] for group in row])) for row in drawn])
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean=middle, low=float(low), high=float(high), n=count)


def jackknife(
    statistic: Callable[[NDArray[np.bool_]], float],
    groups: Sequence[str],
    samples: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> Estimate:
    """A statistic of all items and its interval, from leaving out groups.

    The interval is the estimate plus and minus Student's t times the delete-a-block standard error: how
    the figure would vary between sets *of this size*. It does not take away the bias of small sets.

    Args:
        statistic: its value over the items kept, a mask ``[n]``; NaN where it has none.
        groups: the group of each item; at most :data:`BLOCKS` blocks of groups are left out in turn.
        samples: which independent sample each item belongs to, where there are several: blocks are left
            out of one sample at a time, and the variances added.
        seed: of the division into blocks.
    """
    names = np.asarray(groups)
    sample = np.zeros(len(names), int) if samples is None else np.asarray(samples)
    random = np.random.default_rng(seed)
    variance, fewest = 0.0, BLOCKS
    for number in np.unique(sample):
        of_this = sample == number
        found, of_item = np.unique(names[of_this], return_inverse=True)
        blocks = min(BLOCKS, len(found))
        fewest = min(fewest, blocks)
        block = np.full(len(names), -1)
        block[of_this] = (random.permutation(len(found)) % blocks)[of_item]
        if blocks > 1:
            without = np.array([statistic(block != left_out) for left_out in range(blocks)])
            variance += (blocks - 1) / blocks * float(np.square(without - without.mean()).sum())
    whole, count = statistic(np.ones(len(names), bool)), len(set(groups))
    if fewest < 2 or not math.isfinite(variance):
        return Estimate(mean=whole, low=math.nan, high=math.nan, n=count)
    reach = float(student.ppf((1 + LEVEL) / 2, fewest - 1)) * math.sqrt(variance)
    return Estimate(mean=whole, low=whole - reach, high=whole + reach, n=count)
