"""Copies are found whatever is around them, the best of them stays, and lookalikes stay too."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.duplicates import synthetic
from stages.duplicates import near_duplicates

Thumbs = NDArray[np.uint8]


def clip(seed: int, *, moves: int | None = None, still: bool = False) -> Thumbs:
    """Thumbnails of a scene; ``moves`` gives it the changes of another seed."""
    scene = np.random.default_rng(seed).uniform(40, 210, (1, 8, 8))
    change = np.random.default_rng(1000 + (seed if moves is None else moves)).normal(0, 10, (5, 8, 8))
    return np.asarray(np.clip(scene + (0 if still else change), 0, 255) + np.zeros((5, 8, 8)), np.uint8)


def decided(thumbs: list[Thumbs], seeds: list[int], rank: list[float]) -> list[tuple[int, int]]:
    hashes = np.stack([np.random.default_rng(seed).integers(1, 2**64, 5, np.uint64) for seed in seeds])
    stacked = np.stack(thumbs)
    return [(one.index, one.stays) for one in near_duplicates(hashes, lambda where: stacked[where], rank)]


def test_of_copies_the_one_of_the_highest_rank_stays_then_the_first() -> None:
    thumbs = [clip(seed) for seed in (1, 2, 1, 1, 3)]
    assert decided(thumbs, [1, 2, 1, 1, 3], [1, 1, 1, 1, 1]) == [(2, 0), (3, 0)]
    assert decided(thumbs, [1, 2, 1, 1, 3], [1, 1, 1, 9, 1]) == [(0, 3), (2, 3)]


def test_another_moment_before_the_same_camera_stays() -> None:
    assert decided([clip(1), clip(1, moves=2)], [1, 1], [1, 1]) == []


def test_stills_are_not_compared() -> None:
    assert decided([clip(1, still=True), clip(1, still=True)], [1, 1], [1, 1]) == []


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    hashes = np.ones((count, 5), np.uint64)
    assert (
        near_duplicates(hashes, lambda where: np.zeros((len(where), 5, 8, 8), np.uint8), [1] * count) == []
    )


def test_copies_are_found_among_many_clips() -> None:
    clips = synthetic(2000, seed=3)
    found = near_duplicates(clips.hashes, clips.thumbs, np.zeros(2000))
    for one in found:
        assert clips.source[one.index] == clips.source[one.stays]
        assert not clips.lookalike[one.index]
    copies = 2000 - clips.lookalike.sum() - len(np.unique(clips.source[~clips.lookalike]))
    assert len(found) >= 0.97 * copies
