"""Rows of feature tables with their tensors, as training and evaluation read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load, save
from torch import Tensor

from generation.core.learner import Row
from generation.data.files import read_clip, read_clips
from models.files import parquet_files
from pipeline.dataset.loader import ShardBatches

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
        found: dict[str, Tensor] = {}
        for file in row["files"]:
            found |= read_clip(store / file, row["step_index"])
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


class OpenedBatches:
    """Batches whose rows hold their tensors.

    Args:
        batches: of the rows of an index table.
        store: folder of the files.
        by_name: whether the tensors stand in the row by name too.
    """

    def __init__(self, batches: ShardBatches, store: Path, *, by_name: bool) -> None:
        self._batches, self._store, self._by_name = batches, store, by_name
        self.places = batches.places

    def __getitem__(self, step: int) -> list[dict[str, Any]]:
        return [named(row, self._store, by_name=self._by_name) for row in self._batches[step]]


def named(row: Row, store: Path, *, by_name: bool) -> dict[str, Any]:
    """Return an opened row; with ``by_name`` its tensors stand in it by name too."""
    found = opened(row, store)
    return found | load(found["tensors"]) if by_name else found
