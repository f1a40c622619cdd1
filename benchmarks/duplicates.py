"""Measure the search for near-duplicates among many clips: ``python -m benchmarks.duplicates [--clips N]``.

The clips are synthetic. Of all clips ``COPIES`` are copies of another one: in each picture some of the 64
bits of its hash are flipped, and its thumbnails are changed as by coding, another brightness and contrast.
Another ``LOOKALIKES`` show the scene of another clip at another moment: their hashes are as near, the
changes between their pictures are others.

- ``precision``: share of the clips called duplicates that are copies of the clip that stays in their place.
- ``recall``: share of the copies that were found, or stay themselves.
- ``peak_mb``: largest resident memory of the process, with the synthetic clips.
"""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from stages.duplicates.decision import near_duplicates
from stages.duplicates.fingerprint import PICTURES, THUMB_PX

COPIES, LOOKALIKES = 0.1, 0.05
"""Shares of the clips that are copies of another one, and that show its scene at another moment."""
FLIPPED = 0.05
"""Share of a hash's bits that differ in a copy: 3.2 of 64."""
NOISE = 2.0
"""Standard deviation of what coding changes in a thumbnail, in grey levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Synthetic clips: ``source`` of each, and whether it shows another moment of that clip's scene."""

    hashes: NDArray[np.uint64]
    source: NDArray[np.int64]
    lookalike: NDArray[np.bool_]
    seed: int

    def thumbs(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The thumbnails of some clips, made when they are asked for."""
        result = np.empty((len(indices), PICTURES, THUMB_PX, THUMB_PX), np.uint8)
        for place, index in enumerate(indices):
            source = int(self.source[index])
            scene = np.random.default_rng([self.seed, source])
            still = scene.uniform(30, 220, (1, THUMB_PX, THUMB_PX))
            own = np.random.default_rng([self.seed, int(index), 1])
            moves = own if self.lookalike[index] else scene
            pictures = still + moves.normal(0, 8, (PICTURES, THUMB_PX, THUMB_PX))
            pictures = own.uniform(0.9, 1.1) * pictures + own.uniform(-10, 10)
            result[place] = np.clip(np.rint(pictures + own.normal(0, NOISE, pictures.shape)), 0, 255)
        return result


def synthetic(count: int, seed: int) -> Clips:
    """Return clips of random scenes, of which some are copies and lookalikes of others."""
    rng = np.random.default_rng(seed)
    source = np.arange(count)
    fate = rng.random(count)
    others = fate < COPIES + LOOKALIKES
    originals = np.flatnonzero(~others)
    source[others] = rng.choice(originals, int(others.sum()))
    hashes = rng.integers(0, 2**64, (count, PICTURES), np.uint64)
    changed = np.flatnonzero(others)
    for part in np.array_split(changed, max(1, len(changed) // 50_000)):
        bits = rng.random((len(part), PICTURES, 64)) < FLIPPED
        hashes[part] = hashes[source[part]] ^ np.packbits(bits, axis=2).view(">u8")[..., 0]
    return Clips(
        hashes=hashes, source=source, lookalike=others & (fate >= COPIES), seed=seed
    )  # fmt: skip


def main() -> None:
    """Make the clips, look for duplicates, print a table, then one JSON object."""
    parser = parser_of("duplicates", __doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    clips = synthetic(arguments.clips, arguments.seed)
    rank = np.random.default_rng(arguments.seed + 1).integers(0, 4, arguments.clips).astype(np.float64)
    began, cpu = time.perf_counter(), time.process_time()
    found = near_duplicates(clips.hashes, clips.thumbs, rank)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    right = sum(
        bool(clips.source[one.index] == clips.source[one.stays])
        and not clips.lookalike[one.index] and not clips.lookalike[one.stays]
        for one in found
    )  # fmt: skip
    copies = len(clips.source) - int(clips.lookalike.sum()) - len(np.unique(clips.source[~clips.lookalike]))
    figures = {
        "clips": arguments.clips,
        "seconds": round(seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "precision": round(right / max(1, len(found)), 4),
        "recall": round(right / max(1, copies), 4),
    }
    print(f"{machine()}\n")
    print(markdown(["figure", "value"], [*figures.items(), ("processor seconds", round(cpu, 1))]), "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
