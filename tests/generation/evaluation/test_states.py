"""Agreement of states: known answers, and no reward for predictions that say nothing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from generation.evaluation.states import assignment_exact, cosine, cosines, mse, recall, retrieval

RANDOM = np.random.default_rng(0)


def test_cosine_and_error_of_known_vectors() -> None:
    pred = np.array([[3.0, 4.0], [1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]], np.float32)
    true = np.array([[6.0, 8.0], [0.0, 5.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    assert cosine(pred, true) == pytest.approx([1, 0, -1, 0])
    assert mse(pred, true) == pytest.approx([12.5, 13, 4.5, 0.5])


def test_retrieval_ranks_by_cosine_not_by_length() -> None:
    truth = np.array([[1.0, 0.0], [100.0, 100.0], [0.0, 1.0]])
    pred = np.array([[0.1, 0.01], [0.1, 0.01], [0.1, 0.01]])
    index = np.array([0, 1, 2])
    assert retrieval(cosines(pred, truth), index).tolist() == [1, 2, 3]
    assert recall(cosines(pred, truth), index, k=2).tolist() == [1, 1, 0]


def test_retrieval_gives_tied_candidates_their_mean_rank() -> None:
    """The second and the third candidate point the same way, in float32 of different lengths."""
    direction = RANDOM.normal(size=300).astype(np.float32)
    truth = np.stack([-direction, direction, direction * 2, RANDOM.normal(size=300)])
    ranks = retrieval(cosines(direction[None], truth), np.array([2]))
    assert ranks.tolist() == [1.5]
    assert recall(cosines(direction[None], truth), np.array([2]), k=1).tolist() == [0.5]
    assert recall(cosines(direction[None], truth), np.array([2]), k=2).tolist() == [1]


def test_a_prediction_without_direction_gets_chance() -> None:
    truth = RANDOM.normal(size=(10, 7))
    nothing, index = np.zeros((10, 7)), np.arange(10)
    assert retrieval(cosines(nothing, truth), index).tolist() == [5.5] * 10
    assert recall(cosines(nothing, truth), index, k=1) == pytest.approx([0.1] * 10)
    assert recall(cosines(nothing, truth), index, k=5) == pytest.approx([0.5] * 10)


@pytest.mark.parametrize("items", [1, 2, 3, 5])
def test_a_constant_prediction_is_assigned_by_chance(items: int) -> None:
    true = RANDOM.normal(size=(20, items, 33)).astype(np.float32)
    constant = np.repeat(RANDOM.normal(size=(20, 1, 33)), items, axis=1).astype(np.float32)
    assert assignment_exact(cosines(constant, true)) == pytest.approx([1 / math.factorial(items)] * 20)
    assert assignment_exact(cosines(np.zeros_like(true), true)) == pytest.approx(
        [1 / math.factorial(items)] * 20
    )


def test_assignment_of_the_truth_to_itself() -> None:
    true = RANDOM.normal(size=(8, 4, 16))
    assert assignment_exact(cosines(true, true)).tolist() == [1] * 8
    assert assignment_exact(cosines(true[:, [1, 0, 2, 3]], true)).tolist() == [0] * 8
    true[:, 3] = true[:, 2] * 3
    assert assignment_exact(cosines(true, true)).tolist() == [0.5] * 8, (
        "two true states cannot be told apart"
    )


def test_assignment_in_single_precision_is_that_in_double() -> None:
    similarity = RANDOM.normal(size=(200, 3, 3)).astype(np.float32)
    found = assignment_exact(similarity)
    assert found.tolist() == assignment_exact(similarity.astype(np.float64)).tolist()


@pytest.mark.parametrize("items", [3, 6])
def test_assignment_agrees_with_brute_force_and_with_scipy(items: int) -> None:
    true = RANDOM.normal(size=(60, items, 5))
    pred = true + 1.5 * RANDOM.normal(size=true.shape)
    found = assignment_exact(cosines(pred, true))
    assert 0 < found.mean() < 1, "both outcomes are compared"
    for group in range(len(true)):
        score = cosines(pred[group], true[group])
        order = max(
            itertools.permutations(range(items)), key=lambda p: sum(score[i, j] for i, j in enumerate(p))
        )
        assert found[group] == (order == tuple(range(items)))
        assert found[group] == (linear_sum_assignment(-score)[1].tolist() == list(range(items)))


def test_many_items_are_assigned_too() -> None:
    true = RANDOM.normal(size=(2, 10, 40))
    assert assignment_exact(cosines(true + 0.01, true)).tolist() == [1, 1]
    with pytest.raises(ValueError, match="from 1 to 12 items"):
        assignment_exact(cosines(np.ones((1, 13, 2)), np.ones((1, 13, 2))))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        cosine(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="not finite"):
        cosine(np.full((1, 2), np.nan), np.ones((1, 2)))
    with pytest.raises(ValueError, match="outside the 2 candidates"):
        retrieval(cosines(np.ones((1, 2)), np.ones((2, 2))), np.array([2]))
    with pytest.raises(ValueError, match="1 predictions, but 2 indices"):
        retrieval(cosines(np.ones((1, 2)), np.ones((2, 2))), np.array([0, 1]))
