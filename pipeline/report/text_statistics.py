"""Amount of text in a dataset, in the figures that CookGen publishes, and completeness of its stories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.reading import Dataset

PIECE_TEXTS = 10_000
"""Texts that are split into words at a time, which bounds the memory for the words."""


def text_statistics(output: Path) -> dict[str, float | int | None]:
    """Means over the tables of OUTPUT; None where there is nothing to take a mean of.

    Words are what stands between white space.

    Returns:
        ``words_per_action`` of the kept actions, matched or not; ``words_per_caption`` of the kept clips;
        ``words_per_video`` of the actions and captions of a narrative's steps; ``clips_per_video`` and
        ``mean_clip_s`` of what is kept; ``mean_integrity`` of the narratives; ``repeated_steps``, how
        many say what an earlier one said.
    """
    # Batch by batch: the texts of a large dataset do not fit into memory.
    tables = Dataset(folder=output, manifest=None)
    actions, captions, told = _Total(), _Total(), _Total()
    clips_s, integrity = _Total(), _Total()
    repeated = 0
    for batch in tables.batches("actions", ["text"]):
        actions.add(_words(batch["text"]), len(batch))
    for batch in tables.batches("clips", ["start_s", "end_s", "caption"]):
        clips_s.add(pc.sum(pc.subtract(batch["end_s"], batch["start_s"])).as_py() or 0.0, len(batch))
        written = batch["caption"].drop_null()
        captions.add(_words(written), len(written))
    for batch in tables.batches("narratives", ["steps", "integrity"]):
        steps = pc.list_flatten(batch["steps"])
        told.add(sum(_words(pc.struct_field(steps, name)) for name in ("action", "caption")), len(batch))
        known = batch["integrity"].drop_null()
        integrity.add(pc.sum(known).as_py() or 0.0, len(known))
        repeated += len(steps) - pc.struct_field(steps, "repeats").null_count
    return {
        "words_per_action": actions.mean,
        "words_per_caption": captions.mean,
        "words_per_video": told.mean,
        "clips_per_video": _per(clips_s.count, told.count),
        "mean_clip_s": clips_s.mean,
        "mean_integrity": integrity.mean,
        "repeated_steps": repeated,
    }


@dataclass
class _Total:
    """Sum and number of values."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float, count: int) -> None:
        self.value += value
        self.count += count

    @property
    def mean(self) -> float | None:
        return _per(self.value, self.count)


def _words(texts: pa.Array) -> int:
    """Return the number of words; to count matches of a pattern takes Arrow six times as long."""
    found = 0
    for at in range(0, len(texts), PIECE_TEXTS):
        trimmed = pc.ascii_trim_whitespace(texts.slice(at, PIECE_TEXTS))
        # An empty text is split into one empty word.
        empty = pc.sum(pc.equal(pc.binary_length(trimmed), 0)).as_py() or 0
        found += len(pc.list_flatten(pc.ascii_split_whitespace(trimmed))) - empty
    return found


def _per(total: float, count: int) -> float | None:
    return round(total / count, 2) if count else None
