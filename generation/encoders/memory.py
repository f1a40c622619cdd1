"""Work on a GPU in parts that fit its memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class OutOfGpuMemoryError(RuntimeError):
    """A model and the smallest part of its input do not fit; the text names the options to change."""


def in_parts(compute: Callable[[Tensor], Tensor], inputs: Tensor, *, at_once: int, what: str) -> Tensor:
    """Return ``compute`` of all inputs, a few at a time; fewer at a time if the memory runs out.

    Args:
        compute: from ``[n, ...]`` to ``[n, ...]``.
        inputs: ``[n, ...]``.
        at_once: rows of a part.
        what: the work and the options that make it smaller, for the message.

    Raises:
        OutOfGpuMemoryError: one row does not fit.
    """
    while True:
        try:
            return torch.cat([compute(part) for part in torch.split(inputs, at_once)])
        except torch.OutOfMemoryError as error:
            if at_once == 1:
                raise OutOfGpuMemoryError(f"out of GPU memory: {what} ({error})") from error
            at_once //= 2
        # Outside of the handler, whose traceback would keep the failed part's tensors alive.
        torch.cuda.empty_cache()
