"""Figures of a director: does it foresee the next state, and does it plan stories well by itself?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.core.learner import Row
from generation.core.story import Step, Story, prompt_of
from generation.director.layout import story_of
from generation.director.model import DirectorModel
from generation.evaluation.states import (
    MAX_ASSIGNED,
    assignment_exact,
    cosine,
    cosines,
    mse,
    recall,
    retrieval,
)
from generation.evaluation.stories import coherence_figures, order
from pipeline.evaluation.figures import Better, Figure, measured, missing

OF, PLANS, TRUE = "director", "director, plans", "true stories"
STORIES_AT_ONCE = 8
States = NDArray[np.float64]


def director_figures(director: DirectorModel, rows: Sequence[Row], *, seed: int) -> list[Figure]:
    """Return figures over rows of the ``stories`` table; intervals are over stories.

    A director that predicts no states, or writes no texts, is not measured on them.
    """
    if not director.predicts_states:
        return [missing(OF, "all", "director.regress none: it predicts no states to compare")]
    stories = [story_of(row) for row in rows]
    owners = [str(row["video_id"]) for row in rows]
    true = [_flat(director.statistics.standardise(_raw(story.steps))) for story in stories]
    return [
        *_foresight(director, stories, true, owners, seed),
        *(
            _plans(director, stories, true, owners, seed)
            if director.writes_texts
            else [missing(PLANS, "all", "director.text_weight 0: it writes no texts")]
        ),
    ]


def foresee(director: DirectorModel, rows: Sequence[Row], *, seed: int) -> dict[tuple[str, str], Tensor]:
    """Predict raw states of the steps of ``stories`` rows, from goal and texts: no true picture is seen.

    Returns:
        ``[tokens, width]`` by ``video_id`` and the step's prompt; nothing of a director that predicts none.
    """
    found: dict[tuple[str, str], Tensor] = {}
    if not director.predicts_states:
        return found
    for start in range(0, len(rows), STORIES_AT_ONCE):
        some = rows[start : start + STORIES_AT_ONCE]
        stories = [story_of(row) for row in some]
        for row, story, states in zip(
            some, stories, director.predict(stories, history="own", seed=seed), strict=True
        ):
            for step, state in zip(story.steps, director.statistics.restore(states), strict=True):
                found[str(row["video_id"]), prompt_of(step.action, step.caption)] = state
    return found


def _foresight(
    director: DirectorModel, stories: list[Story], true: list[States], owners: list[str], seed: int
) -> list[Figure]:
    """Measure the state predicted from the true history and the step's texts."""
    with_truth, alone = [], []
    for start in range(0, len(stories), STORIES_AT_ONCE):
        some = stories[start : start + STORIES_AT_ONCE]
        with_truth += [_flat(found) for found in director.predict(some, history="true", seed=seed)]
        alone += [_flat(found) for found in director.predict(some, history="own", seed=seed)]
    pred, truth = np.concatenate(with_truth), np.concatenate(true)
    steps = [owner for owner, states in zip(owners, true, strict=True) for _ in states]
    index, similarity = np.arange(len(truth)), cosines(pred, truth)
    among = f"among the {len(truth)} states of all stories"
    scores: list[tuple[str, States, Better, str]] = [
        ("next state, cosine", cosine(pred, truth), "higher", "standardised"),
        ("next state, MSE", mse(pred, truth), "lower", "standardised"),
        ("next state, recall at 1", recall(similarity, index, k=1), "higher", among),
        ("next state, recall at 5", recall(similarity, index, k=5), "higher", among),
    ]
    figures = [
        measured(OF, name, values.tolist(), steps, better=better, note=note, seed=seed)
        for name, values, better, note in scores
    ]
    ranks = retrieval(similarity, index).tolist()
    median = measured(
        OF,
        "next state, median rank",
        ranks,
        steps,
        better="lower",
        note=among,
        statistic="median",
        seed=seed,
    )
    exact, chance = [], []
    for found, states in zip(alone, true, strict=True):
        count = min(len(states), MAX_ASSIGNED)
        exact.append(float(assignment_exact(cosines(found[:count], states[:count])[None])[0]))
        chance.append(1 / math.factorial(count))
    note = f"own predictions as history; chance is {np.mean(chance):.3g}"
    return [
        *figures,
        median,
        measured(OF, "assignment exact", exact, owners, better="higher", note=note, seed=seed),
    ]


def _plans(
    director: DirectorModel, stories: list[Story], true: list[States], owners: list[str], seed: int
) -> list[Figure]:
    """Measure plans made from the goal and the number of steps alone."""
    plans = [
        list(director.plan(story.goal, steps=len(story.steps), seed=seed)) for story in stories
    ]  # fmt: skip
    states = [_flat(director.statistics.standardise(_raw(plan))) for plan in plans]
    taus = [order(cosines(found, truth)) for found, truth in zip(states, true, strict=True)]
    note = "Kendall's tau against the steps of the true story"
    figures = [measured(PLANS, "order of states", taus, owners, better="higher", note=note, seed=seed)]
    for of, texts, each in (
        (PLANS, [_actions(plan) for plan in plans], states),
        (TRUE, [_actions(story.steps) for story in stories], true),
    ):
        figures += coherence_figures(of, texts, each, each, owners, note="standardised", seed=seed)
    return figures


def _actions(steps: Sequence[Step]) -> list[str]:
    return [step.action or step.caption for step in steps]


def _raw(steps: Sequence[Step]) -> Tensor:
    return torch.stack([step.state for step in steps if step.state is not None])


def _flat(states: Tensor) -> States:
    flat: States = states.flatten(1).double().numpy()
    return flat
