"""A head that draws a state, in place of one that regresses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from generation.core import flow


class FlowHead(nn.Module):
    """Draws a state by flow matching instead of regressing the mean of all that are plausible.

    Args:
        width: of a state's vectors.
        given: of the vectors that it is conditioned on, one for each of the state's.
    """

    def __init__(self, width: int, given: int) -> None:
        super().__init__()
        inside = 2 * given
        self.time = nn.Sequential(nn.Linear(1, inside), nn.SiLU(), nn.Linear(inside, inside))
        self.condition = nn.Linear(given, inside)
        self.enter = nn.Linear(width, inside)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(inside), nn.Linear(inside, inside), nn.SiLU(), nn.Linear(inside, inside)
            )
            for _ in range(3)
        )
        self.leave = nn.Sequential(nn.LayerNorm(inside), nn.Linear(inside, width))

    def forward(self, noisy: Tensor, time: Tensor, given: Tensor) -> Tensor:
        """Predict the velocity ``[n, tokens, width]`` of ``noisy`` at ``time [n]`` in [0, 1]."""
        context = self.condition(given) + self.time(time[:, None, None])
        vectors = self.enter(noisy)
        for block in self.blocks:
            vectors = vectors + block(vectors + context)
        found: Tensor = self.leave(vectors)
        return found

    def loss(self, truth: Tensor, given: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the flow-matching loss of each state, ``[n]``."""
        noise = flow.noise_like(truth, seeds)
        time = flow.sample_times(seeds).to(truth)
        found = self(flow.interpolate(truth, noise, time), time, given)
        return cast(Tensor, (found - flow.velocity(truth, noise)).square().flatten(1).mean(1))

    def sample(self, given: Tensor, seeds: Sequence[int], *, steps: int) -> Tensor:
        """Draw states ``[n, tokens, width]``, one for each seed."""
        width = cast(nn.Linear, self.leave[1]).out_features
        noise = flow.noise_like(given.new_zeros(*given.shape[:2], width), seeds)
        return flow.euler(lambda noisy, time: self(noisy, time, given), noise, steps=steps)
