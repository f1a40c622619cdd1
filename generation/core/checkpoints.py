"""Checkpoints of a training run: safetensors and one JSON file, there whole or not at all.

``step-NNNNNN/model.safetensors`` holds a part of a run whose processes have whole models each; the folder
``step-NNNNNN/model`` that of a sharded run, see :mod:`generation.core.shards`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from models.files import to_disk, whole_folder, write_whole

FACTS = "trainer.json"


@contextmanager
def new_checkpoint(folder: Path, step: int, facts: Mapping[str, Any], *, keep: int) -> Iterator[Path]:
    """Yield a folder to fill; at the end it becomes ``step-NNNNNN``, and all but the newest ``keep`` go.

    Args:
        folder: of the checkpoints.
        step: updates made so far.
        facts: plain JSON values.
    """
    final = folder / f"step-{step:06d}"
    # A run that goes on from an older checkpoint meets those that it left behind: they are replaced.
    with whole_folder(final, durable=True) as building:
        yield building
        sizes: dict[str, int] = {}
        for file in sorted(building.rglob("*.safetensors")):
            sizes[file.relative_to(building).as_posix()] = file.stat().st_size
            to_disk(file)
        write_whole(
            building / FACTS, json.dumps({**facts, "step": step, "files": sizes}, indent=1), durable=True
        )
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old)
    for torn in folder.glob(".step-*"):
        shutil.rmtree(torn, ignore_errors=True)


def write_part(checkpoint: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a part of whole tensors: ``model`` becomes ``model.safetensors``."""
    named = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(named, _file(checkpoint, name))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint whose files are all there in full length; None if there is none."""
    return next(reversed(_complete(folder)), None)


def read_facts(checkpoint: Path) -> dict[str, Any]:
    """Return the ``facts`` that were given, with ``step``."""
    facts: dict[str, Any] = json.loads((checkpoint / FACTS).read_text(encoding="utf-8"))
    return facts


def has_part(checkpoint: Path, name: str) -> bool:
    """Tell whether a checkpoint holds a part, such as ``ema``."""
    return _file(checkpoint, name).is_file() or is_sharded(checkpoint, name)


def is_sharded(checkpoint: Path, name: str) -> bool:
    """Tell whether several processes wrote a part together."""
    return (checkpoint / name).is_dir()


def read_part(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """Return the whole tensors of a part, on the CPU."""
    if is_sharded(checkpoint, name):
        # Its library takes a second to import, and few models are sharded.
        from generation.core.shards import read_shards

        return read_shards(checkpoint / name)
    return load_file(_file(checkpoint, name))


def copy_part(checkpoint: Path, name: str, file: Path) -> None:
    """Write the whole tensors of a part to one safetensors file."""
    if is_sharded(checkpoint, name):
        from generation.core.shards import join_shards

        join_shards(checkpoint / name, file)
    else:
        shutil.copyfile(_file(checkpoint, name), file)


def _file(checkpoint: Path, name: str) -> Path:
    return checkpoint / f"{name}.safetensors"


def _complete(folder: Path) -> list[Path]:
    # By number: step-1000000 comes after step-999999.
    found = sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
    return [path for path in found if _is_complete(path)]


def _is_complete(checkpoint: Path) -> bool:
    try:
        sizes = read_facts(checkpoint)["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False
