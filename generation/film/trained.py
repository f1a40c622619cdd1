"""The trained models of one folder, loaded for films and the service.

A model's own recipe defines it; a user may change its sampling options and the sections ``film`` and
``serve``. Weights and sampling options together are a model's identity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from generation import config
from models.files import parts_digest, sha256_of
from models.settings import Section
from models.weights import digest_of
from pipeline.platform.config import ConfigError, leaves, load

if TYPE_CHECKING:
    from generation.core.states import StateDecoder, StateEncoder
    from generation.film.parts import Condition, Director, FilmModels, Generator, Painter, Retriever

Role = Literal["director", "generator", "decoder"]
CHANGEABLE = (
    "film.", "serve.", "director.sampling.", "generator.sample_steps", "generator.guidance",
    "decoder.sample_steps", "decoder.guidance",
)  # fmt: skip


def settings_of(recipe: str | None, settings: Sequence[str]) -> tuple[str, ...]:
    """Return the changes that a recipe and ``--set`` make to the models' own recipes, as ``a.b=value``.

    Keys of the recipe's file that define the models are skipped.

    Raises:
        ConfigError: a setting is unknown, of the wrong kind, or can only be changed by training.
    """
    for setting in settings:
        if not setting.startswith(CHANGEABLE):
            raise ConfigError(
                f"--set {setting}: belongs to the trained models; changeable here are "
                f"{', '.join(f'{name}*' if name.endswith('.') else name for name in CHANGEABLE)}"
            )
    file = None if recipe is None else recipe_file(recipe)
    asked = load(file, settings, config.Recipe, option="--recipe")
    values = dict(leaves(asked.config.model_dump(mode="json")))
    return tuple(
        f"{path}={json.dumps(values[path])}"
        for path in asked.origins
        if path.startswith(CHANGEABLE) and path in values
    )


def recipe_file(name: str, *, option: str = "--recipe") -> Path:
    """Return the path of a recipe that comes with the project, or of a YAML file.

    Args:
        option: that names it, for messages.

    Raises:
        ConfigError: there is neither.
    """
    for path in (Path(name), config.RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    ready = ", ".join(sorted(path.stem for path in config.RECIPES.glob("*.yaml")))
    raise ConfigError(f"{option} {name}: no such file, and none of the ready recipes ({ready})")


class Models(Protocol):
    """A source of director and generator. Instances are sent to other processes."""

    def recipe(self) -> config.Recipe:
        """Return the recipe of films and service."""

    def plans_at_once(self) -> int:
        """Return how many plans one director writes side by side."""

    def director(self) -> DirectorParts:
        """Load the director and its encoder."""

    def painter(self) -> PainterParts:
        """Load the models that make key frames."""

    def generator(self) -> GeneratorParts:
        """Load the generator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorParts:
    """The models that plan; ``identity`` is the director's.

    Attributes:
        encoder: None where the director predicts no states.
        resources: closed when the director is no longer needed.
    """

    director: Director
    encoder: StateEncoder | None
    identity: Mapping[str, str]
    resources: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True, slots=True, kw_only=True)
class PainterParts:
    """The models that make key frames; ``identity`` is theirs by role.

    Attributes:
        decoder: paints key frames from states; None with a retriever, or where nothing predicts states.
        painter: paints key frames from captions.
    """

    decoder: StateDecoder | None
    painter: Painter | None = None
    identity: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorParts:
    """The models that render clips; ``identity`` is the generator's.

    Attributes:
        condition: see :data:`generation.film.parts.Condition`.
        fps: frames a second of the clips.
        retriever: the generator, if it starts from training clips.
    """

    generator: Generator
    condition: Condition
    fps: float
    retriever: Retriever | None = None
    identity: Mapping[str, str]


def film_models(planning: DirectorParts, painting: PainterParts, rendering: GeneratorParts) -> FilmModels:
    """Return the models of a film from their three parts."""
    from generation.film.parts import FilmModels

    return FilmModels(
        director=planning.director, encoder=planning.encoder, decoder=painting.decoder,
        painter=painting.painter, generator=rendering.generator, retriever=rendering.retriever,
        condition=rendering.condition, fps=rendering.fps,
        identity={**planning.identity, **painting.identity, **rendering.identity},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainedModels:
    """The models in a folder that ``videoauteur train`` wrote.

    Attributes:
        settings: changes to the models' own recipes, see :func:`settings_of`.
        painter_folder: a diffusers pipeline that paints key frames from captions.
    """

    folder: Path
    settings: tuple[str, ...] = ()
    painter_folder: Path | None = None

    def recipe(self) -> config.Recipe:
        """Return the generator's recipe with the settings.

        Raises:
            ConfigError: director or generator is missing, or they have different visual states.
        """
        from generation.encoders.factory import state_difference

        director, generator = self._recipe("director"), self._recipe("generator")
        if difference := state_difference(director.state, generator.state):
            raise ConfigError(
                f"--models {self.folder}: director and generator were trained on different states "
                f"({difference}); train one of them again"
            )
        return generator.model_copy(update={"stock": None})

    def plans_at_once(self) -> int:
        """Return 1: a model has its device for itself."""
        return 1

    def director(self) -> DirectorParts:
        """Load the director and the encoder of its states."""
        from generation.encoders.factory import load_encoder
        from generation.encoders.weights import best_device
        from generation.store import load_director

        recipe = self._recipe("director")
        director = load_director(self.folder).to(best_device())
        director.options = recipe.director
        identity = {"director": self._identity("director", recipe.director, recipe.state)}
        return DirectorParts(director=director, encoder=load_encoder(recipe.state), identity=identity)

    def painter(self) -> PainterParts:
        """Load the decoder of states and, if there is one, the painter of captions."""
        from generation.encoders.geometry import StretchedDecoder
        from generation.encoders.trained_decoder import TrainedDecoder
        from generation.store import load_decoder_for

        recipe = self._recipe("generator")
        if recipe.generator.retrieval != "off":
            if self.painter_folder is not None:
                raise ConfigError("--painter: key frames of generator.retrieval come from training clips")
            return PainterParts(decoder=None, identity={})
        decoder = load_decoder_for(self.folder)
        own = decoder.inner if isinstance(decoder, StretchedDecoder) else decoder
        state = self._recipe("director").state
        options: Section = state
        if isinstance(own, TrainedDecoder):
            trained = self._recipe("decoder")
            own.options = options = trained.decoder
            state = trained.state
        identity = {"decoder": self._identity("decoder", options, state)}
        painter = None
        if self.painter_folder is not None:
            from generation.film.painting import load_painter

            painter = load_painter(self.painter_folder, recipe.film.painter)
            identity["painter"] = painter.identity
        return PainterParts(decoder=decoder, painter=painter, identity=identity)

    def generator(self) -> GeneratorParts:
        """Load the generator."""
        from generation.encoders.weights import best_device
        from generation.generator.retrieval import RetrievalGenerator
        from generation.store import load_generator

        recipe = self._recipe("generator")
        generator = load_generator(self.folder).to(best_device())
        if isinstance(generator, RetrievalGenerator):
            retriever: Retriever | None = generator
        else:
            retriever, generator.options = None, recipe.generator
        identity = {"generator": self._identity("generator", recipe.generator)}
        return GeneratorParts(
            generator=generator, condition=recipe.generator.condition, fps=recipe.generator.fps,
            retriever=retriever, identity=identity,
        )  # fmt: skip

    def _recipe(self, role: Role) -> config.Recipe:
        path = self.folder / role / "recipe.yaml"
        if not path.is_file():
            raise ConfigError(f"--models {self.folder}: no {path}; `videoauteur train {role}` makes it")
        return load(path, self.settings, config.Recipe).config

    def _identity(self, role: Role, *sections: Section) -> str:
        """Return a digest of a model's options and weights, those of the folders it names included."""
        options = sections[0].model_dump_json()
        weights = sorted((self.folder / role).glob("*.safetensors"))
        found = [[path.name, sha256_of(path)] for path in weights]
        values = [value for section in sections for _, value in leaves(section.model_dump())]
        for folder in (value for value in values if isinstance(value, Path) and value.is_dir()):
            parts = (folder, *sorted(part for part in folder.iterdir() if part.is_dir()))
            found += [[part.name, digest_of(part)] for part in parts]
        return parts_digest(options, found)
