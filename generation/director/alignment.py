"""A head that ranks pictures for a step: text to picture and back, with the pictures seen so far.

A regressed state answers "what is the mean picture?"; to find the true one among many, other weights are
better. The head adds up directions in the space of states: the previous picture, the first one, the state
recalled for the texts, and the direction in which a linear map from pictures to texts finds these texts.
Each comes in the parts of a state (features, histogram, thumbnail) with a weight of its own, fitted so that
the true next picture is told from all others of the training data. Stories are left out of the two maps
when their own rankings are fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PENALTY = 3000.0
"""Of the ridge regression from states to texts, against states of length ``sqrt(width)``."""
DECAY = 1e-3
ITERATIONS = 60
LEAST_STORIES = 20
"""With fewer, the weights stay at one for the recalled state and nothing else."""
MOST_STEPS = 1500
"""Steps that the weights are fitted on, and pictures that they are told from."""
SOURCES = 4


class Alignment(nn.Module):
    """Weights of the directions, and the map from pictures to texts.

    Args:
        said: width of a step's sentence vectors.
        parts: widths of the parts of a state, in order; together the state's numbers.
    """

    to_text: Tensor
    centre: Tensor
    sizes: Tensor
    weights: Tensor

    def __init__(self, said: int, parts: Sequence[int]) -> None:
        super().__init__()
        self._parts = tuple(parts)
        count = SOURCES * len(parts)
        self.register_buffer("to_text", torch.zeros(sum(parts), said))
        self.register_buffer("centre", torch.zeros(said))
        self.register_buffer("sizes", torch.ones(count))
        only_recalled = torch.zeros(SOURCES, len(parts))
        only_recalled[2] = 1
        # One row for the second step, whose previous picture is the first, one for all later ones.
        self.register_buffer("weights", only_recalled.flatten().repeat(2, 1))

    @torch.no_grad()
    def fit(self, said: Tensor, states: Tensor, recalled: Tensor, stories: Sequence[int]) -> None:
        """Learn from all steps.

        Args:
            said: sentence vectors ``[n, m]``.
            states: standardised ``[n, d]``.
            recalled: states recalled with the step's story left out, ``[n, d]``.
            stories: number of steps of each story, in order.
        """
        self.centre.copy_(said.mean(0))
        told = said - self.centre
        likeness = states @ states.T
        inverse = torch.linalg.inv(likeness + PENALTY * torch.eye(len(states)))
        solved = inverse @ told
        self.to_text.copy_(states.T @ solved)
        if len(stories) < LEAST_STORIES:
            return
        backward, earlier, start = torch.empty_like(states), [], 0
        for count in stories:
            part = slice(start, start + count)
            # The solution without a story, from the one with it.
            change = inverse[:, part] @ torch.linalg.solve(inverse[part, part], solved[part])
            without = solved - change
            without[part] = 0
            backward[part] = (told[part] @ without.T) @ states
            earlier += [states[start : start + place] for place in range(count)]
            start += count
        rows = torch.stack(
            [
                self._directions(seen, known, back)
                for seen, known, back in zip(earlier, recalled, backward, strict=True)
            ]
        )
        self.sizes.copy_(rows.square().sum(2).mean(0).sqrt().clamp_min(1e-6))
        places = torch.cat([torch.arange(count) for count in stories])
        first = torch.arange(len(states)) - places
        for row, chosen in enumerate((places == 1, places > 1)):
            steps = chosen.nonzero()[:MOST_STEPS, 0]
            if len(steps) >= LEAST_STORIES:
                self.weights[row] = _fitted(rows[steps] / self.sizes[:, None], states, steps, first[steps])

    def forward(self, said: Tensor, recalled: Tensor, earlier: Tensor) -> Tensor:
        """Return the direction ``[d]`` in which the next picture is looked for, by cosine.

        Args:
            said: sentence vectors of the step, ``[m]``.
            recalled: state recalled for them, ``[d]``.
            earlier: standardised states of the story so far, ``[steps, d]``, at least one.
        """
        rows = self._directions(earlier, recalled, self.to_text @ (said - self.centre))
        weights = self.weights[0 if len(earlier) == 1 else 1] / self.sizes
        return weights @ rows

    def order(self, said: Tensor, recalled: Tensor) -> Tensor:
        """Return directions ``[n, d]`` for steps without any picture: text to picture, and back."""
        backward = (said - self.centre) @ self.to_text.T
        return F.normalize(recalled, dim=1) + F.normalize(backward, dim=1)

    def _directions(self, earlier: Tensor, recalled: Tensor, backward: Tensor) -> Tensor:
        """Return ``[sources x parts, d]``; a part is zero outside of its own numbers."""
        zero = torch.zeros_like(recalled)
        first, previous = (earlier[0], earlier[-1]) if len(earlier) else (zero, zero)
        rows = torch.zeros(SOURCES, len(self._parts), len(recalled))
        for source, values in enumerate((previous, first, recalled, backward)):
            start = 0
            for part, width in enumerate(self._parts):
                rows[source, part, start : start + width] = values[start : start + width]
                start += width
        return rows.flatten(0, 1)


@torch.enable_grad()
def _fitted(rows: Tensor, states: Tensor, steps: Tensor, first: Tensor) -> Tensor:
    """Return weights ``[r]`` by which true pictures win against all others but those already shown.

    Args:
        rows: directions ``[s, r, d]`` of the steps.
        states: candidates ``[n, d]``.
        steps: places of the true ones ``[s]``.
        first: places of the first pictures of their stories ``[s]``.
    """
    others = torch.arange(len(states))
    if len(states) > MOST_STEPS:
        others = torch.unique(torch.cat([steps, others[:: len(states) // MOST_STEPS + 1]]))
    scores = rows @ F.normalize(states[others], dim=1).T
    shown = (others[None] >= first[:, None]) & (others[None] < steps[:, None])
    truth = torch.searchsorted(others, steps)
    weights = torch.zeros(rows.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = torch.einsum("r,src->sc", weights, scores).masked_fill(shown, -torch.inf)
        found = F.cross_entropy(logits, truth) + DECAY * weights.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()
