"""Files of the weights of states, and their names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from models.files import sha256_of
from pipeline.platform.config import ConfigError


def best_device() -> torch.device:
    """Return the first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def description(folder: Path, name: str, *, option: str, of: str) -> dict[str, Any]:
    """Return the JSON file that describes the weights in a folder.

    Args:
        option: that names the folder, for messages.
        of: kind of the weights.

    Raises:
        ConfigError: it is missing or damaged.
    """
    file = folder / name
    if not file.is_file():
        raise ConfigError(f"{option}: {folder} holds no {name} of {of}")
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{option}: {file} is damaged ({error}); put the weights there again") from error


@contextmanager
def loading(option: str) -> Iterator[None]:
    """Report weights that cannot be loaded under the option that names them.

    Raises:
        ConfigError: files are missing or damaged.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        first_line = str(error).partition("\n")[0]
        raise ConfigError(f"{option}: cannot be loaded: {first_line}") from error


def named(family: str, folder: Path) -> str:
    """Return a name that changes with the weights, for memo keys: family and part of their hash.

    Raises:
        ConfigError: the folder holds no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{folder} holds no *.safetensors: state.path must be a pipeline's folder")
    return f"{family}-{''.join(sha256_of(file)[:12] for file in files)}"
