"""A training run on a Ray cluster, by Ray Train."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError

from generation.config import Train
from generation.training.loop import Line
from generation.training.parts import TrainingError
from pipeline.platform.cluster import joined_or_started
from pipeline.platform.config import ConfigError
from pipeline.platform.progress import polled

POLL_S = 1.0
TAIL_BYTES = 8192
"""Read of the losses at each poll; a line is far shorter, and the file of a long run large."""
RESTARTS = 2
"""Of a training run whose worker died; it goes on from its last checkpoint."""


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
    with joined_or_started():
        trainer = TorchTrainer(
            lambda: work(),
            torch_config=TorchConfig(backend=_backend(options)),
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
            # Ray Train leaves its own handler behind, which starts Ray again at the next Ctrl-C.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupts)


def _backend(options: Train) -> str:
    """Return the communication that the workers' devices have; a GPU may be only a number to Ray."""
    if not options.num_gpus:
        return "gloo"
    ask = ray.remote(num_cpus=0, num_gpus=options.num_gpus)(torch.cuda.is_available)
    return "nccl" if ray.get(ask.remote()) else "gloo"


@contextmanager
def following(losses: Path, report: Callable[[Line], None]) -> Iterator[None]:
    """Report the last line of a ``losses.jsonl`` that workers write, from a thread of its own."""

    def follow() -> None:
        with suppress(OSError, ValueError, IndexError), losses.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            report(json.loads(file.read().splitlines()[-1]))

    with polled(follow, POLL_S):
        yield
