"""Shipped recipes: which film together, what they take, and that they say so."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from generation.config import RECIPES, Recipe
from generation.encoders.factory import state_difference
from pipeline.platform.config import load
from tests.support.recipe_weights import CAPTIONERS, COMPUTED, FILES, weights_of

ONE_GPU = ("director-qwen3-0.6b", "generator-wan2.1-1.3b-lora")
EIGHT_GPUS = ("director-qwen3-vl-8b-lora", "generator-wan2.1-14b-lora")
TEXTS_ALONE = ("director-qwen3-8b-lora-text", "generator-wan2.1-i2v-14b-lora-keyframe")
IP_ADAPTER = ("director-qwen3-0.6b-ip-adapter", "generator-wan2.1-1.3b-lora-ip-adapter")
SIGLIP = ("director-qwen3-8b-lora-siglip", "generator-wan2.1-14b-lora-siglip",
          "decoder-flux.1-fill-lora-siglip")  # fmt: skip
POOLED = ("director-qwen3-0.6b", "director-qwen3-4b-lora", "director-qwen3-8b-lora",
          "generator-wan2.1-1.3b-full", "generator-wan2.1-1.3b-lora")  # fmt: skip
WAN = ("director-qwen2.5-vl-7b-lora", *EIGHT_GPUS, *TEXTS_ALONE, "generator-wan2.1-14b-full",
       "generator-wan2.1-i2v-14b-lora")  # fmt: skip
GROUPS = (POOLED, WAN, IP_ADAPTER, SIGLIP)
"""Recipes with the same states: a director films with the generators of its own group alone."""


def recipe(name: str) -> Recipe:
    return load(RECIPES / f"{name}.yaml", [], Recipe).config


def test_recipes_film_together_if_their_states_are_the_same_and_say_why_not_otherwise() -> None:
    assert sorted(name for group in GROUPS for name in group) == sorted(file.stem for file in FILES)
    states = {name: recipe(name).state for group in GROUPS for name in group}
    for one, other in itertools.product(GROUPS, GROUPS):
        for director, generator in itertools.product(one, other):
            found = state_difference(states[director], states[generator])
            if one is other:
                assert found is None
            else:
                assert found is not None and "encoder " in found and "path " in found
    for pair in (ONE_GPU, EIGHT_GPUS, TEXTS_ALONE):
        assert any(set(pair) <= set(group) for group in GROUPS)


def test_precision_and_sampling_do_not_make_another_state() -> None:
    state = recipe(ONE_GPU[0]).state
    changed = state.model_copy(update={"dtype": "bfloat16", "sample_steps": 3, "guidance": 2.0})
    assert state_difference(state, changed) is None
    assert state_difference(state, changed.model_copy(update={"width": 7})) == "width 1024 and 7"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_uses_the_gpus_it_names(file: Path) -> None:
    found, kind = load(file, [], Recipe).config, file.name.partition("-")[0]
    train = getattr(found, kind).train
    title = " ".join(file.read_text().split("\n#\n")[0].split()).lower()
    one = "one gpu" in title
    assert train.processes == (1 if one else 8)
    assert train.num_gpus == found.features.num_gpus == 1
    assert found.features.held_out > 0
    assert train.preview_every or train.fsdp


@pytest.mark.parametrize("file", [*FILES, *CAPTIONERS], ids=lambda file: file.stem)
def test_a_recipe_states_the_computed_memory_of_its_weights(file: Path) -> None:
    stated = COMPUTED.search(file.read_text())
    assert stated is not None
    text = " ".join(stated.group().replace("\n# ", " ").removeprefix("# ").split())
    assert text.startswith(f"{weights_of(file).text()}, activations of ")


def test_the_key_frame_baseline_differs_in_its_condition_alone() -> None:
    states, keyframes = (
        recipe(f"generator-wan2.1-i2v-14b-lora{end}").model_dump() for end in ("", "-keyframe")
    )
    assert states["generator"].pop("condition") == "state"
    assert keyframes["generator"].pop("condition") == "keyframe"
    assert states == keyframes
