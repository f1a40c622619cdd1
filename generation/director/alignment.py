"""A head that scores pictures for a step: text to picture and back, with the pictures seen so far.

A regressed state answers "what is the mean picture?"; to find the true one among many, other weights are
better. The score of a picture is a weighted sum of similarities:

- cosines with the previous picture, the first one and the state recalled for the texts: of the whole
  states, and of each part (features, histogram, thumbnail);
- the cosine with the mean of the earlier pictures where differences within stories are whitened, so that
  the numbers that stay the same throughout a story count most;
- the cosine of the texts with the texts that a ridge regression reads from the picture;
- how well the picture fits the step's number, by another ridge regression: a story's first and last
  pictures look alike in most stories.

The weights maximise the likelihood of the true next picture among others. They are fitted on folds of
stories that the regressions and the whitening have not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PENALTY = 3000.0
"""Of the ridge regressions from states, against states of length ``sqrt(width)``."""
DIRECTIONS = 300
"""Principal directions of the states in which differences within stories are whitened."""
FLOOR = 0.5
"""Added to the variances within stories before whitening, in units of their mean."""
DECAY = 3e-3
ITERATIONS = 100
FOLDS = 5
LEAST_STORIES = 20
"""With fewer stories, the recalled state alone ranks pictures."""
MOST_STORIES = 1000
"""Stories that the weights are fitted on."""
PICTURES = 3
"""The previous picture, the first one, the recalled one."""


class Alignment(nn.Module):
    """Maps from states to texts and step numbers, and the weights of the similarities.

    Args:
        said: width of a step's sentence vectors.
        places: step numbers that are distinguished; later ones count as the last.
        parts: widths of the parts of a state, in order; together the state's numbers.
    """

    to_text: Tensor
    to_place: Tensor
    within: Tensor
    centre: Tensor
    weights: Tensor

    def __init__(self, said: int, places: int, parts: Sequence[int]) -> None:
        super().__init__()
        self._parts, width = list(parts), sum(parts)
        self.register_buffer("to_text", torch.zeros(width, said))
        self.register_buffer("to_place", torch.zeros(width, places))
        self.register_buffer("within", torch.zeros(width, min(DIRECTIONS, width)))
        self.register_buffer("centre", torch.zeros(said))
        only_recalled = torch.zeros(PICTURES * (1 + len(parts)) + 3)
        only_recalled[PICTURES - 1] = 1
        # One row for the second step, whose previous picture is the first, one for all later ones.
        self.register_buffer("weights", only_recalled.repeat(2, 1))

    @torch.no_grad()
    def fit(self, said: Tensor, states: Tensor, recalled: Tensor, stories: Sequence[int]) -> None:
        """Learn from all steps.

        Args:
            said: sentence vectors ``[n, m]``.
            states: standardised ``[n, d]``.
            recalled: states recalled with the step's story left out, ``[n, d]``.
            stories: number of steps of each story, in order.
        """
        owner = torch.repeat_interleave(torch.arange(len(stories)), torch.tensor(stories))
        places = torch.cat([torch.arange(count) for count in stories])
        examples: tuple[list[_Example], list[_Example]] = ([], [])
        for fold in range(FOLDS if len(stories) >= LEAST_STORIES else 0):
            chosen = (owner % FOLDS == fold) & (owner < MOST_STORIES)
            rest = owner % FOLDS != fold
            self._fit_maps(said[rest], states[rest], places[rest], owner[rest])
            shown = states[chosen]
            pictures = self.candidates(shown)
            for at, place in enumerate(places[chosen].tolist()):
                if place:
                    texts, expected = said[chosen][at], recalled[chosen][at]
                    found = self.similarities(texts, place, expected, shown[at - place : at], pictures)
                    examples[place > 1].append(_Example(found, at, place))
        self._fit_maps(said, states, places, owner)
        for row, some in enumerate(examples):
            if len(some) >= LEAST_STORIES:
                self.weights[row] = _fitted(some)

    def _fit_maps(self, said: Tensor, states: Tensor, places: Tensor, owner: Tensor) -> None:
        """Solve the regressions from states, and the whitening of differences within stories."""
        self.centre.copy_(said.mean(0))
        numbers = F.one_hot(places.clamp_max(self.to_place.shape[1] - 1), self.to_place.shape[1]).float()
        wanted = torch.cat([said - self.centre, numbers - numbers.mean(0)], 1)
        products = states.T @ states
        solved = torch.linalg.solve(products + PENALTY * torch.eye(len(products)), states.T @ wanted)
        self.to_text.copy_(solved[:, : said.shape[1]])
        self.to_place.copy_(solved[:, said.shape[1] :])
        directions = torch.linalg.eigh(products)[1][:, -self.within.shape[1] :]
        along = states @ directions
        _, which = torch.unique_consecutive(owner, return_inverse=True)
        count = torch.bincount(which)[:, None]
        means = torch.zeros(len(count), along.shape[1]).index_add_(0, which, along) / count
        apart = along - means[which]
        variances, axes = torch.linalg.eigh(apart.T @ apart / len(apart))
        variances = variances.clamp_min(0)
        self.within.copy_(directions @ axes / (variances + FLOOR * variances.mean() + 1e-9).sqrt())

    def forward(
        self, said: Tensor, place: int, recalled: Tensor, earlier: Tensor, pictures: Candidates
    ) -> Tensor:
        """Return scores ``[c]`` of pictures as the next one; see :meth:`similarities`."""
        return self.weights[min(place - 1, 1)] @ self.similarities(said, place, recalled, earlier, pictures)

    def candidates(self, states: Tensor) -> Candidates:
        """Return what the head reads from pictures, of their standardised states ``[c, d]``."""
        return Candidates(
            wholes=F.normalize(states, dim=1),
            parts=[F.normalize(part, dim=1) for part in torch.split(states, self._parts, 1)],
            within=F.normalize(states @ self.within, dim=1),
            texts=F.normalize(states @ self.to_text, dim=1),
            places=states @ self.to_place,
        )

    def similarities(
        self, said: Tensor, place: int, recalled: Tensor, earlier: Tensor, pictures: Candidates
    ) -> Tensor:
        """Return the similarities ``[s, c]`` of a step with pictures.

        Args:
            said: sentence vectors of the step, ``[m]``.
            place: the step's number, from 1.
            recalled: state recalled for its texts, ``[d]``.
            earlier: standardised states of the story so far, ``[steps, d]``, at least one.
            pictures: to choose from.
        """
        known = torch.stack([earlier[-1], earlier[0], recalled])
        number = min(place, self.to_place.shape[1] - 1)
        parts = zip(torch.split(known, self._parts, 1), pictures.parts, strict=True)
        return torch.cat([
            F.normalize(known, dim=1) @ pictures.wholes.T,
            *(F.normalize(some, dim=1) @ others.T for some, others in parts),
            F.normalize(earlier.mean(0, keepdim=True) @ self.within, dim=1) @ pictures.within.T,
            F.normalize((said - self.centre)[None], dim=1) @ pictures.texts.T,
            pictures.places[:, number][None],
        ])  # fmt: skip

    def order(self, said: Tensor, recalled: Tensor, pictures: Candidates) -> Tensor:
        """Return scores ``[n, c]`` for steps without any picture: text to picture, and back."""
        backward = (said - self.centre) @ self.to_text.T
        return (F.normalize(recalled, dim=1) + F.normalize(backward, dim=1)) @ pictures.wholes.T


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Pictures to choose from.

    Attributes:
        wholes: states of length one, ``[c, d]``.
        parts: parts of the states, each of length one.
        within: states with differences within stories whitened, of length one.
        texts: sentence vectors read from the pictures, of length one.
        places: fit with each step number, ``[c, places]``.
    """

    wholes: Tensor
    parts: list[Tensor]
    within: Tensor
    texts: Tensor
    places: Tensor


class _Example:
    """Similarities ``[s, c]`` of a step with all pictures not shown yet, and the place of the true one."""

    def __init__(self, similarities: Tensor, truth: int, place: int) -> None:
        earlier = torch.arange(truth - place, truth)
        keep = torch.ones(similarities.shape[1], dtype=torch.bool)
        keep[earlier] = False
        self.similarities, self.truth = similarities[:, keep], truth - place


@torch.enable_grad()
def _fitted(examples: Sequence[_Example]) -> Tensor:
    """Return the weights ``[s]`` with which true pictures win against all others."""
    size = torch.stack([example.similarities.std(1) for example in examples]).mean(0).clamp_min(1e-6)
    most = max(example.similarities.shape[1] for example in examples)
    padded = torch.stack(
        [F.pad(each.similarities / size[:, None], (0, most - each.similarities.shape[1]))
         for each in examples]
    )  # fmt: skip
    absent = torch.stack([torch.arange(most) >= each.similarities.shape[1] for each in examples])
    truth = torch.tensor([example.truth for example in examples])
    weights = torch.zeros(len(size), requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        scores = torch.einsum("s,nsc->nc", weights, padded).masked_fill(absent, -torch.inf)
        found = F.cross_entropy(scores, truth) + DECAY * weights.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return (weights / size).detach()
