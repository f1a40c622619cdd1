"""Figures of a whole story: consistency between shots, repetition, order.

The paper's authors name repeated steps and broken identity as their director's failures. States are
``[steps, d]``; standardise them first, or the mean of all pictures makes every pair look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from generation.evaluation.states import TIE, Floats, cosine, unit
from pipeline.evaluation.figures import Better, Figure, measured
from pipeline.evaluation.repetition import REPEATED_TEXT, text_repetition

REPEATED_STATE = 0.9
"""From where a step repeats another. Stricter than the director's own control, which otherwise would be
measured by what it enforces."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """Mean cosine of shots with the one before, and with the first; None of a single shot."""

    adjacent: float | None
    to_first: float | None


def consistency(states: Floats) -> Consistency:
    """Return cross-shot consistency of states ``[steps, d]`` in order."""
    if len(states) < 2:
        return Consistency(None, None)
    first = np.broadcast_to(states[:1], states[1:].shape)
    return Consistency(
        adjacent=float(cosine(states[1:], states[:-1]).mean()),
        to_first=float(cosine(states[1:], first).mean()),
    )


def state_repetition(states: Floats, *, limit: float = REPEATED_STATE) -> float | None:
    """Return the share of later steps whose state has a cosine of ``limit`` or more with an earlier one.

    States are ``[steps, d]``; None of one step.
    """
    if len(states) < 2:
        return None
    directions = unit(states)
    similarity = directions @ directions.T
    repeated = [similarity[step, :step].max() >= limit for step in range(1, len(states))]
    return float(np.mean(repeated))


def order(similarity: Floats) -> float | None:
    """Return Kendall's tau-b of the predicted steps and of the true steps they resemble most.

    Each predicted step stands where its most similar true step stands, at the mean place of several that
    are equally similar. Predictions that all stand at one place have no order and get 0.

    Args:
        similarity: ``[predicted, true]``, of any kind.

    Returns:
        from -1 to 1; None where either side has fewer than two steps.
    """
    values = np.asarray(similarity, np.float64)
    if min(values.shape) < 2:
        return None
    best: NDArray[np.bool_] = values >= values.max(axis=1, keepdims=True) - TIE
    places = (best * np.arange(values.shape[1])).sum(axis=1) / best.sum(axis=1)
    if np.ptp(places) == 0:
        return 0.0
    return float(kendalltau(np.arange(len(places)), places).statistic)


def coherence_figures(
    of: str,
    actions: Sequence[Sequence[str]],
    shown: Sequence[Floats],
    planned: Sequence[Floats | None],
    stories: Sequence[str],
    *,
    note: str,
    seed: int,
) -> list[Figure]:
    """Return consistency and repetition of several stories.

    Args:
        actions: of each story's steps.
        shown: states ``[steps, d]`` of what is seen, for consistency.
        planned: states that should differ from step to step; None of a story without.
        stories: their names.
        note: what ``shown`` is.
    """
    both = [consistency(states) for states in shown]
    again = [None if states is None else state_repetition(states) for states in planned]
    said = [text_repetition(each) for each in actions]

    def mean(name: str, values: Sequence[float | None], better: Better, note: str) -> Figure:
        return measured(of, name, values, stories, better=better, note=note, seed=seed)

    return [
        mean("consistency, adjacent", [each.adjacent for each in both], "", note),
        mean("consistency, to the first", [each.to_first for each in both], "", note),
        mean("repeated actions", said, "lower", f"share of later steps, overlap from {REPEATED_TEXT}"),
        mean("repeated states", again, "lower", f"share of later steps, cosine from {REPEATED_STATE}"),
    ]
