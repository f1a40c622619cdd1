"""Checkpoints of a training run: safetensors and one JSON file, there whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from models.files import to_disk, whole_folder, write_whole

FACTS = "trainer.json"


def save_checkpoint(
    folder: Path,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    facts: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write ``step-NNNNNN`` and drop all but the newest ``keep``.

    Args:
        folder: of the checkpoints.
        step: updates made so far.
        parts: tensors by name, by file: ``model`` becomes ``model.safetensors``.
        facts: plain JSON values.
    """
    final = folder / f"step-{step:06d}"
    # A run that goes on from an older checkpoint meets those that it left behind: they are replaced.
    with whole_folder(final, durable=True) as building:
        sizes: dict[str, int] = {}
        for name, tensors in parts.items():
            file = building / f"{name}.safetensors"
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)
            sizes[file.name] = file.stat().st_size
            to_disk(file)
        write_whole(
            building / FACTS, json.dumps({**facts, "step": step, "files": sizes}, indent=1), durable=True
        )
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old)
    for torn in folder.glob(".step-*"):
        shutil.rmtree(torn, ignore_errors=True)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The last one whose files are all there in full length."""
    return next(reversed(_complete(folder)), None)


def read_facts(checkpoint: Path) -> dict[str, Any]:
    """Return the ``facts`` that were given, with ``step``."""
    facts: dict[str, Any] = json.loads((checkpoint / FACTS).read_text(encoding="utf-8"))
    return facts


def read_part(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """Tensors of one file, on the CPU."""
    return load_file(checkpoint / f"{name}.safetensors")


def _complete(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("step-*")) if _is_complete(path)]


def _is_complete(checkpoint: Path) -> bool:
    try:
        sizes = read_facts(checkpoint)["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False
