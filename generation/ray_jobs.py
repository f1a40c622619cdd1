"""The two jobs of training on a Ray cluster: features by a pool of actors, the run by Ray Train."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError

from generation.config import Recipe, Train
from generation.feature_maker import NARRATED_JSON, FeatureMaker, Narrated, attempt
from generation.training import Line, TrainingError
from pipeline.config import Config, ConfigError
from pipeline.packages import check_packages
from pipeline.ray_runner import connected

POLL_S = 1.0
RESTARTS = 2
"""Of a training run whose worker died; it goes on from its last checkpoint."""


@contextmanager
def cluster() -> Iterator[None]:
    """As :func:`pipeline.ray_runner.connected`, unless that is done already."""
    if ray.is_initialized():
        yield
        return
    with connected(Config()):
        yield


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
    with cluster():
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


def train_on_ray(work: Callable[[], None], options: Train, folder: Path) -> None:
    """Run a training function in ``options.processes`` workers of Ray Train.

    A run whose worker dies is started again and goes on from its last checkpoint.

    Args:
        work: what each worker does; it finds its rank in the environment.
        folder: of the run, on a file system that all nodes share.

    Raises:
        ConfigError, TrainingError: as ``work`` raised them.
        TrainingFailedError: of Ray, for everything else.
    """
    with cluster():
        trainer = TorchTrainer(
            lambda: work(),
            torch_config=TorchConfig(backend="nccl" if options.num_gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=options.processes,
                use_gpu=options.num_gpus > 0,
                resources_per_worker={"CPU": options.num_cpus}
                | ({"GPU": options.num_gpus} if options.num_gpus else {}),
            ),
            run_config=RunConfig(
                name="ray",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=RESTARTS),
            ),
        )
        interrupts = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit()
        except WorkerGroupError as error:
            for failure in error.worker_failures.values():
                # Ray wraps what a worker raised, to keep its traceback.
                cause = getattr(failure, "_base_exc", failure)
                if isinstance(cause, (ConfigError, TrainingError)):
                    raise cause from None
            raise
        finally:
            # Ray Train leaves its own handler behind, which starts Ray anew at the next Ctrl-C.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupts)


@contextmanager
def told(losses: Path, tell: Callable[[Line], None]) -> Iterator[None]:
    """Pass on the last line of a ``losses.jsonl`` that workers write, from a thread of its own."""
    done = threading.Event()

    def follow() -> None:
        while not done.wait(POLL_S):
            with suppress(OSError, ValueError, IndexError):
                tell(json.loads(losses.read_text(encoding="utf-8").splitlines()[-1]))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)
