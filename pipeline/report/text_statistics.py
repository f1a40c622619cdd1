"""How much a dataset says, in the figures that CookGen publishes, and how whole its stories are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def text_statistics(output: Path) -> dict[str, float | int | None]:
    """Means over the tables of OUTPUT; None where there is nothing to take a mean of.

    Words are what stands between white space.

    Returns:
        ``words_per_action`` of the kept actions, matched or not; ``words_per_caption`` of the kept clips;
        ``words_per_video`` of the actions and captions of a narrative's steps; ``clips_per_video`` and
        ``mean_clip_s`` of what is kept; ``mean_integrity`` of the narratives; ``repeated_steps``, how
        many say what an earlier one said.
    """
    actions = pq.read_table(output / "actions", columns=["text"])["text"]
    clips = pq.read_table(output / "clips", columns=["start_s", "end_s", "caption"])
    narratives = pq.read_table(output / "narratives", columns=["steps", "integrity"])
    steps = pc.list_flatten(narratives["steps"])
    told = sum(_words(pc.struct_field(steps, name)) for name in ("action", "caption"))
    captions = clips["caption"].drop_null()
    return {
        "words_per_action": _per(_words(actions), len(actions)),
        "words_per_caption": _per(_words(captions), len(captions)),
        "words_per_video": _per(told, len(narratives)),
        "clips_per_video": _per(len(clips), len(narratives)),
        "mean_clip_s": _mean(pc.subtract(clips["end_s"], clips["start_s"])),
        "mean_integrity": _mean(narratives["integrity"]),
        "repeated_steps": len(steps) - pc.struct_field(steps, "repeats").null_count,
    }


def _words(texts: pa.ChunkedArray) -> int:
    return pc.sum(pc.count_substring_regex(texts, r"\S+")).as_py() or 0


def _per(total: int, count: int) -> float | None:
    return round(total / count, 2) if count else None


def _mean(values: Any) -> float | None:
    mean = pc.mean(values).as_py()
    return None if mean is None else round(mean, 2)
