"""The trained models of one folder, as films need them.

A model's own recipe says what it is; a user may change how it samples, and everything of ``film`` and
``serve``. Both the model's weights and how it samples are part of its identity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from generation import config
from generation.film.plan import digest_of
from models.weights import sha256_of
from pipeline.platform.config import ConfigError, Section, leaves, load

if TYPE_CHECKING:
    from generation.core.states import StateDecoder, StateEncoder
    from generation.film.make import Director, Generator

Role = Literal["director", "generator", "decoder"]
CHANGEABLE = (
    "film.", "serve.", "director.sampling.", "generator.sample_steps", "generator.guidance",
    "decoder.sample_steps", "decoder.guidance",
)  # fmt: skip


def settings_of(recipe: str | None, settings: Sequence[str]) -> tuple[str, ...]:
    """What a recipe and ``--set`` change, as ``a.b=value`` settings over the models' own recipes.

    Of a recipe's file the parts that make the models what they are are passed over.

    Raises:
        ConfigError: a setting is unknown, of the wrong kind, or can only be changed by training.
    """
    for setting in settings:
        if not setting.startswith(CHANGEABLE):
            raise ConfigError(
                f"--set {setting}: belongs to the trained models; changeable here are "
                f"{', '.join(f'{name}*' if name.endswith('.') else name for name in CHANGEABLE)}"
            )
    asked = load(None if recipe is None else recipe_file(recipe), settings, config.Recipe)
    values = dict(leaves(asked.config.model_dump(mode="json")))
    return tuple(
        f"{path}={json.dumps(values[path])}"
        for path in asked.origins
        if path.startswith(CHANGEABLE) and path in values
    )


def recipe_file(name: str) -> Path:
    """The file of a ready recipe, or the one that is named.

    Raises:
        ConfigError: there is neither.
    """
    for path in (Path(name), config.RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    ready = ", ".join(sorted(path.stem for path in config.RECIPES.glob("*.yaml")))
    raise ConfigError(f"--recipe {name}: no such file, and none of the ready recipes ({ready})")


class Models(Protocol):
    """Where director, generator and what goes with them come from. Is sent to other processes."""

    def recipe(self) -> config.Recipe:
        """What films and the service are made by."""

    def director(self) -> DirectorParts:
        """Load what plans."""

    def generator(self) -> GeneratorParts:
        """Load what paints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorParts:
    """What plans; ``identity`` is the director's."""

    director: Director
    encoder: StateEncoder
    identity: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorParts:
    """What paints; ``identity`` is the generator's and the decoder's."""

    generator: Generator
    decoder: StateDecoder
    identity: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TrainedModels:
    """A folder that ``videoauteur train`` wrote.

    Attributes:
        settings: over the models' own recipes, see :func:`settings_of`.
    """

    folder: Path
    settings: tuple[str, ...] = ()

    def recipe(self) -> config.Recipe:
        """The generator's recipe, with the settings.

        Raises:
            ConfigError: director or generator is not there, or they are of different visual states.
        """
        director, generator = self._recipe("director"), self._recipe("generator")
        if director.state != generator.state:
            raise ConfigError(
                f"--models {self.folder}: director and generator were trained on different states "
                f"({director.state} and {generator.state}); train one of them again"
            )
        return generator

    def director(self) -> DirectorParts:
        """The director and the encoder of its states."""
        from generation.encoders.factory import load_encoder
        from generation.encoders.weights import best_device
        from generation.store import load_director

        recipe = self._recipe("director")
        director = load_director(self.folder).to(best_device())
        director.options = recipe.director
        identity = {"director": self._identity("director", recipe.director)}
        return DirectorParts(director=director, encoder=load_encoder(recipe.state), identity=identity)

    def generator(self) -> GeneratorParts:
        """The generator and the decoder of states."""
        from generation.encoders.flow_decoder import FlowDecoder
        from generation.encoders.weights import best_device
        from generation.store import load_decoder_for, load_generator

        recipe = self._recipe("generator")
        generator = load_generator(self.folder).to(best_device())
        generator.options = recipe.generator
        decoder = load_decoder_for(self.folder)
        if isinstance(decoder, FlowDecoder):
            decoder.options = self._recipe("decoder").decoder
        identity = {
            "generator": self._identity("generator", recipe.generator),
            "decoder": self._identity("decoder", getattr(decoder, "options", recipe.state)),
        }
        return GeneratorParts(generator=generator, decoder=decoder, identity=identity)

    def _recipe(self, role: Role) -> config.Recipe:
        path = self.folder / role / "recipe.yaml"
        if not path.is_file():
            raise ConfigError(f"--models {self.folder}: no {path}; `videoauteur train {role}` makes it")
        return load(path, self.settings, config.Recipe).config

    def _identity(self, role: Role, options: Section) -> str:
        weights = sorted((self.folder / role).glob("*.safetensors"))
        return digest_of(options.model_dump_json(), [[path.name, sha256_of(path)] for path in weights])
