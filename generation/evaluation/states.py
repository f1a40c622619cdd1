"""Agreement of predicted states with the true ones: error, cosine, retrieval, assignment.

Ties count as what they are, a guess: a prediction that cannot tell candidates apart gets the expected
figure of breaking the tie at random, never the best one. Arrays are ``[..., d]`` floats; a state
``[tokens, width]`` is flattened by the caller, and standardised if it shall be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Scores = NDArray[np.float64]

TIE = 1e-9
"""Cosines closer than this are equal: the same numbers, added in another order, differ by less."""
MAX_ASSIGNED = 12
"""Items that :func:`assignment_exact` takes; its work grows as 2^k k."""


def mse(pred: Floats, true: Floats) -> Scores:
    """Return mean squared error of each row, ``[n]``, of ``[n, d]`` and ``[n, d]``."""
    made, real = _finite(pred), _finite(true)
    _same_shape(made, real)
    difference: Scores = np.square(made - real).mean(axis=-1)
    return difference


def cosine(pred: Floats, true: Floats) -> Scores:
    """Return cosine of each pair of rows, ``[n]``, of ``[n, d]`` and ``[n, d]``; 0 where either is zero."""
    _same_shape(pred, true)
    similarity: Scores = np.einsum("...d,...d->...", unit(pred), unit(true))
    return similarity


def retrieval(similarity: Floats, index: NDArray[np.integer]) -> Scores:
    """Return the rank of each true candidate among all.

    Args:
        similarity: of predictions and candidates, ``[n, m]``; minus infinity excludes a candidate.
        index: ``[n]``, which candidate is the true one of each prediction.

    Returns:
        ranks ``[n]`` from 1 to m; the mean of the ranks that tied candidates share. A recall is no function
        of these where there are ties: see :func:`recall`.
    """
    above, tied = _places(similarity, index)
    ranks: Scores = 1 + above + (tied - 1) / 2
    return ranks


def recall(similarity: Floats, index: NDArray[np.integer], *, k: int) -> Scores:
    """Return the probability ``[n]`` that the true candidate is among the best ``k``.

    Ties are broken at random.

    Arguments as of :func:`retrieval`.
    """
    if k < 1:
        raise ValueError(f"recall: k must be at least 1, got {k}")
    above, tied = _places(similarity, index)
    probability: Scores = np.clip((k - above) / tied, 0.0, 1.0)
    return probability


def cosines(pred: Floats, truth: Floats) -> Scores:
    """Return the cosine of all pairs, ``[..., n, m]``, of ``[..., n, d]`` and ``[..., m, d]``."""
    similarity: Scores = unit(pred) @ unit(truth).swapaxes(-1, -2)
    return similarity


def assignment_exact(similarity: Floats) -> Scores:
    """Return the probability that each group's best assignment of predictions to true states is right.

    The best assignment is the permutation with the largest sum; where several are best, one of them is
    guessed.

    Args:
        similarity: ``[v, k, k]`` of predictions, in the true order, and true states.

    Raises:
        ValueError: more than :data:`MAX_ASSIGNED` items.
    """
    count = similarity.shape[1]
    if not 1 <= count <= MAX_ASSIGNED:
        raise ValueError(f"assignment: from 1 to {MAX_ASSIGNED} items a group, got {count}")
    # In float32 the same cosines, added in another order, would differ by more than a tie.
    exact = np.asarray(similarity, np.float64)
    best, ways = _best_assignments(exact)
    right = np.trace(exact, axis1=1, axis2=2)
    probability: Scores = np.where(right >= best - TIE * count, 1 / ways, 0.0)
    return probability


def _best_assignments(score: Scores) -> tuple[Scores, Scores]:
    """Return the largest sum over permutations of ``[v, k, k]``, and how many reach it, ``[v]`` each.

    Dynamic programming over the sets of columns that the first rows have taken.
    """
    groups, count, _ = score.shape
    best = {0: np.zeros(groups)}
    ways = {0: np.ones(groups)}
    for taken in range(1, 2**count):
        row = taken.bit_count() - 1
        columns = [column for column in range(count) if taken >> column & 1]
        sums = np.stack([best[taken ^ 1 << column] + score[:, row, column] for column in columns])
        before = np.stack([ways[taken ^ 1 << column] for column in columns])
        best[taken] = sums.max(axis=0)
        ways[taken] = np.where(sums >= best[taken] - TIE * count, before, 0).sum(axis=0)
    return best[2**count - 1], ways[2**count - 1]


def _places(similarity: Floats, index: NDArray[np.integer]) -> tuple[Scores, Scores]:
    """Return how many candidates are better than the true one, and how many as good, itself included."""
    if len(similarity) != len(index):
        raise ValueError(f"{len(similarity)} predictions, but {len(index)} indices of true candidates")
    if len(index) and (index.min() < 0 or index.max() >= similarity.shape[1]):
        raise ValueError(f"an index lies outside the {similarity.shape[1]} candidates")
    own = similarity[np.arange(len(index)), index][:, None]
    above = (similarity > own + TIE).sum(axis=1)
    tied = (np.abs(similarity - own) <= TIE).sum(axis=1)
    return above.astype(np.float64), tied.astype(np.float64)


def unit(states: Floats) -> Scores:
    """Return states ``[..., d]`` of length one; zero stays zero."""
    values = _finite(states)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    scaled: Scores = values / np.where(length > 0, length, 1.0)
    return scaled


def _finite(states: Floats) -> Scores:
    values = np.asarray(states, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("states hold numbers that are not finite")
    return values


def _same_shape(pred: Floats, true: Floats) -> None:
    if pred.shape != true.shape:
        raise ValueError(f"shapes differ: predicted {pred.shape}, true {true.shape}")
