"""The faults of the fault benchmark, kind by kind."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.fault_bench import OTHER, At, Bench, Fault
from benchmarks.run_process import title
from benchmarks.witnesses import rows
from pipeline.curation.bucket_output import LEDGER
from pipeline.curation.run_file import RUN_FILE
from pipeline.curation.store import BALLAST_BYTES
from pipeline.dataset import SCRATCH
from pipeline.dataset.schema import TABLES
from pipeline.dataset.versions import VERSIONS

DEADLINE = "run.video_deadline_s=25"
"""Setting of runs over a file that hangs; a whole trial's films take less."""
RETRY = "run.retry_crashed=true"
"""Setting that gives a remembered crash another chance."""
PAGE_BYTES = 4096
READ_FAILURES = 15
"""Of a thousand reads of INPUT."""
WORKER_KILLS = 3
"""Workers killed in one run, one after the other."""

Act = Callable[[At], tuple[str, str]]


def spread(number: int, most: int) -> list[int]:
    """Return at most ``most`` of the numbers below ``number``, evenly, first and last included."""
    if number <= most:
        return list(range(number))
    if most == 1:
        return [0]
    return sorted({round(at * (number - 1) / (most - 1)) for at in range(most)})


def moments(number: int, length_s: float, seed: int) -> list[float]:
    """Return random moments of a run, one in each of ``number`` equal parts of it."""
    chance = random.Random(seed)
    return [(at + chance.random()) * length_s / number for at in range(number)]


def few(number: int) -> int:
    """Return how often a kind is tried whose moment matters less: a tenth, and at least once."""
    return max(1, number // 10)


def driver_killed(bench: Bench, number: int) -> Iterator[Fault]:
    """SIGKILL of the driver at random moments."""

    def act(after_s: float, at: At) -> tuple[str, str]:
        run = bench.start(at)
        run.wait_for(at.out / VERSIONS)
        time.sleep(after_s)
        return "killed" if run.kill() else "had ended", ""

    for after_s in moments(number, bench.length_s(), bench.seed):
        yield Fault(kind="driver killed at a random moment", act=partial(act, after_s))


def worker_killed(bench: Bench, number: int) -> Iterator[Fault]:
    """SIGKILL of workers of Ray at random moments, a few in one run."""

    def act(after_s: Sequence[float], at: At) -> tuple[str, str]:
        run = bench.start(at)
        run.wait_for(at.out / VERSIONS)
        started, killed = time.monotonic(), 0
        for moment in after_s:
            time.sleep(max(0.0, started + moment - time.monotonic()))
            # Before the first worker is up, and between two of them, there is none to kill.
            while run.process.poll() is None:
                if _kill_a_worker(run.family(), moment):
                    killed += 1
                    break
                time.sleep(0.05)
        return f"{killed} of {len(after_s)} killed, exit {run.end()[0]}", ""

    if bench.runner != "ray":
        return
    found = moments(number, bench.length_s(), bench.seed + 1)
    runs = -(-number // WORKER_KILLS)
    for first in range(runs):
        # Not neighbours, so that the moments of a run lie apart.
        yield Fault(kind="workers killed at random moments", act=partial(act, found[first::runs]))


def _kill_a_worker(family: Sequence[Any], seed: float) -> bool:
    workers = [each for each in family if "GroupWorker" in title(each)]
    if not workers:
        return False
    # It may end in between.
    with suppress(psutil.NoSuchProcess):
        random.Random(seed).choice(workers).kill()
    return True


def append_killed(bench: Bench, number: int) -> Iterator[Fault]:
    """SIGKILL before and after appends to the memo."""
    for at in spread(bench.counted("memo", knows_all=False), 2 * number):
        yield Fault(kind="process killed at a memo append", act=partial(_planted, bench, "memo", at))


def end_killed(bench: Bench, number: int) -> Iterator[Fault]:
    """SIGKILL before every file operation of the end phase, while older tables are current."""
    # A run that knows all films starts no cluster.
    knows_all = bench.runner == "local"
    # All of them, unless a quick look was asked for.
    most = 10**6 if number >= 30 else 4 * number
    for at in spread(bench.counted("end", knows_all=knows_all, begin_with="older"), most):
        yield Fault(
            kind="driver killed at a file operation of the end phase",
            act=partial(_planted, bench, "end", at),
            begin_with="older",
            knows_all=knows_all,
        )


def _planted(bench: Bench, kind: str, number: int, at: At) -> tuple[str, str]:
    """Run with a fault that :mod:`benchmarks.disturbed` plants."""
    code, _ = bench.start(at, fault=(kind, number)).end()
    note = f"exit {code}"
    if code == 0:
        # The films of a trial may have fewer places than those that were counted.
        reached = at.operations.exists() and at.operations.stat().st_size > number
        note = "a worker killed" if reached else "had ended"
    return note, "" if code in (0, -signal.SIGKILL) else f"exit {code}, not killed"


def crashing(bench: Bench, number: int) -> Iterator[Fault]:
    """A file that crashes its decoder natively, whenever it is read."""
    yield from _bad_file(bench, "crash", "a file that crashes its decoder", few(number))


def hanging(bench: Bench, number: int) -> Iterator[Fault]:
    """A file whose reading never ends."""
    yield from _bad_file(bench, "hang", "a file that hangs", 1)


def _bad_file(bench: Bench, fault: str, kind: str, times: int) -> Iterator[Fault]:
    """Run over a bad file until it is rejected, then once more, then without the fault."""
    shim = built(bench.folder)
    if shim is None:
        return
    environment = {"LD_PRELOAD": str(shim), "FAULT_KIND": fault, "FAULT_FILE": f"/{bench.names[0]}"}

    def act(at: At) -> tuple[str, str]:
        codes: list[int] = []
        # The sequential runner dies with the file, twice.
        while len(codes) < 3 and 3 not in codes:
            codes.append(bench.end(at, DEADLINE, environment=environment)[0])
        started = time.perf_counter()
        codes.append(bench.end(at, DEADLINE, environment=environment)[0])
        note = f"exits {codes}, the last after {time.perf_counter() - started:.0f} s"
        return note, _only_one_missing(bench, at, bench.names[0]) if 3 in codes else "never rejected"

    for _ in range(times):
        yield Fault(kind=kind, act=act, settings=(RETRY,))


def _only_one_missing(bench: Bench, at: At, name: str) -> str:
    """Return how tables differ from those without a fault beside the one file; empty if they do not."""
    for table in TABLES:
        want, have = rows(bench.folder / "removed" / "out", table), rows(at.out, table)
        extra = [row for row in have if row not in want]
        if [row for row in want if row not in have] or len(extra) > 1:
            return f"{table} differs by more than {name}"
        if table == "rejects" and (not extra or '"worker_crashed"' not in extra[0]):
            return f"{name} is not rejected as crashed: {extra}"
    return ""


def failing_reads(bench: Bench, number: int) -> Iterator[Fault]:
    """EIO at random reads of the input files."""
    shim = built(bench.folder)
    if shim is None:
        return

    def act(at: At) -> tuple[str, str]:
        environment = {
            "LD_PRELOAD": str(shim), "FAULT_KIND": "eio", "FAULT_SHARE": str(READ_FAILURES),
            "FAULT_FILE": "/given/",
        }  # fmt: skip
        code, _ = bench.end(at, environment=environment)
        reasons = sorted(
            json.loads(row)["reason"] for row in rows(at.out, "rejects") if '"kind": "file"' in row
        )
        wrong = "a failing disk is called a bug" if "bug" in reasons else ""
        return f"exit {code}, files rejected: {len(reasons)}", wrong

    for _ in range(few(number)):
        yield Fault(kind="EIO at random reads", act=act)


def full_disks(bench: Bench, _: int) -> Iterator[Fault]:
    """Disks of the memo, the tables, the scratch folder and the ledger that fill up, early and late."""
    if not may_mount(bench.folder / "mounted"):
        return
    for place in ("memo", f"out/{VERSIONS}", f"out/{SCRATCH}", f"out/{LEDGER}"):
        # The ledger of a trial fits on one page, the least that a disk can have left.
        for share in (0.0,) if place.endswith(LEDGER) else (0.0, 0.5):
            yield Fault(
                kind=f"disk full: {place}",
                act=partial(_full, bench, place, share),
                repair=partial(_enlarge, bench),
            )


def _full(bench: Bench, place: str, share: float, at: At) -> tuple[str, str]:
    """Run on a disk with too little room: a share of what an undisturbed run takes."""
    (at.out / VERSIONS).mkdir(parents=True)
    folder = at.root / place
    folder.mkdir(exist_ok=True)
    taken = _pages(at.root / place)
    needed = max(0, _pages(bench.folder / "whole" / place) - taken)
    # The memo of a worker holds room back before it begins.
    spare = BALLAST_BYTES if place == "memo" and share else 0
    held = shutil.copytree(folder, at.root / "held")
    _mount(folder, f"size={max(PAGE_BYTES, taken + spare + int(needed * share))}")
    bench.mounts.append(folder)
    shutil.copytree(held, folder, dirs_exist_ok=True)
    if not share:
        # A file system has one page at least.
        _fill(folder / "filler")
    asked = len(bench.server.answered)
    code, text = bench.end(at)
    (folder / "filler").unlink(missing_ok=True)
    last = (text.strip().splitlines() or [""])[-1]
    wrong = "" if code == 1 and last.startswith("videoauteur: ") else f"exit {code}: {text[-300:]}"
    if not share and len(bench.server.answered) > asked and place != f"out/{VERSIONS}":
        wrong += "; it asked a model although nothing could be stored"
    if (state := _state(at)) not in ("interrupted", None):
        wrong += f"; {RUN_FILE} says {state}"
    return f"exit {code}: {last[:120]}", wrong


def _state(at: At) -> str | None:
    """Return the status in the run file, of the run or of OUTPUT; None if there is none."""
    for path in (at.out / SCRATCH / RUN_FILE, at.out / RUN_FILE):
        if path.exists():
            return str(json.loads(path.read_text())["status"])
    return None


def _pages(folder: Path) -> int:
    """Return the bytes of a folder's files in whole pages."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(-(-path.stat().st_size // PAGE_BYTES) * PAGE_BYTES for path in files)


def _fill(path: Path) -> None:
    """Write a file until the disk is full."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(PAGE_BYTES))
    except OSError:
        return


def _enlarge(bench: Bench, _: At) -> None:
    """Make room on the small disks."""
    for place in bench.mounts:
        _mount(place, "remount,size=256m")


def two_at_once(bench: Bench, number: int) -> Iterator[Fault]:
    """A second run is started while the first is at work."""

    def act(at: At) -> tuple[str, str]:
        run = bench.start(at)
        run.wait_for(at.out / VERSIONS)
        code, text = bench.end(at)
        first, _ = run.end()
        refused = "another run is at work" in text and code == 2
        return f"exits {first} and {code}", "" if refused and first == 0 else text[-300:]

    for _ in range(few(number)):
        yield Fault(kind="two runs at once", act=act)


def replaced(bench: Bench, number: int) -> Iterator[Fault]:
    """A file is replaced by another one of the same name."""
    other = bench.folder / "made" / OTHER
    yield from _changed(bench, number, "file replaced", "replaced", lambda at: _put(other, at, 0, bench))


def removed(bench: Bench, number: int) -> Iterator[Fault]:
    """A file is removed."""

    def remove(at: At) -> None:
        (at.given / bench.names[0]).unlink()

    yield from _changed(bench, number, "file removed", "removed", remove)


def added(bench: Bench, number: int) -> Iterator[Fault]:
    """A file is added."""
    yield from _changed(bench, number, "file added", "added", lambda at: _put(None, at, None, bench))


def _put(film: Path | None, at: At, place: int | None, bench: Bench) -> None:
    """Put a film in the place of another one, in one step; a new one beside them if None."""
    name = "zz-added.mp4" if place is None else bench.names[place]
    part = at.root / "part"
    shutil.copy(film or bench.folder / "made" / name, part)
    part.replace(at.given / name)


def _changed(
    bench: Bench, number: int, kind: str, expected: str, change: Callable[[At], None]
) -> Iterator[Fault]:
    def act(after_s: float, at: At) -> tuple[str, str]:
        run = bench.start(at)
        run.wait_for(at.out / VERSIONS)
        time.sleep(after_s)
        change(at)
        code, text = run.end()
        return f"exit {code}", "" if code == 0 else f"exit {code}: {text[-300:]}"

    for after_s in moments(few(number), bench.length_s(), bench.seed + 2):
        yield Fault(kind=kind, act=partial(act, after_s), expected=expected)


def built(folder: Path) -> Path | None:
    """Compile the library that spoils reads; None where there is no compiler."""
    target = folder / "bad_reads.so"
    source = Path(__file__).with_name("bad_reads.c")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return target


def _mount(place: Path, options: str) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True
    )


def may_mount(folder: Path) -> bool:
    """Return whether this user may mount file systems."""
    folder.mkdir(exist_ok=True)
    try:
        _mount(folder, "size=4096")
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


KINDS: dict[str, Callable[[Bench, int], Iterator[Fault]]] = {
    "driver": driver_killed,
    "worker": worker_killed,
    "append": append_killed,
    "end": end_killed,
    "crash": crashing,
    "hang": hanging,
    "full": full_disks,
    "eio": failing_reads,
    "two": two_at_once,
    "replaced": replaced,
    "removed": removed,
    "added": added,
}
"""Kinds of faults by the name that ``--only`` takes."""
