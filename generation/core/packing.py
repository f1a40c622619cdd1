"""JSON values as tensors, so that a model's texts are saved beside its weights in one safetensors file."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor


def packed(value: Any) -> Tensor:
    """Return a JSON value as a tensor of UTF-8 bytes."""
    data = json.dumps(value, ensure_ascii=False).encode()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def unpacked(data: Tensor) -> Any:
    """Return the value that :func:`packed` took."""
    return json.loads(bytes(data.cpu().numpy()).decode())
