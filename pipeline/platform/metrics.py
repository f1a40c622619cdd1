"""The figures that Prometheus scrapes: every metric of the program, by name, and three ways to record one.

Ray exports them at the metrics port of every node. Every label takes its values from a closed set, so the
number of time series is bounded whatever the input holds. Without a running Ray nothing is recorded. Ray
estimates the sum of a histogram from its buckets, so exact seconds are a counter of their own.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge, Histogram

VIDEO_S = (0.01, 0.1, 1, 5, 30, 120, 600, 3600)
CLIP_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class Metric:
    """Kind, meaning and labels of a metric; ``boundaries`` are the upper ends of a histogram's buckets."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


METRICS: dict[str, Metric] = {
    "videoauteur_stage_videos": Metric("counter", "Videos that left a stage", ("stage", "outcome")),
    "videoauteur_stage_drops": Metric("counter", "Items dropped", ("stage", "kind", "reason")),
    "videoauteur_stage_seconds": Metric("histogram", "Seconds of a video in a stage", ("stage",), VIDEO_S),
    "videoauteur_stage_busy_seconds": Metric("counter", "Seconds of workers in a stage", ("stage",)),
    "videoauteur_stage_video_seconds": Metric("counter", "Length of videos that left a stage", ("stage",)),
    "videoauteur_stage_retries": Metric("counter", "Further tries after a transient error", ("stage",)),
    "videoauteur_stage_waiting": Metric("gauge", "Videos before or in a stage", ("stage",)),
    "videoauteur_pool_workers": Metric("gauge", "Workers of a pool", ("pool",)),
    "videoauteur_pool_busy": Metric("gauge", "Workers of a pool that hold a video", ("pool",)),
    "videoauteur_pool_bytes": Metric("counter", "Bytes read and written by workers", ("pool", "direction")),
    "videoauteur_worker_deaths": Metric("counter", "Videos whose worker died, run again alone"),
    "videoauteur_model_requests": Metric("counter", "Requests to models", ("stage",)),
    "videoauteur_model_tokens": Metric("counter", "Tokens read and written, at most", ("stage",)),
    "videoauteur_model_usd": Metric("counter", "US dollars spent; unknown costs at most", ("stage",)),
    "videoauteur_run_videos": Metric("gauge", "Videos of the run", ("state",)),
    "videoauteur_run_budget_share": Metric("gauge", "Spent share of a bound of the budget", ("bound",)),
    "videoauteur_run_disk_free_share": Metric("gauge", "Free share of the disk that holds OUTPUT"),
    "videoauteur_service_jobs": Metric("gauge", "Jobs of the service", ("status",)),
    "videoauteur_service_ended": Metric("counter", "Jobs that ended", ("status",)),
    "videoauteur_service_refused": Metric("counter", "Requests refused", ("reason",)),
    "videoauteur_service_streams": Metric("gauge", "Open event streams"),
    "videoauteur_service_step_seconds": Metric("histogram", "Seconds from start to a step", (), CLIP_S),
    "videoauteur_service_clip_seconds": Metric("histogram", "Seconds to render a clip", (), CLIP_S),
    "videoauteur_service_film_seconds": Metric("histogram", "Seconds from start to a film", (), CLIP_S),
}  # fmt: skip


def add(name: str, value: float = 1.0, **labels: str) -> None:
    """Add to a counter."""
    if value and _exported():
        _counter(name).inc(value, tags=labels)


def put(name: str, value: float, **labels: str) -> None:
    """Set a gauge."""
    if _exported():
        _gauge(name).set(value, tags=labels)


def observe(name: str, value: float, **labels: str) -> None:
    """Record one observation of a histogram."""
    if _exported():
        _histogram(name).observe(value, tags=labels)


def _exported() -> bool:
    # The sequential runner must not pay for the import of Ray.
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@functools.cache
def _counter(name: str) -> Counter:
    from ray.util.metrics import Counter

    return Counter(name, METRICS[name].meaning, tag_keys=METRICS[name].labels)


@functools.cache
def _gauge(name: str) -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(name, METRICS[name].meaning, tag_keys=METRICS[name].labels)


@functools.cache
def _histogram(name: str) -> Histogram:
    from ray.util.metrics import Histogram

    metric = METRICS[name]
    return Histogram(name, metric.meaning, boundaries=list(metric.boundaries), tag_keys=metric.labels)
