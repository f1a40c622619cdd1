"""A learner whose weights are shared out over the processes of a run, by FSDP2; its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from generation.config import Train
from generation.core.checkpoints import is_sharded, new_checkpoint, read_part
from generation.core.learner import Learner
from generation.core.shards import load_shards, save_shards, shapes_in


def sharded(learner: Learner, options: Train) -> Any:
    """Shard by FSDP: a group for each layer that its library calls indivisible, one for the rest."""
    # Takes seconds to import, and few runs need it.
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    layers = {
        name for module in learner.modules() for name in getattr(module, "_no_split_modules", None) or ()
    }
    dtype = torch.bfloat16 if options.precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
    for module in reversed(list(learner.modules())):
        if type(module).__name__ in layers:
            fully_shard(module, mp_policy=policy)
    return fully_shard(learner, mp_policy=policy)


def save_sharded(
    accelerator: Accelerator,
    checkpoints: Path,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    facts: Mapping[str, Any],
    *,
    keep: int,
) -> None:
    """Write a checkpoint to which each process adds its shards; all call it together.

    Args:
        checkpoints: their folder, on a file system that all processes share.
        parts: tensors by name, by part.
    """
    with ExitStack() as stack:
        building = [""]
        if accelerator.is_main_process:
            building[0] = str(stack.enter_context(new_checkpoint(checkpoints, step, facts, keep=keep)))
        broadcast_object_list(building)
        for name, tensors in parts.items():
            save_shards(Path(building[0]) / name, tensors)


def read_sharded(checkpoint: Path, part: str, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the tensors of a part, sharded as the parameters that they belong to.

    Args:
        parameters: by name; a tensor of the optimiser is named after its parameter, ``name|kind``.
    """

    def owner(key: str) -> nn.Parameter | None:
        return parameters.get(key.partition("|")[0])

    if not (is_sharded(checkpoint, part) and any(isinstance(p, DTensor) for p in parameters.values())):
        return {key: _like(tensor, owner(key)) for key, tensor in read_part(checkpoint, part).items()}
    found = shapes_in(checkpoint / part)
    into = {key: _room(shape, dtype, owner(key)) for key, (shape, dtype) in found.items()}
    load_shards(checkpoint / part, into)
    return into


def _room(shape: torch.Size, dtype: torch.dtype, parameter: nn.Parameter | None) -> Tensor:
    """Return a tensor to read into; single numbers are in every process."""
    if isinstance(parameter, DTensor) and parameter.shape == shape:
        return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
    return torch.empty(shape, dtype=dtype)


def _like(tensor: Tensor, parameter: nn.Parameter | None) -> Tensor:
    """Return a whole tensor sharded as the parameter is; single numbers are not."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
