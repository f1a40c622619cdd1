"""A small learner with all that makes exact training hard: noise, dropout, frozen and unused weights.

``python -m tests.support.tiny_learner SHARDS FOLDER DROPOUT "KEY: VALUE" ...`` trains it, so that a test
can kill it, or start it under torchrun.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from torch import Tensor, nn

from generation.config import Train
from generation.core.learner import Batch, Learner, Row
from pipeline.dataset.loader import ShardBatches

WIDTH = 6
UNSEEN = {"processes", "fsdp", "accumulate", "loader_workers", "trackers", "preview_every"}


class TinyLearner(Learner):
    """Removes noise from vectors.

    Args:
        dropout: share of the hidden units; 0 where runs on several processes are compared.
    """

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(WIDTH, 16).requires_grad_(False)
        self.learned = nn.Sequential(
            nn.Linear(16, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, WIDTH)
        )
        self.unused = nn.Parameter(torch.zeros(3))
        self.seen: list[bool] = []

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        noise = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return {"x": torch.tensor([row["x"] for row in rows]), "noise": torch.stack(noise)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        # So that a test which kills the process can choose when.
        time.sleep(float(os.environ.get("TINY_LEARNER_WAITS_S", "0")))
        if len(batch["x"]) > int(os.environ.get("TINY_LEARNER_MOST_ROWS", "1000")):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        guess = self.learned(self.frozen(batch["x"] + batch["noise"]))
        squared = (guess - batch["x"]).square().mean(dim=1)
        return {"loss": squared, "absolute": (guess - batch["x"]).abs().mean(dim=1)}

    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        assert not self.training
        weights = self.learned[0].weight.sum().item()  # type: ignore[operator]
        (folder / "rows.txt").write_text(f"{len(rows)} {seed} {weights!r}\n")


def write_shards(folder: Path, *, rows: int = 48) -> Path:
    """Two shards of random vectors."""
    folder.mkdir()
    x = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(5))
    for name, part in zip(("part-0", "part-1"), (x[::2], x[1::2]), strict=True):
        table = pa.table({"x": pa.array(part.tolist(), pa.list_(pa.float32()))})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=8)
    return folder


def run(shards: Path, folder: Path, options: Train, *, dropout: float = 0.0) -> TinyLearner:
    """Train it; returns the learner."""
    from generation.training.loop import train

    def batches(rank: int, world: int) -> ShardBatches:
        return ShardBatches(
            shards,
            seed=options.seed,
            batch_size=options.batch_size,
            lanes=options.lanes,
            rank=rank,
            world=world,
        )

    learner = TinyLearner(dropout=dropout)
    train(
        learner,
        batches,
        options,
        folder,
        made_with={"train": options.model_dump(mode="json", exclude=UNSEEN)},
    )
    return learner


if __name__ == "__main__":
    settings = yaml.safe_load("{" + ",".join(sys.argv[4:]) + "}")
    run(Path(sys.argv[1]), Path(sys.argv[2]), Train(**settings), dropout=float(sys.argv[3]))
