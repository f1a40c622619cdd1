"""Small networks: fitting, writing, reading and their answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fitting import fitted, moved, save
from models.perceptron import Perceptron


def examples(count: int = 400) -> tuple[list[list[float]], list[bool]]:
    """A ring around the middle: no line separates it."""
    points = np.random.default_rng(0).normal(size=(count, 2)) * [3, 30]
    return points.tolist(), (np.hypot(*(points / [3, 30]).T) > 1.2).tolist()


def test_a_network_learns_what_no_line_separates_and_is_the_same_after_reading(tmp_path: Path) -> None:
    features, truths = examples()
    network = fitted(features, truths, hidden=6)
    given = [network.odds(one) > 0 for one in features]
    assert np.mean([a == b for a, b in zip(given, truths, strict=True)]) > 0.95

    save(tmp_path / "both.safetensors", {"a.": network, "b.": moved(network, 2.0)}, "a test")
    read, other = (Perceptron.load(tmp_path / "both.safetensors", name) for name in ("a.", "b."))
    for one in features[:5]:
        assert read.odds(one) == network.odds(one)
        assert other.odds(one) == pytest.approx(network.odds(one) - 2, abs=1e-5)
        assert read.probability(one) == pytest.approx(1 / (1 + np.exp(-read.odds(one))))


def test_the_same_examples_give_the_same_weights() -> None:
    features, truths = examples(60)
    first, again = (fitted(features, truths, hidden=3) for _ in range(2))
    assert first.tensors().keys() == again.tensors().keys()
    for name, values in first.tensors().items():
        np.testing.assert_array_equal(values, again.tensors()[name])
