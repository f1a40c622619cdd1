"""The Fréchet distance against its closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from generation.evaluation.frechet import few_samples, frechet_distance, frechet_estimate

Numbers = NDArray[np.float64]


def exactly(mean: Numbers, covariance: Numbers, samples: int, seed: int) -> Numbers:
    """Samples whose own mean and covariance are the ones given, to rounding."""
    noise = np.random.default_rng(seed).normal(size=(samples, len(mean)))
    noise -= noise.mean(axis=0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    values: Numbers = white @ np.linalg.cholesky(covariance).T + mean
    return values


def test_gaussians_with_diagonal_covariances() -> None:
    """|0 - (3, 4)|^2 + (1 - 2)^2 + (3 - 0.5)^2."""
    made = exactly(np.zeros(2), np.diag([1.0, 9.0]), 50, 0)
    real = exactly(np.array([3.0, 4.0]), np.diag([4.0, 0.25]), 80, 1)
    assert frechet_distance(made, real) == pytest.approx(25 + 1 + 6.25)


def test_gaussians_whose_covariances_do_not_commute() -> None:
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2.0], [-2.0, 1.0]])
    made, real = exactly(np.zeros(2), a, 30, 2), exactly(np.ones(2), b, 60, 3)
    assert not np.allclose(a @ b, b @ a)
    expected = 2 + np.trace(a) + np.trace(b) - 2 * np.trace(sqrtm(a @ b)).real
    assert frechet_distance(made, real) == pytest.approx(expected)
    assert frechet_distance(real, made) == pytest.approx(expected)


def test_samples_fewer_than_features() -> None:
    """Both covariances lack rank: the textbook's root is taken of a damped product, ours of none."""
    random = np.random.default_rng(4)
    made, real = random.normal(size=(12, 40)), random.normal(size=(9, 40)) + 0.3
    a, b = np.cov(made.T), np.cov(real.T)
    damped = [matrix + 1e-9 * np.eye(40) for matrix in (a, b)]
    textbook = (
        np.square(made.mean(0) - real.mean(0)).sum()
        + np.trace(a)
        + np.trace(b)
        - 2 * np.trace(sqrtm(damped[0] @ damped[1])).real
    )
    assert frechet_distance(made, real) == pytest.approx(textbook, rel=1e-3)


def test_a_set_is_nowhere_from_itself_and_order_plays_no_part() -> None:
    features = np.random.default_rng(5).normal(size=(30, 64)).astype(np.float32) * 100
    other = np.random.default_rng(6).permutation(features)
    assert frechet_distance(features, other) == pytest.approx(0, abs=1e-6)


def test_constant_features_leave_the_distance_of_the_means() -> None:
    assert frechet_distance(np.ones((5, 3)), np.full((4, 3), 3.0)) == pytest.approx(12)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (np.ones((1, 3)), r"at least 2 samples of each set, \[n, d\]; made is \[1, 3\]"),
        (np.ones((0, 3)), "at least 2 samples"),
        (np.ones(3), "at least 2 samples"),
        (np.ones((4, 2)), "widths differ: made 2, real 3"),
        (np.full((4, 3), np.inf), "made set hold numbers that are not finite"),
    ],
)
def test_sets_without_a_distance(made: Numbers, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        frechet_distance(made, np.ones((4, 3)))


def test_few_samples_are_told() -> None:
    assert "covariances lack rank" in few_samples(100, 2000, 100)
    assert few_samples(101, 2000, 100) == ""


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_spans_what_other_samples_give(paired: bool) -> None:
    """The distance of fresh sets of the same size lies within about 95 % of the intervals."""
    random = np.random.default_rng(7)

    def sets() -> tuple[Numbers, Numbers]:
        real = random.normal(size=(60, 4))
        made = (real if paired else random.normal(size=(60, 4))) + 0.6 * random.normal(size=(60, 4)) + 0.5
        return made, real

    typical = np.mean([frechet_distance(*sets()) for _ in range(100)])
    names = [f"video {number // 2}" for number in range(60)]
    others = names if paired else [f"other {name}" for name in names]
    held = []
    for draw in range(60):
        estimate = frechet_estimate(*sets(), names, others, seed=draw)
        held.append(estimate.low <= typical <= estimate.high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_one_film_alone_has_a_distance_and_no_interval() -> None:
    random = np.random.default_rng(8)
    made, real = random.normal(size=(4, 3)), random.normal(size=(9, 3))
    estimate = frechet_estimate(made, real, ["film"] * 4, [f"video {n}" for n in range(9)])
    assert estimate.mean == pytest.approx(frechet_distance(made, real))
    assert math.isnan(estimate.low) and estimate.n == 10
