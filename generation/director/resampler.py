"""Perceiver resampler: any number of vectors in, a fixed number out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Resampler(nn.Module):
    """Learned queries that attend to the input, as on both sides of the paper's director.

    Args:
        width_in: length of the input vectors.
        width: length inside.
        width_out: length of the output vectors.
        tokens: number of output vectors.
        depth: layers of attention, each with its feed-forward part.
    """

    def __init__(self, *, width_in: int, width: int, width_out: int, tokens: int, depth: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.enter = nn.Linear(width_in, width)
        layer = nn.TransformerDecoderLayer(
            width,
            heads_for(width),
            2 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerDecoder(layer, depth, norm=nn.LayerNorm(width))
        self.leave = nn.Linear(width, width_out)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``[n, any, width_in]`` to ``[n, tokens, width_out]``."""
        queries = self.queries.expand(len(vectors), -1, -1)
        found: Tensor = self.leave(self.layers(queries, self.enter(vectors)))
        return found


def heads_for(width: int) -> int:
    """Return a number of heads of about 64 numbers each that divides the width."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)
