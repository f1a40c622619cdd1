"""``videoauteur`` with a fault planted in it: ``python -m benchmarks.disturbed FAULT AT COUNTED ...``.

``FAULT`` is one of:

- ``end``: SIGKILL before the file operation number ``AT`` of the end phase, which begins with the writing
  of the tables.
- ``memo``: SIGKILL at the memo's append number ``AT // 2``, before it (even ``AT``) or after it (odd), of
  whichever process appends: the driver, or a worker of Ray.

All processes count operations in the file ``COUNTED``, a byte each. ``AT`` -1 kills nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray

from pipeline.cli.main import main
from pipeline.dataset.versions import VersionWriter
from pipeline.platform.memo import Memo

END_PHASE: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (Path, ("rename", "replace", "symlink_to", "unlink", "mkdir", "write_bytes", "write_text", "open")),
    (os, ("fsync",)),
    (shutil, ("rmtree",)),
    # Arrow writes files with system calls of its own.
    (pq.ParquetWriter, ("write_table", "close")),
)
"""Functions that change files."""
COUNTED, AT = "FAULT_COUNTED", "FAULT_AT"
"""Variables that tell Ray's workers what the command line tells the driver."""


def before(owner: Any, name: str, act: Callable[[], None]) -> None:
    """Make a function or method act before each of its calls."""
    real = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        act()
        return real(*args, **kwargs)

    setattr(owner, name, call)


class Countdown:
    """A kill at an operation that several processes count together.

    Args:
        counted: file of one byte for each operation so far.
        at: number of the operation that kills its process.
    """

    def __init__(self, counted: Path, at: int) -> None:
        self._counted = counted
        self._at = at

    def __call__(self) -> None:
        """Count an operation."""
        # Not Path.open, which is an operation of the end phase.
        with open(self._counted, "ab") as file:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_EX)
            number = file.seek(0, os.SEEK_END)
            file.write(b".")
        if number == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_in_the_end_phase(count: Countdown) -> None:
    """Count the operations of the end phase."""

    def begin() -> None:
        for owner, names in END_PHASE:
            for name in names:
                before(owner, name, count)

    before(VersionWriter, "write", begin)


def kill_at_append(count: Countdown) -> None:
    """Count appends of this process to the memo, twice each."""
    append = Memo.put

    def put(self: Memo, key: str, value: str, *, durable: bool = True) -> None:
        count()
        append(self, key, value, durable=durable)
        count()

    Memo.put = put  # type: ignore[method-assign]


def in_worker() -> None:
    """Count the appends of a worker of Ray, which calls this when it starts."""
    kill_at_append(Countdown(Path(os.environ[COUNTED]), int(os.environ[AT])))


def kill_at_append_everywhere(count: Countdown, counted: str, at: str) -> None:
    """Count appends of this process and of the workers of its cluster."""
    kill_at_append(count)
    start = ray.init

    def init(*, runtime_env: dict[str, Any], **options: Any) -> Any:
        planted = runtime_env | {
            "env_vars": runtime_env["env_vars"] | {COUNTED: counted, AT: at},
            "worker_process_setup_hook": "benchmarks.disturbed.in_worker",
        }
        return start(runtime_env=planted, **options)

    ray.init = init  # type: ignore[assignment]


if __name__ == "__main__":
    fault, at, counted = sys.argv[1:4]
    countdown = Countdown(Path(counted), int(at))
    if fault == "end":
        kill_in_the_end_phase(countdown)
    elif fault == "memo":
        kill_at_append_everywhere(countdown, counted, at)
    else:
        raise SystemExit(f"unknown fault {fault!r}")
    sys.exit(main(sys.argv[4:]))
