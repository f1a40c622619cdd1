"""The generator's recipes load, and fit the classes that they name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

from generation.config import RECIPES, Recipe
from pipeline.platform.config import load

FILES = sorted(RECIPES.glob("generator-*.yaml"))
SMALL = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
IMAGES = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
PUBLISHED = {"T2V-1.3B": SMALL, "T2V-14B": {}, "I2V-14B": IMAGES}
"""What the published configurations of Wan 2.1 say beyond diffusers' defaults."""


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_stated_size_is_that_of_the_model(path: Path) -> None:
    """The comment's memory and cost follow from it."""
    folder = load(path, [], Recipe).config.generator.transformer.path
    assert folder is not None
    settings = next(given for name, given in PUBLISHED.items() if name in str(folder))
    with torch.device("meta"):
        weights = sum(p.numel() for p in WanTransformer3DModel(**settings).parameters()) / 1e9
    stated = float(path.read_text().split("N = ")[1].split(" G")[0])
    # A full recipe counts the small network on the states as well.
    assert weights - 0.01 < stated < weights + 0.1
