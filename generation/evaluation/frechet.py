"""Fréchet distance between two sets of features, each taken for a Gaussian.

    d = |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))

With centred samples X, Y over the square roots of their degrees of freedom, A = X'X and B = Y'Y, and the
last trace is the sum of the singular values of X Y'. That form never takes the root of a matrix, is exact
for covariances without full rank and costs what the smaller of samples and features costs.

A distance carries the name of its network: FVD is only what I3D or VideoMAE define
(:mod:`generation.evaluation.networks`), FID only what Inception defines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import Estimate, jackknife

Features = NDArray[np.floating]


def frechet_distance(made: Features, real: Features) -> float:
    """Return squared Fréchet distance of features ``[n, d]`` and ``[m, d]``, as FID and FVD are stated.

    Raises:
        ValueError: fewer than two samples in a set, different widths, or numbers that are not finite.
    """
    sets = [np.asarray(features, np.float64) for features in (made, real)]
    for features, name in zip(sets, ("made", "real"), strict=True):
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(
                f"a Fréchet distance needs at least 2 samples of each set, [n, d]; {name} is "
                f"{list(features.shape)}"
            )
        if not np.isfinite(features).all():
            raise ValueError(f"features of the {name} set hold numbers that are not finite")
    if sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(f"widths differ: made {sets[0].shape[1]}, real {sets[1].shape[1]}")
    means = [features.mean(axis=0) for features in sets]
    roots = [_root(features - mean) for features, mean in zip(sets, means, strict=True)]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(float(np.square(root).sum()) for root in roots)
    distance = float(np.square(means[0] - means[1]).sum()) + spread - 2 * float(shared)
    return max(distance, 0.0)


def frechet_estimate(
    made: Features, real: Features, made_groups: Sequence[str], real_groups: Sequence[str], *, seed: int = 0
) -> Estimate:
    """Return the distance and its interval over groups.

    Groups that both sets hold (clips made after real ones) are left out of both together.

    Raises:
        ValueError: as :func:`frechet_distance`.
    """
    split = len(made)
    paired = not set(made_groups).isdisjoint(real_groups)

    def distance(kept: NDArray[np.bool_]) -> float:
        rest = made[kept[:split]], real[kept[split:]]
        return frechet_distance(*rest) if min(map(len, rest)) > 1 or kept.all() else math.nan

    samples = [0] * (split + len(real)) if paired else [0] * split + [1] * len(real)
    return jackknife(distance, [*made_groups, *real_groups], samples, seed=seed)


def few_samples(made: int, real: int, width: int) -> str:
    """Return a note on sets too small for their features, empty where they are not."""
    fewest = min(made, real)
    if fewest > width:
        return ""
    return (
        f"{made} made and {real} real samples for {width} features: the covariances lack rank and the "
        "distance is too large; compare only with figures of as many samples"
    )


def _root(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R ``[min(n, d), d]`` such that R'R is the covariance of centred samples ``[n, d]``."""
    scaled: NDArray[np.float64] = centred / np.sqrt(len(centred) - 1)
    return scaled if len(scaled) <= scaled.shape[1] else np.asarray(np.linalg.qr(scaled, mode="r"))
