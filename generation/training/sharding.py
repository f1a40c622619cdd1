"""A learner whose weights are shared out over the processes of a run, by PyTorch's FSDP2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from generation.config import Train
from generation.core.learner import Learner


def sharded(learner: Learner, options: Train) -> Any:
    """FSDP: a group for each layer that its library calls indivisible, one for the rest."""
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


def whole(tensor: Tensor) -> Tensor:
    """On the CPU, gathered if it is sharded."""
    value = tensor.detach()
    gather = getattr(value, "full_tensor", None)
    return (gather() if gather else value).cpu()


def like(tensor: Tensor, parameter: Any) -> Tensor:
    """Sharded as the parameter is; single numbers are not."""
    if not hasattr(parameter, "full_tensor") or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
