"""Vision towers of transformers: loading one, and reading pictures with it.

Image processors are those with Pillow, whatever else is installed, so that states are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from generation.config import State
from generation.core.states import Pictures
from generation.encoders.memory import in_parts
from generation.encoders.weights import best_device

PICTURES_AT_ONCE = 16


def load_vision(kind: Any, options: State, folder: str) -> Any:
    """Return the model of transformers' class ``kind`` in a folder of ``state.path``."""
    model = kind.from_pretrained(
        options.path,
        subfolder=folder,
        dtype=getattr(torch, options.dtype),
        use_safetensors=True,
        local_files_only=True,
    )
    return model.to(best_device()).eval()


def read_pictures(processor: Any, images: Pictures, model: Any, choose: Callable[[Any], Tensor]) -> Tensor:
    """Return a part of the model's output for pictures, in float32 on the CPU.

    Args:
        processor: transformers' image processor of the model.
        choose: takes that part from the output, which has all hidden states.
    """
    pixels: Tensor = processor(images=list(images), return_tensors="pt")["pixel_values"]

    def compute(part: Tensor) -> Tensor:
        return choose(model(part.to(model.device, model.dtype), output_hidden_states=True)).float().cpu()

    return in_parts(
        compute,
        pixels,
        at_once=PICTURES_AT_ONCE,
        what="state.path's image encoder; set state.dtype=bfloat16",
    )
