"""Interface of a model that is trained; director, generator and decoder are learners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from generation.core.states import Statistics

Row = Mapping[str, Any]
"""One row of a feature table, see :mod:`generation.data.features`."""
Batch = dict[str, Tensor]


class Learner(nn.Module, ABC):
    """A model with its loss.

    Everything random in a loss comes from the seeds given to :meth:`collate`, so that it depends neither on
    the number of processes nor on what was run before: that is what makes resuming exact. Parameters with
    ``requires_grad`` are trained and saved; the rest comes from the base weights again.

    Attributes:
        statistics: of the raw states that it is trained on.
    """

    statistics: Statistics

    def prepare(self, rows: Iterable[Row], constants: Mapping[str, Tensor]) -> None:
        """Compute what depends on the whole data; called before training and before it is resumed.

        Args:
            rows: all training rows of the feature table.
            constants: tensors that hold for all rows, see :mod:`generation.data.features`.
        """

    def kept(self) -> dict[str, Tensor]:
        """Return what is saved: trained parameters, and buffers that :meth:`prepare` filled."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def allocate(self, shapes: dict[str, Sequence[int]]) -> None:
        """Make room for saved tensors of these shapes; called before they are copied in.

        For learners whose buffers are as large as their training data; others need nothing here.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Convert rows to tensors on the CPU. Called in loader processes.

        Args:
            rows: of the model's feature table.
            seeds: one for each row; a function of the run's seed, the step and the row's place.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return losses of each sample, ``[batch]`` each; ``loss`` is minimised, others are reported."""

    @abstractmethod
    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        """Write sample pictures or clips of these rows into a folder that exists."""
