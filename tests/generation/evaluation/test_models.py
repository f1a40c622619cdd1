"""Figures of directors and generators that are perfect, useless or something between, by construction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from generation import config
from generation.core.states import Pictures, Statistics
from generation.core.story import Step, Story
from generation.director.model import DirectorModel
from generation.encoders.codecs import Pixels
from generation.evaluation.inverse import Instruments, inverse_figures, make, read_clips, variants
from generation.evaluation.networks import VideoFeatures
from generation.evaluation.planning import director_figures, foresee
from generation.evaluation.text_image import ClipModel
from generation.generator.model import GeneratorModel
from pipeline.evaluation.figures import Figure
from tests.support.films import MeanColour, figure, value
from tests.support.networks import save_tiny_clip

STATISTICS = Statistics(torch.full((2, 8), 0.5), torch.full((2, 8), 2.0))
STORIES, STEPS = 10, 4


def story_row(number: int) -> dict[str, Any]:
    random = torch.Generator().manual_seed(number)
    return {
        "video_id": f"v{number}",
        "goal": f"How to cook dish {number}?",
        "actions": [f"{verb} it" for verb in ("chop", "fry", "boil", "serve")],
        "captions": [f"pan {place}" for place in range(STEPS)],
        "tensors": safetensors.torch.save({"states": torch.randn(STEPS, 2, 8, generator=random) * 2 + 0.5}),
    }


ROWS = [story_row(number) for number in range(STORIES)]


class Foretold:
    """A director that says what it was told to: the truth, one state for all, or the truth backwards."""

    statistics = STATISTICS
    predicts_states = writes_texts = True

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.true = {row["goal"]: safetensors.torch.load(row["tensors"])["states"] for row in ROWS}

    def _states(self, goal: str) -> Tensor:
        true = self.true[goal]
        if self.kind == "constant":
            return torch.full_like(true, 3.0)
        return true.flip(0) if self.kind == "backwards" else true

    def predict(self, stories: Sequence[Story], *, history: str, seed: int = 0) -> list[Tensor]:
        return [STATISTICS.standardise(self._states(story.goal)) for story in stories]

    def plan(self, goal: str, *, steps: int, seed: int) -> Iterator[Step]:
        for place, state in enumerate(self._states(goal)):
            action = "do it" if self.kind == "constant" else f"do {place}"
            yield Step(action=action, caption="", state=state)


def figures_of(kind: str) -> list[Figure]:
    return director_figures(cast(DirectorModel, Foretold(kind)), ROWS, seed=0)


def of(figures: list[Figure], name: str) -> list[Figure]:
    return [each for each in figures if each.of == name]


def test_a_director_that_knows_the_truth() -> None:
    figures = figures_of("truth")
    assert value(figures, "next state, cosine") == pytest.approx(1)
    assert value(figures, "next state, MSE") == pytest.approx(0, abs=1e-9)
    assert value(figures, "next state, recall at 1") == 1
    assert value(figures, "next state, median rank") == 1
    assert value(figures, "assignment exact") == 1
    assert value(of(figures, "director, plans"), "order of states") == pytest.approx(1)
    assert value(of(figures, "director, plans"), "repeated actions") == 0
    made, real = (
        value(of(figures, whose), "consistency, adjacent") for whose in ("director, plans", "true stories")
    )
    assert made == pytest.approx(real)
    assert figure(figures, "next state, recall at 1").note == "among the 40 states of all stories"
    found = figure(figures, "next state, cosine").value
    assert found is not None and found.n == STORIES, "steps of a story are no independent witnesses"


def test_a_director_that_always_says_the_same_gets_chance() -> None:
    figures = figures_of("constant")
    assert value(figures, "assignment exact") == pytest.approx(1 / math.factorial(STEPS))
    assert figure(figures, "assignment exact").note == "own predictions as history; chance is 0.0417"
    assert value(figures, "next state, recall at 1") == pytest.approx(1 / 40)
    assert value(figures, "next state, recall at 5") == pytest.approx(5 / 40)
    assert value(figures, "next state, median rank") == pytest.approx(20.5)
    assert value(of(figures, "director, plans"), "order of states") == 0
    assert value(of(figures, "director, plans"), "repeated actions") == 1
    assert value(of(figures, "director, plans"), "repeated states") == 1
    assert value(of(figures, "true stories"), "repeated states") == 0


def test_a_director_that_tells_it_backwards() -> None:
    figures = figures_of("backwards")
    assert value(of(figures, "director, plans"), "order of states") == pytest.approx(-1)
    assert value(figures, "assignment exact") == 0


def test_a_director_is_measured_on_what_it_gives() -> None:
    """One of texts alone predicts no states; one that learned no text plans none."""
    texts_alone, states_alone = Foretold("truth"), Foretold("truth")
    texts_alone.predicts_states = states_alone.writes_texts = False

    (only,) = director_figures(cast(DirectorModel, texts_alone), ROWS, seed=0)
    assert only.value is None and "director.regress none" in only.note
    assert foresee(cast(DirectorModel, texts_alone), ROWS, seed=0) == {}
    figures = director_figures(cast(DirectorModel, states_alone), ROWS, seed=0)
    assert value(figures, "next state, cosine") == pytest.approx(1)
    (plans,) = of(figures, "director, plans")
    assert plans.value is None and "director.text_weight 0" in plans.note


def test_foreseen_states_are_raw() -> None:
    found = foresee(cast(DirectorModel, Foretold("truth")), ROWS, seed=0)
    true = safetensors.torch.load(ROWS[3]["tensors"])["states"]
    assert len(found) == STORIES * STEPS
    assert torch.allclose(found["v3", "fry it pan 1"], true[1], atol=1e-5)


COLOURS = Statistics(torch.zeros(1, 3), torch.full((1, 3), 50.0))


def clip_row(number: int) -> dict[str, Any]:
    """A clip of one colour that slowly brightens; its state is its colour."""
    random = np.random.default_rng(number)
    colour = random.integers(0, 200, 3)
    video = np.stack([np.broadcast_to(colour + 4 * frame, (16, 16, 3)) for frame in range(9)]).astype(
        np.uint8
    )
    tensors = {
        "latents": Pixels().encode(video).contiguous(),
        "state": torch.from_numpy(colour - 87.0)[None].float(),
    }
    return {
        "video_id": f"v{number // 2}",
        "action": f"Do {number}.",
        "caption": "",
        "tensors": safetensors.torch.save(tensors),
    }


CLIP_ROWS = [clip_row(number) for number in range(12)]


class Echo:
    """A generator that paints the state it is given, and noise without one; it notes what it was asked."""

    def __init__(self, condition: str, retrieval: str = "off") -> None:
        self.options = config.GeneratorSettings(condition=condition, retrieval=retrieval)
        self.codec = Pixels()
        self.calls: list[dict[str, Any]] = []

    def sample(
        self,
        captions: Sequence[str],
        states: Tensor | None,
        *,
        seed: int,
        first_frames: Pictures | None = None,
    ) -> Pictures:
        self.calls.append({"captions": captions, "states": states, "seed": seed, "first": first_frames})
        random = np.random.default_rng(seed)
        clips = random.integers(0, 256, (len(captions), 9, 16, 16, 3))
        if states is not None:
            clips = (states.numpy()[:, :, None, None] + 87).clip(0, 255) + np.zeros_like(clips)
            clips = clips + 4 * np.arange(9)[:, None, None, None]
        elif first_frames is not None:
            clips = np.repeat(first_frames[:, None], 9, axis=1)
        return clips.astype(np.uint8)


def instruments(clip: ClipModel | None = None) -> Instruments:
    network = MeanColour()
    return Instruments(pictures=network, statistics=COLOURS, videos=[VideoFeatures(network)], clip=clip)


def inverse(
    echo: Echo, foreseen: dict[tuple[str, str], Tensor], clip: ClipModel | None = None
) -> list[Figure]:
    generator = cast(GeneratorModel, echo)
    return inverse_figures(generator, read_clips(CLIP_ROWS, generator), foreseen, instruments(clip), seed=7)


DISTANCE = "frechet(mean and change of mean-colour)"


def test_inverse_generation_with_states(tmp_path: Path) -> None:
    """True states give the real clips again; states of other clips do not."""
    generator = cast(GeneratorModel, Echo("state"))
    clips = read_clips(CLIP_ROWS, generator)
    wrong = {(clip.video_id, clip.prompt): -clip.state for clip in clips}
    figures = inverse(Echo("state"), wrong, ClipModel(save_tiny_clip(tmp_path / "clip")))
    true, predicted = of(figures, "generator, true states"), of(figures, "generator, predicted states")
    assert value(true, DISTANCE) == pytest.approx(0, abs=1e-6)
    assert value(true, "CLIP-I") == pytest.approx(100, abs=1e-3)
    assert value(true, "state agreement") == pytest.approx(
        value(of(figures, "real clips"), "state agreement")
    )
    assert value(true, "CLIP-T") == pytest.approx(value(of(figures, "real clips"), "CLIP-T"))
    assert value(predicted, DISTANCE) > 100
    assert value(predicted, "CLIP-I") < 99.99
    assert value(predicted, "state agreement") < value(true, "state agreement") - 0.5
    found = figure(true, DISTANCE)
    assert found.value is not None and found.value.n == 6, "videos, not clips"


def test_inverse_generation_with_and_without_the_first_key_frame() -> None:
    echo = Echo("caption")
    figures = inverse(echo, {})
    without, given = (
        of(figures, "generator, caption"),
        of(figures, "generator, caption and first key frame"),
    )
    assert value(given, DISTANCE) < value(without, DISTANCE)
    assert figure(given, "CLIP-T").note == "no CLIP given: --clip FOLDER"
    assert all(call["states"] is None for call in echo.calls)
    first = [call["first"] for call in echo.calls]
    assert first[:3] == [None] * 3 and np.array_equal(
        np.concatenate(first[3:]),
        np.stack([clip.video[0] for clip in read_clips(CLIP_ROWS, cast(GeneratorModel, echo))]),
    )
    assert [call["seed"] for call in echo.calls] == [7, 11, 15] * 2, "both from the same noise"
    assert echo.calls[0]["captions"] == ["Do 0.", "Do 1.", "Do 2.", "Do 3."]


def test_what_a_generator_cannot_go_without_is_said() -> None:
    clips = read_clips(CLIP_ROWS, cast(GeneratorModel, Echo("state")))
    asked, reasons = variants(cast(GeneratorModel, Echo("keyframe")), clips, {})
    assert [each.name for each in asked] == ["first key frame"] and asked[0].first
    assert "train one with generator.condition caption or state" in reasons[0].note
    asked, reasons = variants(cast(GeneratorModel, Echo("state")), clips, {})
    assert [each.name for each in asked] == ["true states", "true states and first key frame"]
    assert reasons[0].note == (
        "the models have no director that predicts states, or its stories are not those of the clips"
    )


@pytest.mark.parametrize(
    ("condition", "name"), [("state", "true states"), ("keyframe", "true states"), ("caption", "caption")]
)
def test_clips_of_an_index_are_not_measured_with_a_first_frame(condition: str, name: str) -> None:
    """They begin as their training clips do, whatever frame is given."""
    generator = cast(GeneratorModel, Echo(condition, "retrieve"))
    asked, reasons = variants(generator, read_clips(CLIP_ROWS, generator), {})
    assert [(each.name, each.first) for each in asked] == [(name, False)]
    assert reasons[0].of == f"generator, {name} and first key frame" and reasons[0].value is None


def test_one_clip_alone_has_no_distance() -> None:
    echo = cast(GeneratorModel, Echo("state"))
    clips = read_clips(CLIP_ROWS[:1], echo)
    assert len(make(echo, clips, variants(echo, clips, {})[0][0], seed=0)) == 1
    found = figure(
        of(inverse_figures(echo, clips, {}, instruments(), seed=0), "generator, true states"), DISTANCE
    )
    assert (
        found.value is None
        and found.note == "needs at least 2 clips on both sides, there are 1 made and 1 real"
    )
