"""Identities of trained models: they follow options and weights, wherever these lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import UNet2DConditionModel
from torch import nn

from generation.config import Codec, GeneratorSettings, Recipe, State, Transformer
from generation.film.trained import TrainedModels
from models.weights import digest_of
from tests.support.tiny_states import PROJECTION, save_unclip


def decoder_of(models: Path) -> str:
    digest_of.cache_clear()
    return TrainedModels(models).painter().identity["decoder"]


def test_other_weights_in_the_same_folder_are_another_decoder(tmp_path: Path) -> None:
    state = State(family="clip_unclip", path=save_unclip(tmp_path / "unclip"), width=PROJECTION)
    recipe = yaml.safe_dump(Recipe(state=state).model_dump(mode="json"))
    for role in ("director", "generator"):
        (tmp_path / role).mkdir()
        (tmp_path / role / "recipe.yaml").write_text(recipe)
    before = decoder_of(tmp_path)
    assert decoder_of(tmp_path) == before
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "unclip", subfolder="unet")
    with torch.no_grad():
        unet.conv_out.weight += 1
    unet.save_pretrained(tmp_path / "unclip" / "unet")
    assert decoder_of(tmp_path) != before


@pytest.mark.parametrize("changed", ["transformer", "transformer_2", "vae", "own"])
def test_other_base_weights_are_another_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr("generation.store.load_generator", lambda models: nn.Identity())
    wan, models = tmp_path / "wan", tmp_path / "models" / "generator"
    options = GeneratorSettings(
        transformer=Transformer(path=wan, train="lora"), codec=Codec(kind="wan", path=wan / "vae")
    )
    weights = {name: wan / name / "weights.safetensors" for name in ("transformer", "transformer_2", "vae")}
    weights["own"] = models / "model.safetensors"
    for file in weights.values():
        file.parent.mkdir(parents=True)
        file.write_bytes(b"before")
    (models / "recipe.yaml").write_text(yaml.safe_dump(Recipe(generator=options).model_dump(mode="json")))

    def identity() -> str:
        digest_of.cache_clear()
        return TrainedModels(models.parent).generator().identity["generator"]

    before = identity()
    assert identity() == before
    weights[changed].write_bytes(b"after")
    assert identity() != before
