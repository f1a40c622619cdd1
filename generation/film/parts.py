"""The models that make a film, as the film calls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from generation.core.states import Picture, Pictures, StateDecoder, StateEncoder
from generation.core.story import Source, Step
from generation.film.footage import Sound

Condition = Literal["state", "keyframe", "caption"]
"""The input that a generator's clip follows, beside its text."""


class Director(Protocol):
    """Plans the steps of a film, see :meth:`generation.director.model.Director.plan`."""

    def plan(self, goal: str, *, steps: int | None, given: Sequence[Step], seed: int) -> Iterator[Step]:
        """Yield steps from the first on; of those given, write empty texts and regress missing states."""


class Generator(Protocol):
    """Renders clips, see :meth:`generation.generator.model.GeneratorModel.render`."""

    def render(
        self,
        caption: str,
        state: Tensor | None,
        *,
        seed: int,
        keyframe: Picture | None,
        first_frame: Picture | None,
    ) -> tuple[NDArray[np.uint8], Sound | None]:
        """Return one clip ``[frames, height, width, 3]`` and its sound, if the model makes any.

        Args:
            state: raw ``[tokens, width]``.
            keyframe: for models that begin clips with it.
            first_frame: last frame of the clip before, where clips are chained.
        """


class Retriever(Protocol):
    """Chooses training clips for the steps of a film and renders clips from them.

    See :mod:`generation.generator.retrieval`.
    """

    def retrieve(self, steps: Sequence[Step]) -> list[Source]:
        """Return a source for each step, chosen for all steps together."""

    def picture(self, source: Source) -> Picture:
        """Return the middle frame of a source."""

    def sample_from(
        self, source: Source, caption: str, state: Tensor | None, *, seed: int
    ) -> NDArray[np.uint8]:
        """Return one clip ``[frames, height, width, 3]`` that starts from a source."""


class Painter(Protocol):
    """Paints key frames from captions, see :mod:`generation.film.painting`.

    Attributes:
        memory: number of earlier pictures that it sees.
        cells: earlier and new pictures of one call, together.
        uses_hints: whether it starts from the director's decoded states.
        identity: digest of weights and options.
    """

    identity: str
    memory: int
    cells: int
    uses_hints: bool

    def paint(
        self, captions: Sequence[str], *, known: Sequence[Picture], hints: Sequence[Picture], seed: int
    ) -> Pictures:
        """Return pictures of the captions after those of ``known``.

        Args:
            captions: of the known pictures, then of those to paint.
            hints: decoded states of those to paint, or nothing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmModels:
    """The models of one film.

    Attributes:
        decoder: paints key frames from states; not needed with a painter or a retriever.
        encoder: states of given pictures and of painted key frames.
        painter: paints key frames from captions.
        retriever: renders each clip from a training clip; the generator is then not called.
        condition: see :data:`Condition`.
        fps: frames a second of the clips.
        identity: digests of the models by role (director, generator, decoder, painter); files that other
            models made are made again.
    """

    director: Director
    generator: Generator
    decoder: StateDecoder | None = None
    encoder: StateEncoder | None = None
    painter: Painter | None = None
    retriever: Retriever | None = None
    condition: Condition = "state"
    fps: float = 4.0
    identity: Mapping[str, str] = field(default_factory=dict)
