"""The recipe: defaults of its own in every place, and values that do not go together."""

from __future__ import annotations

import pytest

from generation.config import Recipe
from pipeline.platform.config import ConfigError, load


@pytest.mark.parametrize("model", ["director", "decoder", "generator"])
def test_setting_one_value_of_a_training_leaves_the_others(model: str) -> None:
    """Each model has its own defaults for the same section."""
    usual = getattr(Recipe(), model).train
    changed = getattr(load(None, [f"{model}.train.steps=7"], Recipe).config, model).train
    assert changed == usual.model_copy(update={"steps": 7})


def test_words_that_yaml_reads_as_false_are_words_here() -> None:
    settings = ["generator.retrieval=off", "generator.train.precision=no", "captioner.precision=no"]
    recipe = load(None, settings, Recipe).config
    assert (recipe.generator.retrieval, recipe.generator.train.precision) == ("off", "no")
    assert recipe.captioner.precision == "no"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["director.train.lanes=3"], "must divide batch_size"),
        (["director.train.processes=4"], "must divide lanes"),
        (["state.family=vae"], "needs its folder"),
        (["state.path=/models/x"], "imagenet and colour take none"),
        (["state.family=siglip_flux", "state.path=/models/x"], "base: needed by clip_sdxl and siglip_flux"),
        (["director.chain=[]"], "name action, caption or both"),
        (["director.min_context=9"], "must not exceed"),
        (["director.memory=10"], "memory needs sentences"),
        (["director.order_weight=1", "director.head=flow"], "need regress every"),
        (["director.backbone.kind=pretrained"], "path: needed"),
        (["generator.codec.kind=wan"], "path: needed"),
        (["director.trane.steps=3"], "the nearest is director.train"),
        (["director.backbone.heads=3"], "director.backbone: heads .3. must divide width .128."),
        (["director.train.betas=[0.9, 1.0]"], "director.train.betas.1: .* less than 1"),
        (["decoder.channels=[]"], "decoder.channels: .* at least 1 item"),
        (["generator.height_px=49"], "generator.height_px: .* multiple of 2"),
        (["generator.retrieval=blend", "generator.condition=keyframe"], "shows no key frame"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, settings, Recipe)
