"""Features made by a pool of Ray actors, one video at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from generation.config import Recipe
from generation.data.maker import NARRATED_JSON, FeatureMaker, Narrated, attempt
from pipeline.platform.cluster import joined_or_started
from pipeline.platform.packages import check_packages


class _Worker:
    """An actor that makes features."""

    def __init__(self, recipe: Recipe, memo: Path) -> None:
        check_packages()
        self._maker = FeatureMaker(recipe, memo)

    def make(self, video: bytes) -> str | None:
        return attempt(self._maker, NARRATED_JSON.validate_json(video))


def features_on_ray(
    videos: Sequence[Narrated], recipe: Recipe, memo: Path
) -> Iterator[tuple[str, str | None]]:
    """(video_id, why it was dropped) as they are done; a video whose worker dies is dropped."""
    options = recipe.features
    with joined_or_started():
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        room = int(resources.get("CPU", 1.0) / options.num_cpus)
        workers = min(options.workers or room, len(videos))

        def worker() -> Any:
            actor: Any = ray.remote(num_cpus=options.num_cpus, num_gpus=options.num_gpus)(_Worker)
            return actor.remote(recipe, memo)

        waiting = list(reversed(videos))
        working: dict[Any, tuple[Any, Narrated]] = {}

        def start(actor: Any) -> None:
            if waiting:
                video = waiting.pop()
                working[actor.make.remote(NARRATED_JSON.dump_json(video))] = (actor, video)

        for _ in range(max(1, workers)):
            start(worker())
        while working:
            (done,), _ = ray.wait(list(working), num_returns=1)
            actor, video = working.pop(done)
            try:
                problem: str | None = ray.get(done)
            except ray.exceptions.RayActorError:
                problem, actor = "the process that worked on it died", worker()
            start(actor)
            yield video.video_id, problem
