"""One film over the GPUs of this machine without a service: models in processes of their own.

One process makes the key frames, and one for each further GPU renders clips, as soon as their key frames
exist. A clip depends on key frame, text and seed alone, so a film is the same on any number of GPUs.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError, WorkerCrashedError

from generation.film.parts import FilmModels
from generation.film.plan import FilmError
from generation.film.stock import StockModels
from generation.film.trained import DirectorParts, film_models
from generation.service.remote import remote_generator, remote_painter
from generation.service.replicas import GeneratorReplica, PainterReplica
from pipeline.platform.cluster import joined_or_started


class _Holder:
    """Process of one replica. It loads on request, so that a wrong recipe is an error of that call."""

    async def load(self, kind: type[Any], models: StockModels) -> None:
        self._replica = kind(models)

    async def call(self, method: str, *arguments: Any) -> Any:
        return await getattr(self._replica, method)(*arguments)


class ActorPool:
    """Replicas in processes of their own, called from any thread; each works at one call at a time.

    Args:
        kind: class of the replicas.
        models: source of their weights.
        copies: number of replicas.
        gpus: of each.
    """

    def __init__(self, kind: type[Any], models: StockModels, *, copies: int, gpus: int) -> None:
        # GPUs alone say how many fit: a process of these waits more than it computes.
        actor: Any = ray.remote(_Holder).options(num_cpus=0, num_gpus=gpus)
        self._actors = [actor.remote() for _ in range(copies)]
        self._loading = [each.load.remote(kind, models) for each in self._actors]
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def wait(self) -> None:
        """Return when all replicas are loaded.

        Raises:
            ConfigError: the recipe does not fit the weights.
        """
        answer_of(self._loading)
        for actor in self._actors:
            self._free.put(actor)

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the answer of the first replica that is free."""
        actor = self._free.get()
        try:
            return answer_of(actor.call.remote(method, *arguments))
        finally:
            self._free.put(actor)


@contextmanager
def spread(
    models: StockModels, planning: DirectorParts, *, renderers: int
) -> Iterator[tuple[FilmModels, int]]:
    """Yield the models of a film on all GPUs of the cluster, and the number of clips to render at once.

    Args:
        planning: the director, in this process.
        renderers: most copies of the video pipeline.

    Raises:
        ConfigError: the recipe does not fit the weights.
    """
    with joined_or_started():
        gpus = ray.cluster_resources()["GPU"]  # type: ignore[no-untyped-call]
        left = int(gpus) - models.painter_gpus()
        copies = max(1, min(left, renderers))
        painter = ActorPool(PainterReplica, models, copies=1, gpus=models.painter_gpus())
        generator = ActorPool(GeneratorReplica, models, copies=copies, gpus=1)
        for pool in (painter, generator):
            pool.wait()
        painting = remote_painter(painter, painter.call("facts"))
        rendering = remote_generator(generator, generator.call("facts"))
        yield film_models(planning, painting, rendering), copies


def answer_of(work: Any) -> Any:
    """Return the results of calls, or raise what they raised.

    Raises:
        FilmError: a process died.
    """
    try:
        return ray.get(work)
    except RayTaskError as error:
        raise error.cause from error
    except (RayActorError, WorkerCrashedError) as error:
        raise FilmError(
            f"a process that makes the film has died; the same command continues it ({error})"
        ) from error
