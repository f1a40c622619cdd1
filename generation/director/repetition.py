"""Repetition in a story, in words or pictures: the failure that the paper names first."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def overlap(text: str, other: str) -> float:
    """Return the share of a text's words that stand in the other one; 0 for an empty text."""
    words = set(text.lower().split())
    return len(words & set(other.lower().split())) / len(words) if words else 0.0


def apart(state: Tensor, other: Tensor, limit: float) -> Tensor:
    """Return the nearest state of the same length whose cosine with another is at most ``limit``.

    A state that points exactly where the other one does stays as it is: there is no way to turn it.
    """
    size, towards = state.norm(), F.normalize(other.flatten(), dim=0)
    flat = F.normalize(state.flatten(), dim=0)
    cosine = flat @ towards
    across = flat - cosine * towards
    if cosine <= limit or across.norm() < 1e-6:
        return state
    turned = limit * towards + (1 - limit**2) ** 0.5 * F.normalize(across, dim=0)
    apart: Tensor = (turned * size).view_as(state)
    return apart
