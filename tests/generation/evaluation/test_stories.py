"""Consistency, repetition and order of stories whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from generation.evaluation.stories import Consistency, consistency, order, state_repetition
from pipeline.evaluation.repetition import text_overlap, text_repetition


def test_consistency_with_the_shot_before_and_with_the_first() -> None:
    turned = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    found = consistency(turned)
    assert found.adjacent == pytest.approx((0 + 1 + 0) / 3)
    assert found.to_first == pytest.approx((0 + 0 + 1) / 3)
    assert consistency(turned[:1]) == Consistency(None, None)


def test_overlap_of_texts() -> None:
    assert text_overlap("Chop the onion.", "chop THE onion") == 1
    assert text_overlap("Chop the onion", "Fry the onion") == pytest.approx(2 / 4)
    assert text_overlap("Chop", "") == 0


def test_repeated_actions_are_counted_once_each() -> None:
    assert text_repetition(["Chop it.", "Fry it.", "chop it", "Chop it!", "Serve."]) == pytest.approx(2 / 4)
    assert text_repetition(["Chop it.", "Fry it."]) == 0
    assert text_repetition(["Chop it."]) is None


def test_repeated_states() -> None:
    states = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 0.1], [1.0, 1.0]], np.float32)
    assert state_repetition(states) == pytest.approx(1 / 3)
    assert state_repetition(states, limit=0.7) == pytest.approx(2 / 3), "the diagonal, too"
    assert state_repetition(states[:1]) is None


def test_order_of_known_permutations() -> None:
    assert order(np.eye(4)) == pytest.approx(1)
    assert order(np.eye(4)[::-1]) == pytest.approx(-1)
    assert order(np.eye(3)[[1, 0, 2]]) == pytest.approx(1 / 3), "one of three pairs is the wrong way round"
    assert order(np.eye(6)[[0, 2, 5]]) == pytest.approx(1), "a shorter story in the right order"


def test_predictions_that_tell_nothing_apart_have_no_order() -> None:
    assert order(np.ones((4, 4))) == 0
    assert order(np.tile([0.1, 0.9, 0.3], (3, 1))) == 0
    assert order(np.eye(3)[[1, 1, 1]]) == 0
    assert order(np.ones((1, 4))) is None


def test_a_random_order_gives_zero_in_the_mean() -> None:
    random = np.random.default_rng(0)
    taus = [order(random.normal(size=(5, 5))) for _ in range(300)]
    assert np.mean([tau for tau in taus if tau is not None]) == pytest.approx(0, abs=0.08)
