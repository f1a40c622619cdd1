"""The Ray cluster that a command works on: one that is there, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.node import Node

from pipeline import PASSED_VARIABLES
from pipeline.platform.address import cluster_address
from pipeline.platform.packages import ROOT

METRICS_PORT_VARIABLE = "VIDEOAUTEUR_METRICS_PORT"


def _metrics_port(joined: str | None) -> int | None:
    """Return the port that Prometheus scrapes; None for a cluster that is joined, which has its own."""
    port = os.environ.get(METRICS_PORT_VARIABLE)
    return None if joined or not port else int(port)


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Join the cluster that is there, or start one on this machine, and leave it afterwards."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    joined = cluster_address(address)
    if not joined:
        # Ray's own processes warn on the terminal of things that neither we nor our user can change.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # A cluster on loopback is one of ours: Ray must not look for its node at the outer address.
    ours = not joined or joined.startswith("127.0.0.1:")
    with _private_to_this_machine() if ours else nullcontext():
        _init(joined)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _private_to_this_machine() -> Iterator[None]:
    """Have Ray start a cluster that other machines can neither reach nor hear of.

    Ray listens on all interfaces unless it takes loopback for its node's address, which it does on desktop
    systems by this constant. Its API server, which does nothing else without a dashboard, asks the metadata
    services of three clouds where it runs, also with usage statistics off.
    """
    changed: tuple[tuple[Any, str, Any], ...] = (
        (ray_constants, "ENABLE_RAY_CLUSTER", False),
        (Node, "start_api_server", lambda self, **_: None),
    )
    before = [getattr(owner, name) for owner, name, _ in changed]
    for owner, name, value in changed:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(changed, before, strict=True):
            setattr(owner, name, value)


def _init(joined: str | None) -> None:
    ray.init(
        # Without "local" Ray would join whatever cluster somebody else runs on this machine.
        address=joined or "local",
        namespace="videoauteur",
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=None if joined else False,
        _metrics_export_port=_metrics_port(joined),
        runtime_env={
            "env_vars": {"PYTHONPATH": str(ROOT)} | {name: os.environ[name] for name in PASSED_VARIABLES}
        },
    )


@contextmanager
def joined_or_started(address: str | None = None) -> Iterator[None]:
    """Connect as :func:`connected`, unless this process is connected already."""
    if ray.is_initialized():
        yield
        return
    with connected(address):
        yield
