"""A run of the program in a process of its own, which can be watched and killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

DEADLINE_S = 300.0


class Run:
    """Process of a run, with all that it starts.

    Args:
        environment: variables beside those of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.process = psutil.Popen(
            command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=own | dict(environment or {}),
            start_new_session=True,
        )

    def wait_for(self, path: Path) -> None:
        """Wait until a path exists, or the run has ended."""
        while not path.exists() and self.process.poll() is None:
            time.sleep(0.005)

    def family(self) -> list[psutil.Process]:
        """Return the processes that the run has started and that live."""
        try:
            children: list[psutil.Process] = self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return children

    def kill(self) -> bool:
        """Kill the driver, then what outlives it by itself; returns whether the driver still ran."""
        orphans = self.family()
        ran = self.process.poll() is None
        # It may end in between.
        with contextlib.suppress(psutil.NoSuchProcess):
            self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(orphans, timeout=20)
        for orphan in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.kill()
        return ran

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit code and what was printed."""
        try:
            code = self.process.wait(DEADLINE_S)
        except psutil.TimeoutExpired:
            self.kill()
            code = -1
        self._log.seek(0)
        return int(code), self._log.read()


def title(process: psutil.Process) -> str:
    """Return the command of a process; empty once it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
