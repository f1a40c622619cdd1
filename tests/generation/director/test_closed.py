"""The director in closed form answers with the dataset's own sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from generation import config
from generation.config import Recipe, Sampling
from generation.core.states import Statistics
from generation.core.story import Step
from generation.director import closed, outline
from generation.director.closed import ClosedFormDirector
from generation.store import load_director, save_learner

STORIES = {
    "How to make soup?": [
        "Chop the onion and the carrot.", "Heat the oil in a pot.", "Stir the soup with a spoon.",
        "Add salt and pepper.",
    ],
    "How to make cookies?": ["Mix butter and sugar.", "Add flour.", "Bake the cookies in the oven."],
    "How to repair a puncture?": ["Take the wheel off the bicycle.", "Glue a patch on the tube."],
}  # fmt: skip
STATE = config.State(tokens=1, width=16)
OPTIONS = config.DirectorSettings(kind="closed", sentences="minilm", chain=("action", "caption"))


def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "video_id": goal,
            "goal": goal,
            "actions": actions,
            "captions": [f"Someone at work: {action.lower()}" for action in actions],
            "tensors": save({"states": torch.randn(len(actions), 1, 16, generator=generator)}),
        }
        for goal, actions in STORIES.items()
    ]


@pytest.fixture(scope="module")
def director() -> ClosedFormDirector:
    made = ClosedFormDirector(OPTIONS, STATE, Statistics(torch.zeros(1, 16), torch.ones(1, 16)))
    made.prepare(rows(), {})
    return made


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How to make soup?", "How to make soup?"),
        ("Show me how to cook a vegetable soup", "How to make soup?"),
        ("I would like to bake some biscuits", "How to make cookies?"),
        ("My bike has a flat tyre", "How to repair a puncture?"),
    ],
)
def test_the_question_asked_is_answered(director: ClosedFormDirector, question: str, answer: str) -> None:
    steps = list(director.plan(question))
    assert [step.action for step in steps] == STORIES[answer]
    assert all(step.state is not None and step.state.shape == (1, 16) for step in steps)


def test_fewer_steps_keep_first_and_last_and_more_come_from_other_stories(
    director: ClosedFormDirector,
) -> None:
    fewer = [step.action for step in director.plan("How to make soup?", steps=2)]
    assert fewer == [STORIES["How to make soup?"][0], STORIES["How to make soup?"][-1]]
    more = [step.action for step in director.plan("How to make soup?", steps=6)]
    assert more[:4] == STORIES["How to make soup?"] and len(set(more)) == 6


def test_given_steps_stand_and_are_not_repeated(director: ClosedFormDirector) -> None:
    state = torch.ones(1, 16)
    given = [Step(action="Chop onion and carrot.", caption="", state=state)]
    steps = list(director.plan("How to make soup?", given=given))
    assert steps[0].action == "Chop onion and carrot." and steps[0].state is state
    # The caption of the known action that says the same.
    assert steps[0].caption == "Someone at work: chop the onion and the carrot."
    assert [step.action for step in steps[1:]] == STORIES["How to make soup?"][1:]


def test_a_question_that_no_story_answers_gets_an_outline(
    director: ClosedFormDirector, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    made: Callable[[str, int], list[str]] = lambda goal, count: asked.append((goal, count)) or ["Wash it."]  # type: ignore[func-returns-value]  # noqa: E731
    monkeypatch.setattr(closed, "outline", made)
    steps = list(director.plan("What is the capital of France?", steps=1))
    assert [step.action for step in steps] == ["Wash it."] and asked == [
        ("What is the capital of France?", 1)
    ]
    # A film of one step at most has one, and not none.
    monkeypatch.setattr(director, "options", OPTIONS.model_copy(update={"sampling": Sampling(max_steps=1)}))
    assert len(list(director.plan("What is the capital of France?"))) == 1 and asked[-1][1] == 1


def test_an_outline_is_bounded_however_long_the_question_and_the_story(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompts: list[tuple[int, int]] = []
    language = outline._language()

    def generate(ids: torch.Tensor, *, max_new_tokens: int, **_: Any) -> torch.Tensor:
        prompts.append((ids.shape[1], max_new_tokens))
        return ids

    monkeypatch.setattr(language.model, "generate", generate)
    outline.outline("How to " + "boil water and " * 10_000, 10_000)
    ((read, written),) = prompts
    assert read < 1000 and read + written < 2048


def test_saved_and_loaded_it_plans_the_same(director: ClosedFormDirector, tmp_path: Path) -> None:
    recipe = Recipe(state=STATE, director=OPTIONS)
    save_learner(director, recipe, tmp_path / "director")
    loaded = load_director(tmp_path)
    for one, other in zip(director.plan("soup"), loaded.plan("soup"), strict=True):
        assert one.action == other.action and one.state is not None and other.state is not None
        assert torch.equal(one.state, other.state)
