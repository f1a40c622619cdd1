"""Files of the weights of states, and their names."""

from __future__ import annotations

from pathlib import Path

import torch

from models.files import sha256_of
from pipeline.platform.config import ConfigError


def best_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def named(family: str, folder: Path) -> str:
    """A name that changes with the weights, since it goes into memo keys: family and part of their hash.

    Raises:
        ConfigError: the folder holds no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{folder} holds no *.safetensors: state.path must be a pipeline's folder")
    return f"{family}-{''.join(sha256_of(file)[:12] for file in files)}"
