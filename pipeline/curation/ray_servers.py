"""Model servers as Ray actors: one for each replica, on whatever node has room for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.util

from models.server import Server, ServerError
from models.serving import Capability
from pipeline.curation.config import Config
from pipeline.curation.servers import HERE, Running, ServerGroup, needed, refused, reserved_cpus
from pipeline.platform.address import cluster_address
from pipeline.platform.config import ConfigError

CLOSE_S = 15.0


@contextmanager
def started(config: Config, logs: Path) -> Iterator[Running]:
    """The servers on the cluster, for as long as the job lasts.

    Args:
        logs: folder on the node where a server runs.

    Raises:
        ConfigError: no node has what a server asks for, or one does not come up.
    """
    groups = needed(config)
    processors: float = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
    if reserved_cpus(config) >= processors:
        raise ConfigError(
            f"server.num_cpus, server.replicas: they leave none of {processors:g} processors for the videos"
        )
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    actors: list[Any] = []
    base_urls: dict[Capability, tuple[str, ...]] = {}
    try:
        for group in groups:
            _check_room(group, nodes, joined=cluster_address(config.run.ray_address) is not None)
            base_urls |= dict.fromkeys(group.serves, _start(group, logs, actors, alone=len(nodes) == 1))
        yield Running(base_urls=base_urls, check=lambda: _check(actors))
    finally:
        _close(actors)


class _ServerActor:
    """Owns one server on whatever node it was placed; its keeper ends it if the actor is killed."""

    def __init__(self, group: ServerGroup, logs: Path, replica: int, *, alone: bool) -> None:
        self._group = group
        self._logs = logs
        self._replica = replica
        self._alone = alone
        self._server: Server | None = None

    def place(self) -> None:
        """Return as soon as the actor has a place."""

    def start(self) -> str:
        node: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._server = self._group.start(HERE if self._alone else node, self._logs, self._replica)
        return self._server.base_url

    def check(self) -> None:
        assert self._server is not None
        self._server.check()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


def _start(group: ServerGroup, logs: Path, actors: list[Any], *, alone: bool) -> tuple[str, ...]:
    """The addresses of a group's servers, which are started at the same time."""
    settings = group.settings
    actor_class: Any = ray.remote(
        num_cpus=settings.num_cpus, num_gpus=settings.gpus, scheduling_strategy="SPREAD"
    )(_ServerActor)
    started = [
        actor_class.remote(group, logs, replica, alone=alone) for replica in range(settings.replicas)
    ]
    actors += started
    try:
        ray.get([actor.place.remote() for actor in started], timeout=settings.start_deadline_s)
    except ray.exceptions.GetTimeoutError as error:
        raise ConfigError(
            f"server: no room for {settings.replicas} replicas of {_asked(group)} on this cluster within "
            f"server.start_deadline_s, {settings.start_deadline_s:g} s"
        ) from error
    try:
        return tuple(ray.get([actor.start.remote() for actor in started]))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ServerError):
            raise refused(error.cause) from error
        raise


def _check_room(group: ServerGroup, nodes: list[dict[str, Any]], *, joined: bool) -> None:
    """Refuse at once what can never fit; a cluster that was joined may still grow."""
    asked = {"GPU": group.settings.gpus, "CPU": group.settings.num_cpus}
    asked = {kind: number for kind, number in asked.items() if number}
    if not asked or joined:
        return
    room = sum(min(int(node["Resources"].get(kind, 0) / asked[kind]) for kind in asked) for node in nodes)
    if room < group.settings.replicas:
        raise ConfigError(
            f"server.gpus, server.num_cpus, server.replicas: this machine has room for {room} of "
            f"{group.settings.replicas} servers with {_asked(group)}"
        )


def _asked(group: ServerGroup) -> str:
    return f"server.gpus={group.settings.gpus:g} and server.num_cpus={group.settings.num_cpus:g}"


def _check(actors: list[Any]) -> None:
    try:
        ray.get([actor.check.remote() for actor in actors])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ServerError):
            raise error.cause from error
        raise
    except ray.exceptions.RayActorError as error:
        raise ServerError(f"the process that owned a model server died: {error}") from error


def _close(actors: list[Any]) -> None:
    # One that is still starting does not listen; killing it has the same effect.
    with suppress(ray.exceptions.RayError):
        ray.get([actor.close.remote() for actor in actors], timeout=CLOSE_S)
    for actor in actors:
        ray.kill(actor)
