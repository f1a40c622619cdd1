"""The service: director, painter, generator and the HTTP front as deployments of Ray Serve.

The front makes the films, see :mod:`generation.service.jobs`; the other deployments run the models.
Everything is stored in folders, so a front that dies is replaced by one that continues.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from generation import config
from generation.film.make import make_film
from generation.film.plan import ANSWERS
from generation.film.trained import Models, TrainedModels, settings_of
from generation.service import views
from generation.service.http import build_app
from generation.service.jobs import Jobs
from generation.service.records import Limits, Work
from generation.service.remote import Remote, remote_models
from generation.service.replicas import DirectorReplica, GeneratorReplica, PainterReplica
from generation.service.results import Results
from models.errors import ReportedError
from pipeline.platform.address import cluster_address
from pipeline.platform.cluster import connected
from pipeline.platform.config import ConfigError
from pipeline.platform.packages import check_packages

HEALTH_PERIOD_S = 2.0
NAME = "videoauteur"
OFFER_S = 0.01
"""Longest time until a waiting call is offered to the replicas again.

Serve waits up to half a second, in which replicas stand idle between clips.
"""
Facts = Mapping[str, Mapping[str, Any]]
logger = logging.getLogger(__name__)


class ServiceError(ReportedError):
    """The service does not start; the text says which part, and why."""


class Front:
    """HTTP, and the jobs behind it."""

    def __init__(
        self,
        models: Models,
        folder: Path,
        director: DeploymentHandle[Any],
        painter: DeploymentHandle[Any],
        generator: DeploymentHandle[Any],
        results: str | None,
    ) -> None:
        check_packages()
        self._recipe = models.recipe()
        self._handles = {"director": director, "painter": painter, "generator": generator}
        options = self._recipe.serve
        self._free = {
            "director": threading.Semaphore(options.director.most * models.plans_at_once()),
            "painter": threading.Semaphore(options.painter.most),
            "generator": threading.Semaphore(options.generator.most),
        }
        self._keys = accepted_keys(self._recipe.serve)
        self._asking = threading.Lock()
        self._facts: Facts | None = None
        limits = Limits(
            max_running=options.max_running_jobs, max_queued=options.max_queued_jobs,
            max_per_owner=options.max_jobs_per_key,
            retention_s=None if options.retention_h is None else options.retention_h * 3600,
        )  # fmt: skip
        self._jobs = Jobs(folder, self._make, limits, None if results is None else Results(results))
        self._jobs.start()
        threading.Thread(target=self._learn_facts, name="facts", daemon=True).start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        most = self._recipe.director.sampling.max_steps
        return build_app(
            self._jobs, self._recipe.serve, max_steps=most, keys=self._keys, models=self._about
        )

    def __del__(self) -> None:
        self._jobs.stop()

    def check_health(self) -> None:
        """Fail when another service has taken the place of the results: Serve then ends this front."""
        if self._jobs.results is not None and self._jobs.results.lost:
            raise ServiceError(f"another service has taken {self._jobs.results.store.url}")

    def _make(self, work: Work) -> None:
        remotes = self._remotes(work.cancelled)
        models = remote_models(**remotes, facts=self._known_facts(remotes))
        make_film(
            work.request, models, work.out, options=self._recipe.film,
            renderers=self._recipe.serve.generator.most,
            on_event=work.on_event, cancelled=work.cancelled,
        )  # fmt: skip

    def _remotes(self, cancelled: Callable[[], bool]) -> dict[str, Remote]:
        return {role: Remote(handle, self._free[role], cancelled) for role, handle in self._handles.items()}

    def _known_facts(self, remotes: Mapping[str, Remote]) -> Facts:
        with self._asking:
            # Once: later, a replica may be at long work.
            if self._facts is None:
                self._facts = {role: remote.call("facts") for role, remote in remotes.items()}
            return self._facts

    def _learn_facts(self) -> None:
        try:
            self._known_facts(self._remotes(lambda: False))
        except Exception:
            logger.exception("the models are not ready; the first film will ask them again")

    def _about(self) -> views.Models | None:
        return (
            None
            if self._facts is None
            else views.about(self._recipe, self._facts["generator"]["retrieves"])
        )


def application(models: Models, folder: Path, results: str | None = None) -> serve.Application:
    """Return the service over some models, with its jobs in a folder.

    Args:
        results: URL of a place in an object store for jobs and films; None keeps them in the folder.
    """
    options = models.recipe().serve
    accepted_keys(options)
    plans = models.plans_at_once()
    director = _deployment("Director", options.director, calls=plans)(DirectorReplica)
    painter = _deployment("Painter", options.painter)(PainterReplica)
    generator = _deployment("Generator", options.generator)(GeneratorReplica)
    # The jobs have one front; it waits more than it works.
    front = serve.deployment(
        name="Front",
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0.1},
        health_check_period_s=HEALTH_PERIOD_S,
    )(serve.ingress()(Front))
    parts = director.bind(models), painter.bind(models), generator.bind(models)
    return front.bind(models, folder, *parts, results)


def _deployment(name: str, options: config.Replicas, *, calls: int = 1) -> Any:
    """Return the decorator of a model's deployment; a replica works at ``calls`` at a time."""
    if options.max_replicas is None:
        scaling: dict[str, Any] = {"num_replicas": options.replicas}
    else:
        scaling = {
            "autoscaling_config": {
                "min_replicas": options.replicas,
                "max_replicas": options.max_replicas,
                # Calls wait in the front until a replica is free.
                "target_ongoing_requests": calls,
                "downscale_delay_s": options.idle_s,
            }
        }
    return serve.deployment(
        name=name,
        # Mostly one: a model has its device for itself, and more replicas serve more callers.
        max_ongoing_requests=calls,
        request_router_config={"initial_backoff_s": OFFER_S, "max_backoff_s": OFFER_S},
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        health_check_period_s=HEALTH_PERIOD_S,
        **scaling,
    )


def build(arguments: dict[str, Any]) -> serve.Application:
    """Build the application for a Serve configuration file (``infra/rayservice.yaml``).

    Args:
        arguments: ``models`` and ``jobs``: folders; ``stock``, in place of ``models``: name or file of a
            recipe; ``results``: URL; ``settings``: list of ``a.b=value``.
    """
    jobs, settings = Path(arguments["jobs"]), arguments.get("settings", ())
    models: Models
    if "stock" in arguments:
        # It imports diffusers' pipelines, which the front of trained models does without.
        from generation.film.stock import StockModels

        models = StockModels.named(arguments["stock"], settings, jobs / ANSWERS)
    else:
        models = TrainedModels(Path(arguments["models"]), settings_of(arguments.get("recipe"), settings))
    return application(models, jobs, arguments.get("results"))


def accepted_keys(options: config.Serve) -> list[str]:
    """Return the keys in the environment.

    Raises:
        ConfigError: there is no key, so that nobody could use the service, or a key contains characters
            that are not allowed in an HTTP header.
    """
    keys = [key.strip() for key in os.environ.get(options.api_keys_env, "").split(",") if key.strip()]
    if not keys:
        raise ConfigError(
            f"serve.api_keys_env: {options.api_keys_env} holds no key; set it to one or more, comma "
            f"between, such as {options.api_keys_env}=$(openssl rand -hex 24)"
        )
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigError(
            f"serve.api_keys_env: a key in {options.api_keys_env} has characters that HTTP headers cannot "
            "carry; use letters and digits"
        )
    return keys


def made_key(options: config.Serve) -> str | None:
    """Make a key for a service on loopback that was given none, and put it into the environment.

    Returns:
        the key; None if there is one, or if others could reach the service.
    """
    alone = options.host == "localhost"
    with suppress(ValueError):
        alone = alone or ipaddress.ip_address(options.host).is_loopback
    if not alone or cluster_address(None) or os.environ.get(options.api_keys_env, "").strip(" ,"):
        return None
    key = secrets.token_urlsafe(24)
    # The front inherits it, as one that the user had set.
    os.environ[options.api_keys_env] = key
    return key


@contextmanager
def running(models: Models, folder: Path, results: str | None = None) -> Iterator[None]:
    """Run the service on the cluster of RAY_ADDRESS, or on a new one on this machine.

    Jobs that are unfinished at the end continue when the service is started again.

    Raises:
        ServiceError: a part does not start.
        ReportedError: the object store refuses or does not answer, or another service uses the place.
    """
    # A busy machine's proxy needs longer than Serve's five seconds to report itself; a cluster that is
    # started here inherits this.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    if results is not None:
        # A wrong address, missing access and another service are reported here, not by a replica.
        place = Results(results)
        place.claim()
        place.release()
    service = application(models, folder.resolve(), results)
    with connected(), deployed(service, models.recipe().serve):
        yield


@contextmanager
def deployed(service: serve.Application, options: config.Serve) -> Iterator[None]:
    """Run the service on the cluster that this process is connected to.

    Raises:
        ServiceError: a part does not start.
    """
    serve.start(http_options={"host": options.host, "port": options.port})
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        try:
            serve.run(service, name=NAME, route_prefix="/")
        except RuntimeError as error:
            found = serve.status().applications[NAME].deployments
            reasons = [f"{name}: {each.message}" for name, each in found.items() if each.message]
            raise ServiceError("\n".join([str(error), *reasons])) from error
        yield
    finally:
        serve.delete(NAME)
