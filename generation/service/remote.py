"""The models as a film calls them, while replicas elsewhere do the work.

A call to a replica that dies is made again, of a plan only for the steps that are missing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Semaphore
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError, WorkerCrashedError
from ray.serve.exceptions import ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from torch import Tensor

from generation.core.states import Picture, Pictures, StateDecoder, StateEncoder
from generation.core.story import Source, Step
from generation.film.footage import Sound
from generation.film.make import FilmCancelled
from generation.film.parts import FilmModels
from generation.film.trained import DirectorParts, GeneratorParts, PainterParts, film_models
from pipeline.platform import metrics

LOST = (RayActorError, WorkerCrashedError, ObjectLostError, ReplicaUnavailableError)
ATTEMPTS = 5
POLL_S = 0.25


class Caller(Protocol):
    """Replicas that answer calls."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the answer of some replica."""


class Remote:
    """Calls that outlive the replica that answers them.

    Args:
        free: one place for each call that the replicas can work at, shared by all callers. Serve sends a
            waiting call with its pictures to a busy replica again and again, which costs front and replica
            a quarter of a core; here it waits for a place.
    """

    def __init__(
        self, handle: DeploymentHandle[Any], free: Semaphore, cancelled: Callable[[], bool]
    ) -> None:
        self._handle = handle
        self._free = free
        self._cancelled = cancelled

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the answer of some replica.

        Raises:
            FilmCancelled: while waiting for it; the replica stops.
        """
        self._take_place()
        try:
            for attempt in range(1, ATTEMPTS + 1):
                response = getattr(self._handle, method).remote(*arguments)
                try:
                    return self._wait_for(response)
                except LOST:
                    if attempt == ATTEMPTS:
                        raise
                    time.sleep(POLL_S * attempt)
        finally:
            self._free.release()
        raise AssertionError("unreachable")

    def stream(self, method: str, *arguments: Any) -> Iterator[Any]:
        """Yield the answers of one replica.

        Raises:
            FilmCancelled: while waiting for one; the replica stops.
            Exception: one of LOST if the replica dies.
        """
        self._take_place()
        try:
            responses = getattr(self._handle.options(stream=True), method).remote(*arguments)
        except BaseException:
            self._free.release()
            raise
        # Waiting for the next answer has no timeout, so a thread waits and this one looks for cancellation.
        answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

        def pump() -> None:
            try:
                for response in responses:
                    answers.put(("answer", response))
                answers.put(("end", None))
            except BaseException as error:
                answers.put(("error", error))
            finally:
                # The replica is free when all is answered, which is before the caller has taken it.
                self._free.release()

        threading.Thread(target=pump, name=f"stream-{method}", daemon=True).start()
        try:
            while True:
                try:
                    kind, value = answers.get(timeout=POLL_S)
                except queue.Empty:
                    if self._cancelled():
                        raise FilmCancelled from None
                    continue
                if kind == "error":
                    raise value
                if kind == "end":
                    return
                yield value
        finally:
            responses.cancel()

    def _take_place(self) -> None:
        while not self._free.acquire(timeout=POLL_S):
            if self._cancelled():
                raise FilmCancelled

    def _wait_for(self, response: DeploymentResponse[Any]) -> Any:
        while True:
            try:
                return response.result(timeout_s=POLL_S)
            except TimeoutError:
                if self._cancelled():
                    response.cancel()  # type: ignore[no-untyped-call]
                    raise FilmCancelled from None


class RemoteDirector:
    """A director whose replicas may die: the next one gets the written steps and continues."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def plan(self, goal: str, *, steps: int | None, given: Sequence[Step], seed: int) -> Iterator[Step]:
        """See :meth:`generation.director.model.Director.plan`."""
        done: list[Step] = []
        for attempt in range(1, ATTEMPTS + 1):
            known = [*done, *given[len(done) :]]
            try:
                for number, step in enumerate(
                    self._remote.stream("plan", goal, steps, known, seed), start=1
                ):
                    if number > len(done):
                        done.append(step)
                        yield step
                return
            except LOST:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(POLL_S * attempt)


class RemoteEncoder(StateEncoder):
    """The encoder beside the director."""

    def __init__(self, remote: Remote, *, name: str, tokens: int, width: int) -> None:
        self.name, self.tokens, self.width = name, tokens, width
        self._remote = remote

    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`generation.core.states.StateEncoder.encode`."""
        states: Tensor = self._remote.call("encode", images)
        return states


class RemoteDecoder(StateDecoder):
    """The decoder of a painter's replica."""

    def __init__(self, remote: Caller, *, picture_px: int, aspect: float, memory: int) -> None:
        self.picture_px, self.aspect, self.memory = picture_px, aspect, memory
        self._remote = remote

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`generation.core.states.StateDecoder.decode`."""
        pictures: Pictures = self._remote.call("decode", z, seed)
        return pictures

    def decode_next(self, z: Tensor, earlier: Sequence[Picture], *, seed: int) -> Picture:
        """See :meth:`generation.core.states.StateDecoder.decode_next`."""
        picture: Picture = self._remote.call("decode_next", z, earlier, seed)
        return picture


class RemotePainter:
    """A painter of key frames from captions."""

    def __init__(self, remote: Caller, *, identity: str, memory: int, cells: int, uses_hints: bool) -> None:
        self.identity, self.memory, self.cells, self.uses_hints = identity, memory, cells, uses_hints
        self._remote = remote

    def paint(
        self, captions: Sequence[str], *, known: Sequence[Picture], hints: Sequence[Picture], seed: int
    ) -> Pictures:
        """See :class:`generation.film.parts.Painter`."""
        pictures: Pictures = self._remote.call("paint", captions, known, hints, seed)
        return pictures


class RemoteGenerator:
    """A generator, called from several threads so that clips fan out over its replicas."""

    def __init__(self, remote: Caller) -> None:
        self._remote = remote

    def render(
        self, caption: str, state: Tensor | None, **shown: Any
    ) -> tuple[NDArray[np.uint8], Sound | None]:
        """See :class:`generation.film.parts.Generator`."""
        clip: NDArray[np.uint8]
        clip, sound = self._timed("render", caption, state, shown)
        return clip, sound

    def retrieve(self, steps: Sequence[Step]) -> list[Source]:
        """See :class:`generation.film.parts.Retriever`; likewise the methods below."""
        sources: list[Source] = self._remote.call("retrieve", steps)
        return sources

    def picture(self, source: Source) -> Picture:
        """Return the middle frame of a source."""
        picture: Picture = self._remote.call("picture", source)
        return picture

    def sample_from(
        self, source: Source, caption: str, state: Tensor | None, *, seed: int
    ) -> NDArray[np.uint8]:
        """Return one clip that starts from a source."""
        clip: NDArray[np.uint8] = self._timed("sample_from", source, caption, state, seed)
        return clip

    def _timed(self, method: str, *arguments: Any) -> Any:
        started_s = time.monotonic()
        made = self._remote.call(method, *arguments)
        metrics.observe("videoauteur_service_clip_seconds", time.monotonic() - started_s)
        return made


def remote_models(
    director: Remote, painter: Remote, generator: Remote, facts: Mapping[str, Mapping[str, Any]]
) -> FilmModels:
    """Return the models of a film.

    Args:
        facts: of each role, as its replicas report them.
    """
    encoding = facts["director"]["encoder"]
    planning = DirectorParts(
        director=RemoteDirector(director),
        encoder=None if encoding is None else RemoteEncoder(director, **encoding),
        identity=facts["director"]["identity"],
    )
    painting = remote_painter(painter, facts["painter"])
    return film_models(planning, painting, remote_generator(generator, facts["generator"]))


def remote_painter(remote: Caller, facts: Mapping[str, Any]) -> PainterParts:
    """Return the models that make key frames, from what their replicas report."""
    decoding, painting = facts["decoder"], facts["painter"]
    return PainterParts(
        decoder=None if decoding is None else RemoteDecoder(remote, **decoding),
        painter=None if painting is None else RemotePainter(remote, **painting),
        identity=facts["identity"],
    )


def remote_generator(remote: Caller, facts: Mapping[str, Any]) -> GeneratorParts:
    """Return the models that render clips, from what their replicas report."""
    rendering = RemoteGenerator(remote)
    return GeneratorParts(
        generator=rendering, condition=facts["condition"], fps=facts["fps"],
        retriever=rendering if facts["retrieves"] else None, identity=facts["identity"],
    )  # fmt: skip
