"""The service: director, generator and the HTTP front as deployments of Ray Serve.

The front makes the films, see :mod:`generation.service.jobs`, and has the models' work done by the others.
What is made lies in folders; so a front that dies is replaced by one that goes on, and calls to a director
or generator that dies are made again, of a plan only for the steps that are missing.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import ObjectLostError, RayActorError, WorkerCrashedError
from ray.serve.exceptions import ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from torch import Tensor

from generation import config
from generation.core.states import Pictures, StateDecoder, StateEncoder
from generation.core.story import Source, Step
from generation.film.make import FilmCancelled, make_film
from generation.film.parts import FilmModels
from generation.film.plan import Request
from generation.film.stills import Picture
from generation.film.trained import Models, TrainedModels, settings_of
from generation.service.http import build_app
from generation.service.jobs import Jobs
from models.errors import ReportedError
from pipeline.platform.cluster import connected
from pipeline.platform.config import ConfigError
from pipeline.platform.packages import check_packages

LOST = (RayActorError, WorkerCrashedError, ObjectLostError, ReplicaUnavailableError)
ATTEMPTS = 5
HEALTH_PERIOD_S = 2.0
NAME = "videoauteur"
POLL_S = 0.5
Cancelled = Callable[[], bool]


class ServiceError(ReportedError):
    """The service does not start; the text says which part, and why."""


class DirectorReplica:
    """Plans, and encodes pictures."""

    def __init__(self, models: Models) -> None:
        check_packages()
        self._parts = models.director()

    def facts(self) -> dict[str, Any]:
        """What the front must know of it."""
        encoder = self._parts.encoder
        sizes = {"name": encoder.name, "tokens": encoder.tokens, "width": encoder.width}
        return {"identity": dict(self._parts.identity), "encoder": sizes}

    def plan(self, goal: str, steps: int | None, given: Sequence[Step], seed: int) -> Iterator[Step]:
        """See :meth:`generation.director.model.Director.plan`."""
        yield from self._parts.director.plan(goal, steps=steps, given=given, seed=seed)

    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`generation.core.states.StateEncoder.encode`."""
        return self._parts.encoder.encode(images)


class GeneratorReplica:
    """Decodes states and renders clips."""

    def __init__(self, models: Models) -> None:
        check_packages()
        self._parts = models.generator()

    def facts(self) -> dict[str, Any]:
        """What the front must know of it."""
        decoder = self._parts.decoder
        return {
            "identity": dict(self._parts.identity),
            "picture_px": None if decoder is None else decoder.picture_px,
            "retrieves": self._parts.retriever is not None,
        }

    def decode(self, z: Tensor, seed: int) -> Pictures:
        """See :meth:`generation.core.states.StateDecoder.decode`."""
        assert self._parts.decoder is not None
        return self._parts.decoder.decode(z, seed=seed)

    def sample(self, captions: list[str], states: Tensor | None, more: Mapping[str, Any]) -> NDArray[Any]:
        """See :meth:`generation.generator.model.Generator.sample`."""
        return self._parts.generator.sample(captions, states, **more)

    def retriever(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call a method of :class:`generation.film.parts.Retriever`."""
        return getattr(self._parts.retriever, method)(*arguments, **more)


class Front:
    """HTTP, and the jobs behind it."""

    def __init__(
        self,
        models: Models,
        folder: Path,
        director: DeploymentHandle[Any],
        generator: DeploymentHandle[Any],
    ) -> None:
        check_packages()
        self._recipe = models.recipe()
        self._director, self._generator = director, generator
        self._keys = accepted_keys(self._recipe.serve)
        self._asking = threading.Lock()
        self._facts: tuple[dict[str, Any], dict[str, Any]] | None = None
        options = self._recipe.serve
        self._jobs = Jobs(
            folder, self._make, max_running=options.max_running_jobs, max_queued=options.max_queued_jobs
        )
        self._jobs.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        most = self._recipe.director.sampling.max_steps
        return build_app(self._jobs, self._recipe.serve, max_steps=most, keys=self._keys)

    def __del__(self) -> None:
        self._jobs.stop()

    def _make(self, request: Request, out: Path, cancelled: Cancelled) -> None:
        planning = Remote(self._director, cancelled)
        rendering = Remote(self._generator, cancelled)
        with self._asking:
            # Once: later, a replica may be at long work.
            facts = self._facts = self._facts or (planning.call("facts"), rendering.call("facts"))
        planner, renderer = facts
        generator = RemoteGenerator(rendering)
        picture_px = renderer["picture_px"]
        models = FilmModels(
            director=RemoteDirector(planning), encoder=RemoteEncoder(planning, **planner["encoder"]),
            generator=generator, retriever=generator if renderer["retrieves"] else None,
            decoder=None if picture_px is None else RemoteDecoder(rendering, picture_px),
            condition=self._recipe.generator.condition, fps=self._recipe.generator.fps,
            identity=planner["identity"] | renderer["identity"],
        )  # fmt: skip
        make_film(request, models, out, options=self._recipe.film, cancelled=cancelled)


class Remote:
    """Calls that outlive the replica that answers them."""

    def __init__(self, handle: DeploymentHandle[Any], cancelled: Cancelled) -> None:
        self._handle = handle
        self._cancelled = cancelled

    def call(self, method: str, *arguments: Any, **more: Any) -> Any:
        """The answer of some replica.

        Raises:
            FilmCancelled: while waiting for it.
        """
        losses = 0
        while True:
            response = getattr(self._handle, method).remote(*arguments, **more)
            try:
                return self._wait_for(response)
            except LOST:
                losses += 1
                if losses == ATTEMPTS:
                    raise
                time.sleep(POLL_S * losses)

    def stream(self, method: str, *arguments: Any) -> Iterator[Any]:
        """The answers of one replica; one of LOST if it dies."""
        responses = getattr(self._handle.options(stream=True), method).remote(*arguments)
        try:
            yield from responses
        finally:
            responses.cancel()

    def _wait_for(self, response: DeploymentResponse[Any]) -> Any:
        while True:
            try:
                return response.result(timeout_s=POLL_S)
            except TimeoutError:
                if self._cancelled():
                    response.cancel()  # type: ignore[no-untyped-call]
                    raise FilmCancelled from None


class RemoteDirector:
    """A director whose replicas may die: the next one gets what was written and goes on."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def plan(self, goal: str, *, steps: int | None, given: Sequence[Step], seed: int) -> Iterator[Step]:
        """See :meth:`generation.director.model.Director.plan`."""
        done: list[Step] = []
        losses = 0
        while True:
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
                losses += 1
                if losses == ATTEMPTS:
                    raise
                time.sleep(POLL_S * losses)


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
    """The decoder beside the generator."""

    def __init__(self, remote: Remote, picture_px: int) -> None:
        self.picture_px = picture_px
        self._remote = remote

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`generation.core.states.StateDecoder.decode`."""
        pictures: Pictures = self._remote.call("decode", z, seed)
        return pictures


class RemoteGenerator:
    """A generator whose replicas may die."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def sample(self, captions: list[str], states: Tensor | None, **more: Any) -> NDArray[np.uint8]:
        """See :meth:`generation.generator.model.Generator.sample`."""
        clips: NDArray[np.uint8] = self._remote.call("sample", captions, states, more)
        return clips

    def retrieve(self, steps: Sequence[Step]) -> list[Source]:
        """See :meth:`generation.film.parts.Retriever.retrieve`."""
        sources: list[Source] = self._remote.call("retriever", "retrieve", steps)
        return sources

    def picture(self, source: Source) -> Picture:
        """See :meth:`generation.film.parts.Retriever.picture`."""
        picture: Picture = self._remote.call("retriever", "picture", source)
        return picture

    def sample_from(
        self, source: Source, caption: str, state: Tensor | None, *, seed: int
    ) -> NDArray[np.uint8]:
        """See :meth:`generation.film.parts.Retriever.sample_from`."""
        clip: NDArray[np.uint8] = self._remote.call(
            "retriever", "sample_from", source, caption, state, seed=seed
        )
        return clip


def application(models: Models, folder: Path) -> serve.Application:
    """The service over some models, with its jobs in a folder."""
    options = models.recipe().serve
    accepted_keys(options)
    resources = {"num_cpus": options.replica_cpus, "num_gpus": options.replica_gpus}
    # One call at a time: a model has its device for itself, and more replicas serve more callers.
    replicas = functools.partial(
        serve.deployment, max_ongoing_requests=1, ray_actor_options=resources,
        health_check_period_s=HEALTH_PERIOD_S,
    )  # fmt: skip
    director = replicas(name="Director", num_replicas=options.director_replicas)(DirectorReplica)
    generator = replicas(name="Generator", num_replicas=options.generator_replicas)(GeneratorReplica)
    # The jobs have one front; it waits more than it works.
    front = serve.deployment(
        name="Front",
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0.1},
        health_check_period_s=HEALTH_PERIOD_S,
    )(serve.ingress()(Front))
    return front.bind(models, folder, director.bind(models), generator.bind(models))


def build(arguments: dict[str, Any]) -> serve.Application:
    """For a Serve configuration file (``infra/rayservice.yaml``).

    Args:
        arguments: ``models`` and ``jobs``: folders; ``settings``: list of ``a.b=value``.
    """
    settings = settings_of(arguments.get("recipe"), arguments.get("settings", ()))
    return application(TrainedModels(Path(arguments["models"]), settings), Path(arguments["jobs"]))


def accepted_keys(options: config.Serve) -> list[str]:
    """The keys in the environment.

    Raises:
        ConfigError: there is none: the service is open to nobody, rather than to all.
    """
    keys = [key.strip() for key in os.environ.get(options.api_keys_env, "").split(",") if key.strip()]
    if not keys:
        raise ConfigError(
            f"serve.api_keys_env: {options.api_keys_env} holds no key; set it to one or more, comma "
            f"between, such as {options.api_keys_env}=$(openssl rand -hex 24)"
        )
    return keys


@contextmanager
def running(models: Models, folder: Path) -> Iterator[None]:
    """The service, on the cluster of RAY_ADDRESS or on one of our own on this machine.

    What is unfinished at the end goes on when the service is started again.

    Raises:
        ServiceError: a part does not start.
    """
    options = models.recipe().serve
    service = application(models, folder.resolve())
    # On a machine that is busy the proxy needs longer than Serve's five seconds to say that it is there;
    # a cluster that is started here hands this on to it.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    with connected():
        serve.start(http_options={"host": options.host, "port": options.port})
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        try:
            try:
                serve.run(service, name=NAME, route_prefix="/")
            except RuntimeError as error:
                deployed = serve.status().applications[NAME].deployments
                told = [f"{name}: {each.message}" for name, each in deployed.items() if each.message]
                raise ServiceError("\n".join([str(error), *told])) from error
            yield
        finally:
            serve.delete(NAME)
