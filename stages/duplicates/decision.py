"""Decide which clips of a whole set are near-duplicates, and which of them stays.

Candidates share a random part of the bits of some picture's hash; they are found by sorting, in several
rounds with other bits, so that time grows with n log n and memory is some arrays of n. Candidates that hang
together are a *group*. Inside a group every clip is compared with those that stay, by all hashes and then
by thumbnails.

Two clips are duplicates if their pictures are alike and change alike: two moments before one still camera
look the same, but hands do not move the same way twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Thumbs = NDArray[np.float32]
Indices = NDArray[np.int64]

ROUNDS = 12
ROUND_BITS = 24
"""A picture of which 4 (6, 8) of the 64 bits have changed shares these in one of 12 rounds in 94 % (69 %,
39 %) of cases; a clip has five pictures."""
NEIGHBOURS = 4
"""Neighbours in a sorted run that a picture is paired with. It keeps runs of equal pictures together."""
MAX_BITS = 10
"""Bits of 64 in which two hashes of one picture differ, at most."""
MIN_ALIKE = 0.8
"""Share of a clip's pictures that must be in the other."""
MAX_DIFFERENCE = 0.25
"""Root mean square difference of two normalised thumbnails, at most."""
MIN_CHANGE = 1.0
"""Mean change between the thumbnails of a clip, in grey levels, from which it can be compared."""
MIN_CHANGE_LIKENESS = 0.8
"""Least correlation of the changes between the thumbnails.

Copies of three recipes (coded again at CRF 28 to 34, scaled to 240 and 360 pixels, letter- and pillarboxed,
graded, at another rate; 162 pairs): at most 4 bits, a difference of 0.12, a correlation of 0.98 in 98 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A clip that goes, and the one like it that stays, by their positions.

    Attributes:
        bits: mean number of bits in which their pictures' hashes differ.
    """

    index: int
    stays: int
    bits: float


def near_duplicates(
    hashes: Hashes,
    thumbs: Callable[[Indices], NDArray[np.uint8]],
    rank: Sequence[float] | NDArray[np.float64],
    *,
    seed: int = 0,
) -> list[Duplicate]:
    """Return the clips that are near-duplicates of one that stays.

    Args:
        hashes: ``[clips, pictures]``; 0 for a picture that shows nothing.
        thumbs: returns the thumbnails ``[n, pictures, 8, 8]`` of the clips at given positions; asked for
            the clips of one group at a time.
        rank: of every clip; of two duplicates the one of the higher rank stays, then the earlier one.
        seed: of the bits that are compared.
    """
    found: list[Duplicate] = []
    for group in groups(hashes, seed):
        # The best first, so that it stays.
        group = _by_rank(group, rank)
        found += _decided(group, hashes[group], thumbs(group).astype(np.float32))
    return sorted(found, key=lambda one: one.index)


def _by_rank(group: Indices, rank: Sequence[float] | NDArray[np.float64]) -> Indices:
    return group[np.lexsort((group, -np.asarray(rank, np.float64)[group]))]


def groups(hashes: Hashes, seed: int = 0) -> Iterator[Indices]:
    """Yield the positions of clips that hang together by pictures with like hashes."""
    clips, pictures = hashes.shape
    flat = hashes.reshape(-1)
    known = np.flatnonzero(flat != 0)
    root = np.arange(clips)
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        mask = np.uint64(0)
        for bit in rng.permutation(64)[:ROUND_BITS]:
            mask |= np.uint64(1) << np.uint64(bit)
        keys = flat[known] & mask
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], known[order]
        for step in range(1, NEIGHBOURS + 1):
            near = np.flatnonzero(keys[step:] == keys[:-step])
            a, b = places[near], places[near + step]
            near = np.bitwise_count(flat[a] ^ flat[b]) <= MAX_BITS
            _join(root, a[near] // pictures, b[near] // pictures)
    _flatten(root)
    order = np.argsort(root, kind="stable")
    bounds = np.flatnonzero(np.diff(root[order])) + 1
    for part in np.split(order, bounds):
        if len(part) > 1:
            yield part


def _join(root: Indices, a: Indices, b: Indices) -> None:
    """Let the groups of all pairs be one, by repeated minimum over both sides."""
    while len(a):
        _flatten(root)
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low != high
        a, b, low, high = a[apart], b[apart], low[apart], high[apart]
        np.minimum.at(root, high, low)


def _flatten(root: Indices) -> None:
    """Let every clip point at the first of its group."""
    while True:
        above = root[root]
        if np.array_equal(above, root):
            return
        root[:] = above


def _decided(group: Indices, hashes: Hashes, thumbs: Thumbs) -> list[Duplicate]:
    """Compare each clip of a group, best first, with those that stay."""
    stay = [0]
    found = []
    for number in range(1, len(group)):
        best: tuple[float, int] | None = None
        kept = np.array(stay)
        # [kept, pictures of the clip, pictures of the kept]
        bits = np.bitwise_count(hashes[number][None, :, None] ^ hashes[kept][:, None, :])
        for which in np.flatnonzero((bits.min(axis=2) <= MAX_BITS).mean(axis=1) >= MIN_ALIKE):
            if alike(thumbs[number], thumbs[kept[which]]):
                mean = float(bits[which].min(axis=1).mean())
                if best is None or mean < best[0]:
                    best = mean, int(kept[which])
        if best is None:
            stay.append(number)
        else:
            found.append(Duplicate(index=int(group[number]), stays=int(group[best[1]]), bits=best[0]))
    return found


def alike(a: Thumbs, b: Thumbs) -> bool:
    """Tell whether the pictures of two clips ``[pictures, 8, 8]`` are alike, and change alike."""
    x, y = _normalised(a), _normalised(b)
    if float(np.sqrt(np.square(x - y).mean())) > MAX_DIFFERENCE:
        return False
    change_a, change_b = np.diff(a, axis=0), np.diff(b, axis=0)
    moves = [float(np.abs(change).mean()) for change in (change_a, change_b)]
    if min(moves) < MIN_CHANGE:
        return False
    u, v = change_a.ravel() - change_a.mean(), change_b.ravel() - change_b.mean()
    return float(u @ v) >= MIN_CHANGE_LIKENESS * float(np.linalg.norm(u) * np.linalg.norm(v))


def _normalised(thumbs: Thumbs) -> Thumbs:
    """Without the brightness and contrast of the whole clip."""
    return np.asarray((thumbs - thumbs.mean()) / (thumbs.std() + 1e-3), np.float32)
