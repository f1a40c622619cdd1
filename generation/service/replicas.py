"""The models as deployments: each replica holds one model and does one piece of work at a time.

A cancelled call stops the model at the next call of one of its modules: a cancelled film frees its device
within one layer, not after minutes of sampling.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from generation.core.states import Picture, Pictures
from generation.core.story import Source, Step
from generation.film.footage import Sound
from generation.film.trained import DirectorParts, GeneratorParts, Models, PainterParts
from pipeline.platform.packages import check_packages

T = TypeVar("T")
DECODER_FACTS = ("picture_px", "aspect", "memory")


class InterruptedModelError(Exception):
    """The caller no longer wants the result."""


class Interruptible:
    """Runs a model in a thread and stops it when the awaiting task is cancelled.

    Args:
        calls: most at a time; more than one only where the model is elsewhere, behind an endpoint.
    """

    def __init__(self, calls: int = 1) -> None:
        self._threads = ThreadPoolExecutor(calls, "model")
        self._stop = threading.Event()
        register_module_forward_pre_hook(self._check)

    def _check(self, module: nn.Module, inputs: Any) -> None:
        if self._stop.is_set():
            raise InterruptedModelError

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a call, made in a thread."""
        self._stop.clear()
        work = asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stop.set()
            # The replica is free for the next caller only when the thread has ended.
            await asyncio.wait([work])
            raise


class _Replica(Generic[T]):
    """A part of the models, and the threads that it runs in: one, unless ``calls`` says otherwise."""

    def __init__(self, load: Callable[[], T], calls: int = 1) -> None:
        check_packages()
        self._parts = load()
        self._model = Interruptible(calls)


class DirectorReplica(_Replica[DirectorParts]):
    """Plans, and encodes pictures."""

    def __init__(self, models: Models) -> None:
        super().__init__(models.director, calls=models.plans_at_once())
        weakref.finalize(self, self._parts.resources.close)

    async def facts(self) -> dict[str, Any]:
        """Return what the front must know of it."""
        encoder = self._parts.encoder
        sizes = encoder and {"name": encoder.name, "tokens": encoder.tokens, "width": encoder.width}
        return {"identity": dict(self._parts.identity), "encoder": sizes}

    async def plan(
        self, goal: str, steps: int | None, given: Sequence[Step], seed: int
    ) -> AsyncIterator[Step]:
        """See :meth:`generation.director.model.Director.plan`."""
        written = iter(self._parts.director.plan(goal, steps=steps, given=given, seed=seed))
        while (step := await self._model.run(next, written, None)) is not None:
            yield step

    async def encode(self, images: Pictures) -> Tensor:
        """See :meth:`generation.core.states.StateEncoder.encode`."""
        assert self._parts.encoder is not None
        return await self._model.run(self._parts.encoder.encode, images)


class PainterReplica(_Replica[PainterParts]):
    """Makes key frames: decodes states, or paints captions."""

    def __init__(self, models: Models) -> None:
        super().__init__(models.painter)

    async def facts(self) -> dict[str, Any]:
        """Return what the front must know of it."""
        decoder, painter = self._parts.decoder, self._parts.painter
        names = ("identity", "memory", "cells", "uses_hints")
        return {
            "identity": dict(self._parts.identity),
            "decoder": decoder and {name: getattr(decoder, name) for name in DECODER_FACTS},
            "painter": None if painter is None else {name: getattr(painter, name) for name in names},
        }

    async def decode(self, z: Tensor, seed: int) -> Pictures:
        """See :meth:`generation.core.states.StateDecoder.decode`."""
        decoder = self._parts.decoder
        assert decoder is not None
        return await self._model.run(lambda: decoder.decode(z, seed=seed))

    async def decode_next(self, z: Tensor, earlier: Sequence[Picture], seed: int) -> Picture:
        """See :meth:`generation.core.states.StateDecoder.decode_next`."""
        decoder = self._parts.decoder
        assert decoder is not None
        return await self._model.run(lambda: decoder.decode_next(z, earlier, seed=seed))

    async def paint(
        self, captions: Sequence[str], known: Sequence[Picture], hints: Sequence[Picture], seed: int
    ) -> Pictures:
        """See :class:`generation.film.parts.Painter`."""
        painter = self._parts.painter
        assert painter is not None
        return await self._model.run(lambda: painter.paint(captions, known=known, hints=hints, seed=seed))


class GeneratorReplica(_Replica[GeneratorParts]):
    """Renders clips."""

    def __init__(self, models: Models) -> None:
        super().__init__(models.generator)

    async def facts(self) -> dict[str, Any]:
        """Return what the front must know of it."""
        parts = self._parts
        return {
            "identity": dict(parts.identity),
            "condition": parts.condition,
            "fps": parts.fps,
            "retrieves": parts.retriever is not None,
        }

    async def render(
        self, caption: str, state: Tensor | None, shown: Mapping[str, Any]
    ) -> tuple[NDArray[np.uint8], Sound | None]:
        """See :class:`generation.film.parts.Generator`; ``shown``: seed and pictures."""
        return await self._model.run(lambda: self._parts.generator.render(caption, state, **shown))

    async def retrieve(self, steps: Sequence[Step]) -> list[Source]:
        """See :class:`generation.film.parts.Retriever`; likewise the methods below."""
        assert self._parts.retriever is not None
        return await self._model.run(self._parts.retriever.retrieve, steps)

    async def picture(self, source: Source) -> Picture:
        """Return the middle frame of a source."""
        assert self._parts.retriever is not None
        return await self._model.run(self._parts.retriever.picture, source)

    async def sample_from(
        self, source: Source, caption: str, state: Tensor | None, seed: int
    ) -> NDArray[np.uint8]:
        """Return one clip that starts from a source."""
        retriever = self._parts.retriever
        assert retriever is not None
        return await self._model.run(lambda: retriever.sample_from(source, caption, state, seed=seed))
