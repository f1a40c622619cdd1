"""Rows of feature tables with their tensors, as training and evaluation read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import save
from torch import Tensor

from generation.config import Decoder
from generation.core.learner import Row
from generation.data.files import read_clip, read_clips
from models.files import parquet_files
from pipeline.dataset.loader import ShardBatches

if TYPE_CHECKING:
    from generation.data.maker import Kind

TRAIN, HELD_OUT = "train", "held_out"
FACTS = "features.json"


def store_of(features: Path) -> Path:
    """Return the folder of the files that the rows of a model's features name."""
    facts = json.loads((features / FACTS).read_text(encoding="utf-8"))
    return Path(facts["store"])


def opened(row: Row, store: Path) -> dict[str, Any]:
    """Return a row of a table with ``tensors``: bytes of a safetensors file.

    Of a story: ``states [steps, tokens, width]``, raw. Of a clip: the tensors of its parts.
    """
    if "step_index" in row:
        found = _clip(row, store, row["step_index"])
    else:
        clips = read_clips(store / row["files"][0])
        found = {"states": torch.stack([clip["state"] for clip in clips])}
    return {**row, "tensors": save({name: tensor.contiguous() for name, tensor in found.items()})}


def read_rows(features: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a model's features, of the split TRAIN or HELD_OUT."""
    store = store_of(features)
    for part in parquet_files(features / split):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from (opened(row, store) for row in batch.to_pylist())


def opener(kind: Kind, features: Path, decoder: Decoder) -> Callable[[Row], dict[str, Any]]:
    """Return the function that adds tensors to the rows of a model's features, as that model reads them."""
    store = store_of(features)
    if kind != "decoder":
        return partial(opened, store=store)
    memory = 0 if decoder.rolling is None else decoder.rolling.memory
    return partial(opened_keyframe, store=store, memory=memory)


class OpenedBatches:
    """Batches whose rows hold their tensors.

    Args:
        batches: of the rows of an index table.
        open_row: reads the tensors of a row.
    """

    def __init__(self, batches: ShardBatches, open_row: Callable[[Row], dict[str, Any]]) -> None:
        self._batches, self._open = batches, open_row
        self.places = batches.places

    def __getitem__(self, step: int) -> list[dict[str, Any]]:
        return [self._open(row) for row in self._batches[step]]


def opened_keyframe(row: Row, store: Path, *, memory: int) -> dict[str, Any]:
    """Return a row of a decoder's table with ``state``, ``keyframe`` and ``earlier``.

    Args:
        memory: most key frames of the same video in ``earlier [n, height, width, 3]``, those just before.
    """
    index = row["step_index"]
    found = _clip(row, store, index)
    before = [_clip(row, store, place)["keyframe"] for place in range(max(0, index - memory), index)]
    none = found["keyframe"].new_empty(0, *found["keyframe"].shape)
    return {**row, **found, "earlier": torch.stack(before) if before else none}


def _clip(row: Row, store: Path, index: int) -> dict[str, Tensor]:
    """Return the tensors of a clip of a row's video."""
    found: dict[str, Tensor] = {}
    for file in row["files"]:
        found |= read_clip(store / file, index)
    return found
