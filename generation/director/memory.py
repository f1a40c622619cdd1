"""Memory of the states that went with such words in training: kernel ridge regression, in closed form.

A director that saw a few hundred stories cannot learn what pictures go with words as well as this can; with
it, the language model has to learn what is beyond. Trained on its own stories a regression looks better
than it is, so the director is trained on what is recalled of a story when that story is left out.

What a state has beyond its prediction - this kitchen, this light - belongs in part to the whole story. How
much follows from the correlation of the left-out errors within stories, along each of their principal
directions; that share is carried on to the next step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.platform.config import ConfigError

PENALTY = 4.0
PLACE = 0.4
"""How much two steps of different number differ, against sentences of about unit length."""
MAX_SHARE = 0.95
SMOOTHED = 9
"""Principal directions over which a share is averaged; half of it is that of all directions."""
MAX_WIDTH = 4096


class Memory(nn.Module):
    """Regression from a step's sentence vectors and number to its standardised state.

    Args:
        width: of a step's sentence vectors, together.
        places: step numbers that are distinguished; later ones count as the last.
        shape: of a state, ``(tokens, width)``.
        size: steps that are kept, the first ones of the training data; with as many as there are this is
            kernel ridge regression itself, with fewer its approximation by a subset of regressors.
    """

    keys: Tensor
    values: Tensor
    centre: Tensor
    scale: Tensor
    mean: Tensor
    directions: Tensor
    shares: Tensor

    def __init__(self, width: int, places: int, shape: tuple[int, int], size: int) -> None:
        super().__init__()
        numbers = shape[0] * shape[1]
        if numbers > MAX_WIDTH:
            raise ConfigError(f"director.memory: takes states of up to {MAX_WIDTH} numbers, not {numbers}")
        self._places = places
        self.register_buffer("keys", torch.zeros(size, width + places))
        self.register_buffer("values", torch.zeros(size, *shape))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("directions", torch.eye(numbers))
        self.register_buffer("shares", torch.zeros(numbers))

    def fit(self, said: Tensor, places: Tensor, states: Tensor, stories: Sequence[int]) -> Tensor:
        """Learn all steps of the training data.

        Args:
            said: sentence vectors ``[n, width]``.
            places: step numbers ``[n]``, from 0.
            states: ``[n, tokens, width]``, standardised.
            stories: how many steps each story has, in order; they sum up to n.

        Returns:
            what is recalled of each step when its story is left out, ``[n, tokens, width]``.
        """
        self.centre.copy_(said.mean(0))
        self.scale.copy_((said - self.centre).square().sum(1).mean().sqrt())
        self.mean.copy_(states.mean(0))
        inputs, wanted = self._inputs(said, places), (states - self.mean).flatten(1)
        kept = inputs[: len(self.keys)]
        across = _likeness(inputs, kept)
        system = across.T @ across + PENALTY * _likeness(kept, kept)
        # Sentences that are said twice make it singular.
        system = system + 1e-4 * torch.eye(len(kept))
        solved = torch.linalg.solve(system, across.T)
        self.keys.zero_()[: len(kept)] = kept
        self.values.zero_()[: len(kept)] = (solved @ wanted).view(-1, *self.mean.shape)
        influence = across @ solved
        missed = wanted - influence @ wanted
        recalled, start = torch.empty_like(wanted), 0
        for count in stories:
            part = slice(start, start + count)
            alone = torch.linalg.solve(torch.eye(count) - influence[part, part], missed[part])
            recalled[part] = wanted[part] - alone
            start += count
        self._learn_shares(torch.split(wanted - recalled, list(stories)))
        return recalled.view_as(states) + self.mean

    def carried(self, beyond: Tensor) -> Tensor:
        """Return the part of the next state that is expected beyond its prediction.

        The best linear guess when, along a direction, any two of a story correlate by its share.

        Args:
            beyond: ``[n, earlier, tokens, width]``, at least one earlier.
        """
        count = beyond.shape[1]
        weights = count * self.shares / (1 + (count - 1) * self.shares)
        along = beyond.mean(1).flatten(1) @ self.directions
        return ((along * weights) @ self.directions.T).view(len(beyond), *self.mean.shape)

    def _learn_shares(self, errors: Sequence[Tensor]) -> None:
        everything = torch.cat(list(errors))
        # Fewer steps than numbers of a state leave many eigenvalues 0, where float32 does not converge.
        exact = everything.double()
        directions = torch.linalg.eigh(exact.T @ exact).eigenvectors.float()
        self.directions.copy_(directions)
        along = [error @ directions for error in errors]
        spread = torch.cat(along).square().mean(0)
        pairs = sum(len(error) * (len(error) - 1) for error in along)
        joint = torch.stack([error.sum(0).square() - error.square().sum(0) for error in along]).sum(0)
        joint = joint / max(1, pairs)
        each = (joint / spread.clamp_min(1e-9)).clamp(0, MAX_SHARE)[None]
        near = F.avg_pool1d(
            F.pad(each, (SMOOTHED // 2, SMOOTHED // 2), mode="replicate"), SMOOTHED, stride=1
        )
        overall = (joint.sum() / spread.sum()).clamp(0, MAX_SHARE)
        self.shares.copy_((near[0] + overall) / 2)

    def forward(self, said: Tensor, places: Tensor) -> Tensor:
        """Recall states ``[n, tokens, width]`` of vectors ``[n, width]`` and step numbers ``[n]``."""
        likeness = _likeness(self._inputs(said, places), self.keys)
        return torch.einsum("nk,ktw->ntw", likeness, self.values) + self.mean

    def _inputs(self, said: Tensor, places: Tensor) -> Tensor:
        which = F.one_hot(places.clamp_max(self._places - 1), self._places)
        return torch.cat([(said - self.centre) / self.scale, PLACE * which], 1)


def _likeness(one: Tensor, other: Tensor) -> Tensor:
    """Return ``exp(-|a - b|^2)`` of all pairs."""
    return torch.exp(-torch.cdist(one, other).square())
