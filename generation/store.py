"""Trained models in a folder: MODELS/director, MODELS/generator, MODELS/decoder.

Each holds ``recipe.yaml``, ``statistics.safetensors`` of the states that it was trained on, and
``model.safetensors`` with the trained weights, averaged ones where the run averaged. What was not trained
comes again from where the recipe says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from generation.config import Recipe
from generation.core.checkpoints import copy_part, has_part, newest_checkpoint
from generation.core.learner import Learner
from generation.core.states import StateDecoder, Statistics
from generation.core.tensors import read_tensors
from models.files import whole_file
from pipeline.platform.config import ConfigError, load

if TYPE_CHECKING:
    from generation.director.model import DirectorModel
    from generation.generator.model import GeneratorModel

Kind = Literal["director", "generator", "decoder"]
OWN_DECODERS = ("imagenet", "colour", "clip_vae")
"""Families of states that our own decoder paints; the others bring theirs."""


def new_learner(kind: Kind, recipe: Recipe, statistics: Statistics) -> Learner:
    """Build the model of a recipe, untrained.

    Raises:
        ConfigError: parts of the recipe, or recipe and statistics, do not fit each other.
    """
    if statistics.mean.shape != (recipe.state.tokens, recipe.state.width):
        tokens, width = statistics.mean.shape
        raise ConfigError(
            f"state.tokens and state.width are {recipe.state.tokens} and {recipe.state.width}, but the "
            f"features hold states of {tokens} and {width}: set them so, or make the features again"
        )
    # Each needs libraries that take seconds to import.
    if kind == "director" and recipe.director.kind == "closed":
        from generation.director.closed import ClosedFormDirector

        return ClosedFormDirector(recipe.director, recipe.state, statistics)
    if kind == "director":
        from generation.director.recalling import new_director

        return new_director(recipe.director, recipe.state, statistics)
    if kind == "generator" and recipe.generator.retrieval != "off":
        from generation.generator.retrieval import RetrievalGenerator

        return RetrievalGenerator(recipe.generator, recipe.state, statistics)
    if kind == "generator":
        from generation.generator.model import GeneratorModel

        return GeneratorModel(recipe.generator, recipe.state, statistics)
    if recipe.decoder.rolling is not None:
        from generation.encoders.rolling import RollingDecoder

        return RollingDecoder(recipe.decoder, recipe.state, statistics)
    if recipe.state.family not in OWN_DECODERS:
        raise ConfigError(
            f"state.family {recipe.state.family} has a decoder of its own; there is nothing to train "
            f"(families with a trained one: {', '.join(OWN_DECODERS)}; siglip_flux with decoder.rolling)"
        )
    from generation.encoders.flow_decoder import FlowDecoder

    return FlowDecoder(recipe.decoder, recipe.state, statistics)


def save_learner(learner: Learner, recipe: Recipe, folder: Path) -> None:
    """Write a model's folder; an interrupted write leaves the weights that were there."""
    _describe(recipe, learner.statistics, folder)
    named = {name: tensor.detach().cpu().contiguous() for name, tensor in learner.kept().items()}
    with whole_file(folder / "model.safetensors") as part:
        save_file(named, part)


def publish(recipe: Recipe, folder: Path, *, statistics: Statistics) -> None:
    """Complete the folder of a finished run with the weights of its last checkpoint."""
    checkpoint = newest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    _describe(recipe, statistics, folder)
    with whole_file(folder / "model.safetensors") as part:
        copy_part(checkpoint, "ema" if has_part(checkpoint, "ema") else "model", part)


def load_learner(kind: Kind, models: Path) -> Learner:
    """Load a trained model on the CPU, ready to be sampled from.

    Raises:
        UsageError: it is not there, or its files are damaged or do not belong together.
    """
    folder = models / kind
    if not (folder / "model.safetensors").is_file():
        raise ConfigError(
            f"{folder}: no trained {kind} in it; run `videoauteur train {kind} DATASET {models}`"
        )
    recipe = load(folder / "recipe.yaml", (), Recipe).config
    learner = new_learner(kind, recipe, Statistics.load(folder / "statistics.safetensors"))
    load_weights(learner, read_tensors(folder / "model.safetensors"), source=folder)
    return learner.eval()


def load_director(models: Path) -> DirectorModel:
    """Load MODELS/director; see :func:`load_learner`."""
    return cast("DirectorModel", load_learner("director", models))


def load_generator(models: Path) -> GeneratorModel:
    """Load MODELS/generator; see :func:`load_learner`."""
    return cast("GeneratorModel", load_learner("generator", models))


def load_decoder_for(models: Path) -> StateDecoder:
    """Load the decoder that paints the states of MODELS/director.

    Raises:
        ConfigError: director or decoder are not there, or of different states.
    """
    from generation.encoders.factory import load_decoder

    file = models / "director" / "recipe.yaml"
    if not file.is_file():
        raise ConfigError(f"{file}: not there; run `videoauteur train director DATASET {models}`")
    return load_decoder(load(file, (), Recipe).config.state, trained=models / "decoder")


def load_weights(learner: Learner, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Fill what is kept of a learner.

    Raises:
        ConfigError: the tensors are not those of this model.
    """
    learner.allocate({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    named = learner.kept()
    wrong = sorted(named.keys() ^ tensors.keys()) or [
        name for name, parameter in named.items() if parameter.shape != tensors[name].shape
    ]
    if wrong:
        raise ConfigError(
            f"{source}: its weights are not those of the model of this recipe ({len(wrong)} differ, the "
            f"first is {wrong[0]}): use the recipe.yaml beside it"
        )
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(tensors[name])


def _describe(recipe: Recipe, statistics: Statistics, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    statistics.save(folder / "statistics.safetensors")
