"""Intervals: they cover what they should, over groups, and say when they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.intervals import bootstrap, jackknife


def test_the_interval_of_a_mean_covers_it() -> None:
    """Of 300 samples of 40 exponential numbers, about 95 % of the intervals hold the true mean."""
    random = np.random.default_rng(0)
    covered = [_holds(bootstrap(random.exponential(size=40), seed=draw), 1.0) for draw in range(300)]
    assert 0.90 <= np.mean(covered) <= 0.98


def test_values_of_one_group_are_no_independent_witnesses() -> None:
    """20 videos of 10 equal clips each: taken singly, the interval is far too narrow."""
    random = np.random.default_rng(1)
    grouped, single = [], []
    for draw in range(100):
        values = np.repeat(random.normal(size=20), 10)
        groups = [f"video {number // 10}" for number in range(200)]
        grouped.append(_holds(bootstrap(values, groups, seed=draw), 0.0))
        single.append(_holds(bootstrap(values, seed=draw), 0.0))
    assert np.mean(grouped) >= 0.87
    assert np.mean(single) <= 0.6


def test_an_interval_is_repeatable_and_depends_on_the_seed() -> None:
    values = np.random.default_rng(2).normal(size=30)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_groups_of_unlike_size_weigh_by_their_values() -> None:
    estimate = bootstrap([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"])
    assert (estimate.mean, estimate.low, estimate.high, estimate.n) == (0.25, 0.0, 1.0, 2)


def test_one_group_has_no_interval() -> None:
    estimate = bootstrap([1.0, 2.0], ["a", "a"])
    assert estimate.mean == 1.5 and estimate.n == 1
    assert math.isnan(estimate.low) and math.isnan(estimate.high)
    assert str(estimate) == "1.5 (n = 1, no interval)"
    assert math.isnan(jackknife(lambda kept: 1.0, ["a", "a"]).low)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0], [2.0]]])
def test_no_interval_of_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"at least one value|lists of one length"):
        bootstrap(values)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """For 15 groups of one the error is the textbook's: s / sqrt(n), t with n - 1 degrees."""
    values = np.random.default_rng(5).normal(size=15)
    estimate = jackknife(lambda kept: float(values[kept].mean()), [str(n) for n in range(15)])
    reach = 2.144787 * values.std(ddof=1) / math.sqrt(15)
    assert estimate.mean == pytest.approx(values.mean())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(reach, rel=1e-5)


def test_the_jackknife_of_two_samples_adds_their_variances() -> None:
    random = np.random.default_rng(6)
    values = np.concatenate([random.normal(size=12), 5 + 3 * random.normal(size=17)])
    first = np.arange(29) < 12

    def difference(kept: NDArray[np.bool_]) -> float:
        return float(values[kept & ~first].mean() - values[kept & first].mean())

    estimate = jackknife(difference, [str(n) for n in range(29)], [0] * 12 + [1] * 17)
    error = math.sqrt(values[first].var(ddof=1) / 12 + values[~first].var(ddof=1) / 17)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(2.200985 * error, rel=1e-5)


def _holds(estimate: object, truth: float) -> bool:
    low, high = (getattr(estimate, end) for end in ("low", "high"))
    return bool(low <= truth <= high)
