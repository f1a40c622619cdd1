"""``videoauteur`` with a fault planted in it: ``python -m benchmarks.disturbed FAULT AT ARGUMENT...``.

``FAULT`` is one of:

- ``end``: SIGKILL before the file operation number ``AT`` of the end phase, which begins with the writing
  of the tables. ``AT`` -1 kills nothing and prints the number of operations as the last line.
- ``memo``: SIGKILL at the memo's append number ``AT // 2``, before it (even ``AT``) or after it (odd).
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

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


def before(owner: Any, name: str, act: Callable[[], None]) -> None:
    """Make a function or method act before each of its calls."""
    real = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        act()
        return real(*args, **kwargs)

    setattr(owner, name, call)


def disturb(fault: str, at: int) -> Callable[[], int]:
    """Plant a fault in this process; the function returned counts the operations so far."""
    numbers = itertools.count()
    passed = 0

    def count() -> None:
        nonlocal passed
        if next(numbers) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    def end_phase() -> None:
        for owner, names in END_PHASE:
            for name in names:
                before(owner, name, count)

    if fault == "end":
        before(VersionWriter, "write", end_phase)
    elif fault == "memo":
        append = Memo.put

        def put(self: Memo, key: str, value: str, *, durable: bool = True) -> None:
            count()
            append(self, key, value, durable=durable)
            count()

        Memo.put = put  # type: ignore[method-assign]
    else:
        raise SystemExit(f"unknown fault {fault!r}")
    return lambda: passed


if __name__ == "__main__":
    passed_so_far = disturb(sys.argv[1], int(sys.argv[2]))
    code = main(sys.argv[3:])
    print(passed_so_far())
    sys.exit(code)
