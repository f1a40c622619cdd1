"""Small networks of one hidden layer, evaluated with numpy; ``benchmarks/fitting.py`` trains them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Perceptron:
    """Log odds of something, by some features of it.

    Attributes:
        mean: of every feature in the training data, ``[n]``.
        scale: standard deviation of every feature, ``[n]``.
        inner: weights of the hidden units, ``[hidden, n]``.
        bias: of the hidden units, ``[hidden]``.
        outer: weights of the answer, ``[hidden]``.
        offset: of the answer, ``[1]``.
    """

    mean: Values
    scale: Values
    inner: Values
    bias: Values
    outer: Values
    offset: Values

    @classmethod
    @cache
    def load(cls, path: Path, name: str = "") -> Perceptron:
        """Read a network from a safetensors file that may hold several, each with a name as prefix.

        A process reads each only once.
        """
        saved = load_file(path)
        return cls(**{field: saved[f"{name}{field}"] for field in cls.__slots__})

    def tensors(self, name: str = "") -> dict[str, Values]:
        """Return the content of a file; see :meth:`load`."""
        return {f"{name}{field}": np.ascontiguousarray(getattr(self, field)) for field in self.__slots__}

    def odds(self, features: Sequence[float]) -> float:
        """Return the log odds for features ``[n]``."""
        x = (np.asarray(features, np.float32) - self.mean) / self.scale
        return float(self.outer @ np.tanh(self.inner @ x + self.bias) + self.offset[0])

    def probability(self, features: Sequence[float]) -> float:
        """Return the probability for features ``[n]``."""
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, self.odds(features)))))
