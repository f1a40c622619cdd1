"""Progress of a run on the terminal: bars, or lines where there is none."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from pipeline.platform.log import log

LINE_EVERY_S = 10.0


class Live:
    """Bars on the terminal, from entering to leaving; elsewhere there are none.

    Args:
        columns: of a bar, as rich has them; those of one with a name, a count and a note if left out.
    """

    def __init__(self, *columns: ProgressColumn) -> None:
        self._console = Console(file=sys.stderr)
        usual = (
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        terminal = self._console.is_terminal
        self._bars = Progress(*(columns or usual), console=self._console) if terminal else None

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._bars:
            self._bars.stop()


class Bar(Live):
    """One piece of work in equal units: a live bar on a terminal, a log line now and then elsewhere.

    Args:
        name: what is done.
        total: how many units.
        unit: their name, in the plural.
        done: units that an earlier run did.
    """

    def __init__(self, name: str, total: int, *, unit: str, done: int = 0) -> None:
        super().__init__()
        self._name, self._total, self._unit, self._done = name, total, unit, done
        self._last_line = time.monotonic()
        if self._bars:
            self._task = self._bars.add_task(name, total=total, completed=done, note="")

    def to(self, done: int, *, note: str = "") -> None:
        """So many units are done."""
        self._done = done
        if self._bars:
            self._bars.update(self._task, completed=done, note=note)
        elif done == self._total or time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            log("progress", work=self._name, done=done, total=self._total, unit=self._unit, note=note)

    def advance(self, *, note: str = "") -> None:
        """One more unit is done."""
        self.to(self._done + 1, note=note)

    def print(self, line: str) -> None:
        """Print a line above the bar, for people; elsewhere there is a log line of it."""
        if self._bars:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            log("message", work=self._name, text=line)


@contextmanager
def polled(call: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call a function again and again, from a thread of its own, until the block ends."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(every_s):
            call()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)
