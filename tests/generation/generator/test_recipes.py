"""The generator's recipes load, and fit the classes that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from generation.config import RECIPES, Recipe
from pipeline.platform.config import load

FILES = sorted(RECIPES.glob("generator-*.yaml"))


def test_there_are_recipes_of_both_sizes_and_ways_of_training() -> None:
    names = {path.stem.removeprefix("generator-wan2.1-") for path in FILES}
    assert {"1.3b-full", "1.3b-lora", "14b-full", "14b-lora"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_is_a_clip_that_wan_can_make(path: Path) -> None:
    recipe = load(path, [], Recipe).config
    options = recipe.generator
    assert options.transformer.path and options.codec.path and options.text.path
    assert (options.frames - 1) % 4 == 0
    assert options.height_px % 16 == 0 and options.width_px % 16 == 0
    assert options.text.max_tokens == 512
    train = options.train
    together = train.batch_size // (train.lanes * train.accumulate)
    if options.regulariser.shuffle_of == "samples":
        assert together > 1
    else:
        assert recipe.state.tokens > 1
