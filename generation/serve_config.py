"""The recipe's section for the service; :mod:`generation.config` holds the others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from models.settings import Count, NonNegative, Positive, Section


class Replicas(Section):
    """Copies of one model. ``gpus`` of a replica may be a fraction, so that several share a device.

    With ``max_replicas``, Ray Serve starts further replicas while calls wait and stops those that were idle
    for ``idle_s``.
    """

    replicas: Count = 1
    max_replicas: Count | None = None
    idle_s: Positive = 300.0
    cpus: Positive = 0.5
    gpus: NonNegative = 0.0

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Replicas:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("max_replicas must be at least replicas")
        return self

    @property
    def most(self) -> int:
        """Return highest number of copies at a time."""
        return self.max_replicas or self.replicas


class Serve(Section):
    """The service. ``api_keys_env``: environment variable with the accepted keys, comma between.

    ``retention_h``: hours after its end at which a job is removed; null keeps it. A key may have
    ``max_jobs_per_key`` unfinished jobs and ``max_streams_per_key`` open event streams.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    api_keys_env: str = "VIDEOAUTEUR_API_KEYS"
    max_queued_jobs: Count = 8
    max_running_jobs: Count = 2
    max_jobs_per_key: Count = 8
    max_streams_per_key: Count = 16
    max_body_bytes: Count = 4_000_000
    max_goal_chars: Count = 300
    max_picture_pixels: Count = 25_000_000
    retention_h: Positive | None = 168.0
    director: Replicas = Replicas()
    painter: Replicas = Replicas()
    generator: Replicas = Replicas()
