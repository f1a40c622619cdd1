"""Tensors of a trained model's files."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.errors import UsageError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file that training wrote, on the CPU.

    Raises:
        UsageError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        problem = f"damaged ({error})" if path.is_file() else "missing"
        raise UsageError(f"{path}: is {problem}; run `videoauteur train` again") from error
