"""Commands that benchmarks run, and the time and memory that they and their descendants take."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.1
LOG_BYTES = 10_000
"""End of a failed command's log that is shown."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time and memory that a command took.

    Attributes:
        cpu_s: of its process and of all that it started, as far as they were seen.
        peak_mb: peak memory of its process, as far as it was seen.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser for the options of a benchmark; its docstring is the description."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(command: Sequence[str]) -> Cost:
    """Run a command and add up what it and its descendants took.

    Raises:
        subprocess.CalledProcessError: it failed; the end of its log is on the terminal.
    """
    seen: dict[tuple[int, str], float] = {}
    peak_mb = 0.0
    started = time.perf_counter()
    # A command logs a line for each rejected file.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            seen |= _descendants(process.pid)
            peak_mb = max(peak_mb, _peak_mb(process.pid))
            time.sleep(SAMPLE_S)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES))
        end_of_log = log.read().decode(errors="replace")
    if process.returncode:
        print(end_of_log, file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    # Children that it waited for are in both; what was seen of the others can only be more.
    own_s = used.ru_utime + used.ru_stime
    return Cost(wall_s=wall_s, cpu_s=max(own_s, sum(seen.values())), peak_mb=peak_mb)


def _peak_mb(pid: int) -> float:
    """Return the peak memory of a process so far; 0 for one that has ended."""
    # The peak that the system reports at the end counts the memory of the process that started it.
    try:
        _, found, rest = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")
    except OSError:
        return 0.0
    return int(rest.split()[0]) / 1024 if found else 0.0


def _descendants(pid: int) -> dict[tuple[int, str], float]:
    """Return CPU seconds of a process and of all below it, by number and time of start."""
    parents: dict[int, int] = {}
    used: dict[int, tuple[str, float]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold spaces.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(entry.parent.name)
        parents[number] = int(fields[1])
        used[number] = (fields[19], (int(fields[11]) + int(fields[12])) / TICKS)
    found: dict[tuple[int, str], float] = {}
    for number in parents:
        above = number
        while above not in (pid, 0):
            above = parents.get(above, 0)
        if above == pid:
            start, seconds = used[number]
            found[number, start] = seconds
    return found
