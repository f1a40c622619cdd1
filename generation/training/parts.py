"""The parts that the batch of a step is cut into, so that each fits the GPU's memory.

Gradients are summed over the parts, so the batch of a step stays whole. Out of memory, a run goes on with
at least twice as many; ``memory.json`` in its folder keeps the number for later starts. A regulariser that
shuffles samples then chooses among those of a smaller part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from generation.config import Train
from models.errors import ReportedError
from models.files import write_whole
from pipeline.platform.log import log

FILE = "memory.json"


class TrainingError(ReportedError):
    """Training cannot go on; the text says why, and what to change."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The number of parts that a process cuts its rows of a step into.

    Attributes:
        count: of the parts.
        rows: of a step in each process; ``count`` divides them.
    """

    count: int
    rows: int

    @classmethod
    def of(cls, options: Train, folder: Path, processes: int) -> Parts:
        """Return ``train.accumulate`` parts, or more where an earlier start ran out of memory."""
        rows, kept = options.batch_size // processes, 1
        file = folder / FILE
        if file.is_file():
            kept = int(json.loads(file.read_text(encoding="utf-8"))["accumulate"])
        return cls(max(options.accumulate, kept if rows % kept == 0 else 1), rows)

    def smaller(self, folder: Path, error: torch.OutOfMemoryError) -> Parts:
        """Return parts of at most half the rows, and keep their number in the run's folder.

        Raises:
            TrainingError: a part is one row already.
        """
        more = range(2 * self.count, self.rows + 1)
        count = next((number for number in more if self.rows % number == 0), None)
        if count is None:
            raise TrainingError(
                f"{folder}: out of GPU memory at {self.rows // self.count} rows at a time; set "
                "gradient_checkpointing, train fewer weights (LoRA), or shard over more GPUs with "
                f"train.fsdp ({error})"
            ) from error
        text = (
            f"out of GPU memory at {self.rows // self.count} rows at a time; goes on with "
            f"{self.rows // count}, and train.accumulate={count} keeps the batch of a step"
        )
        log("message", level="warning", work=folder.name, text=text)
        write_whole(folder / FILE, json.dumps({"accumulate": count}) + "\n", shared=True)
        return Parts(count, self.rows)
