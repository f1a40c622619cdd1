"""Visual states: one interface for every family, and the statistics that go with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from generation.core.tensors import read_tensors

Picture = NDArray[np.uint8]
"""One RGB picture ``[height, width, 3]``."""
Pictures = NDArray[np.uint8]
"""RGB pictures ``[n, height, width, 3]``."""


class StateEncoder(ABC):
    """Pictures to states. Raw states, not standardised: see :class:`Statistics`.

    Attributes:
        name: what made the state; goes into memo keys and reports.
        tokens: vectors of one state.
        width: length of each.
    """

    name: str
    tokens: int
    width: int

    @abstractmethod
    def encode(self, images: Pictures) -> Tensor:
        """Encode pictures of any one size as raw float32 states ``[n, tokens, width]``."""


class StateDecoder(ABC):
    """States back to pictures.

    Attributes:
        picture_px: height of the pictures.
        aspect: their width over their height.
        memory: number of earlier pictures that :meth:`decode_next` reads.
    """

    picture_px: int
    aspect: float = 1.0
    memory: int = 0

    @abstractmethod
    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """Decode raw states ``[n, tokens, width]`` to ``[n, picture_px, picture_px x aspect, 3]``.

        The same states and seed give the same pictures.
        """

    def decode_next(self, z: Tensor, earlier: Sequence[Picture], *, seed: int) -> Picture:
        """Return the picture of one raw state ``[tokens, width]`` in view of the pictures before it.

        Args:
            earlier: in order, of any sizes; the last :attr:`memory` ones are read.
        """
        picture: Picture = self.decode(z[None], seed=seed)[0]
        return picture


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and standard deviation of each of a state's numbers, over training pictures.

    Attributes:
        mean: ``[tokens, width]``.
        std: ``[tokens, width]``, nowhere below :attr:`MIN_STD`.
    """

    mean: Tensor
    std: Tensor

    MIN_STD: ClassVar[float] = 1e-4

    @classmethod
    def of(cls, states: Iterable[Tensor]) -> Statistics:
        """Compute them from raw states ``[tokens, width]``, in one pass.

        Raises:
            ValueError: fewer than two states.
        """
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for state in states:
            value = state.double()
            count, total, squares = count + 1, total + value, squares + value.square()
        if count < 2:
            raise ValueError(f"statistics need at least 2 states, found {count}")
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        return cls(mean.float(), variance.sqrt().float().clamp_min(cls.MIN_STD))

    def standardise(self, z: Tensor) -> Tensor:
        """Scale raw states ``[..., tokens, width]`` to mean 0 and deviation 1."""
        return (z - self.mean.to(z)) / self.std.to(z)

    def restore(self, z: Tensor) -> Tensor:
        """Invert :meth:`standardise`."""
        return z * self.std.to(z) + self.mean.to(z)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({"mean": self.mean.contiguous(), "std": self.std.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read the file that :meth:`save` wrote.

        Raises:
            UsageError: it is missing or damaged.
        """
        tensors = read_tensors(path)
        return cls(tensors["mean"], tensors["std"])
