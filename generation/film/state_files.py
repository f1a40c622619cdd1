"""States of a film's steps in files that carry the key of their inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.files import whole_file

KEY = "key"


def numbers_of(state: Tensor) -> NDArray[np.float32]:
    """Return a state as an array."""
    return state.detach().cpu().float().numpy()


def write_state(path: Path, state: Tensor, key: str) -> None:
    """Write a state and its key; the file appears whole."""
    with whole_file(path) as part:
        save_file({"state": state.detach().cpu().float().contiguous()}, part, metadata={KEY: key})


def read_state(path: Path, key: str) -> Tensor | None:
    """Return the state of a file with this key; None if there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("state") if (file.metadata() or {}).get(KEY) == key else None
    except (OSError, SafetensorError):
        return None
