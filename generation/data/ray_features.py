"""Features made by a pool of Ray actors, one video at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from generation.config import Features, Recipe
from generation.data.maker import FeatureMaker, Part, attempt
from generation.data.narrated import NARRATED_JSON, FeatureError, Narrated
from generation.encoders.memory import OutOfGpuMemoryError
from models.errors import UsageError
from pipeline.platform.cluster import joined_or_started
from pipeline.platform.packages import check_packages


class _Worker:
    """An actor that makes features."""

    def __init__(self, recipe: Recipe, parts: Sequence[Part], store: Path) -> None:
        check_packages()
        if not ray.get_gpu_ids():
            # Ray does not hide the GPUs of a node from an actor that asked for none.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._maker = FeatureMaker(recipe, parts, store)

    def make(self, video: bytes) -> str | None:
        return attempt(self._maker, NARRATED_JSON.validate_json(video))

    def constants(self) -> None:
        self._maker.make_constants()


def pool_size(options: Features, resources: Mapping[str, float], videos: int) -> int:
    """Return how many workers fit the cluster's processors and GPUs.

    Raises:
        FeatureError: not even one does.
    """
    room = resources.get("CPU", 0.0) / options.num_cpus
    if options.num_gpus:
        room = min(room, _gpu_room(options.num_gpus, resources.get("GPU", 0.0)))
    if room < 1:
        raise FeatureError(
            f"features: a worker asks for {options.num_cpus:g} processors and {options.num_gpus:g} GPUs, "
            f"the cluster has {resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}: lower "
            "features.num_cpus or features.num_gpus (0 computes on processors)"
        )
    return max(1, min(options.workers or int(room), int(room), videos))


def _gpu_room(wanted: float, there: float) -> float:
    """Return how many workers the GPUs hold; a share of a GPU lies on one of them."""
    return there // wanted if wanted >= 1 else there * (1 // wanted)


def features_on_ray(
    videos: Sequence[Narrated], recipe: Recipe, parts: Sequence[Part], store: Path
) -> Iterator[tuple[str, str | None]]:
    """Yield (video_id, why it was dropped) as videos are finished.

    A video whose worker dies is dropped.

    Raises:
        FeatureError: no worker fits the cluster, or one runs out of GPU memory.
    """
    options = recipe.features
    with joined_or_started():
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        workers = pool_size(options, resources, len(videos))

        def worker() -> Any:
            actor: Any = ray.remote(num_cpus=options.num_cpus, num_gpus=options.num_gpus)(_Worker)
            return actor.remote(recipe, parts, store)

        pool = [worker() for _ in range(workers)]
        _get(pool[0].constants.remote())
        waiting = list(reversed(videos))
        working: dict[Any, tuple[Any, Narrated]] = {}

        def start(actor: Any) -> None:
            if waiting:
                video = waiting.pop()
                working[actor.make.remote(NARRATED_JSON.dump_json(video))] = (actor, video)

        for actor in pool:
            start(actor)
        while working:
            (done,), _ = ray.wait(list(working), num_returns=1)
            actor, video = working.pop(done)
            try:
                problem: str | None = _get(done)
            except ray.exceptions.RayActorError:
                problem, actor = "the process that worked on it died", worker()
            start(actor)
            yield video.video_id, problem


def _get(result: Any) -> Any:
    """Return a result; an error that the user has to mend is raised without the worker's traceback."""
    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (OutOfGpuMemoryError, UsageError)):
            raise FeatureError(str(error.cause)) from error
        raise
