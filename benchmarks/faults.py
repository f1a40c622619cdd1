"""Kill, starve and confuse a run: nothing is lost, nothing is paid for twice, no reader sees a mix.

``python -m benchmarks.faults [--trials N] [--runner local|ray] [VIDEO...]`` curates a few videos once
undisturbed, with a small chat server as the endpoint of captions and titles. Then it does so again and
again, with one fault each: SIGKILL of the driver at random moments, at appends to the memo and at file
operations of the end phase; a full disk at the memo, the tables, the scratch folder and the ledger; a video
that is replaced in the middle; two runs at once; with ``--runner ray`` also SIGKILL of workers. The same
command then continues, and its tables are compared with those of an undisturbed run byte by byte.

- ``rows_lost``: rows of the undisturbed tables that the continued run lacks.
- ``paid_twice``: questions that were sent again although their answer was in the memo before. An answer
  that was on its way to a process when that was killed cannot be in it; the column "in flight" counts
  those that were paid again.
- ``mixed_reads``: readings, taken all the time, that showed files or rows of no single version: a listing
  of one table, the manifest, and all six tables read by the manifest.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import machine, markdown
from benchmarks.run_process import Run, title
from benchmarks.witnesses import ChatServer, Reader, rows_lost, table_bytes, whole_of
from examples.drawing import moving_blobs
from examples.media import Scene, write_video
from pipeline.curation.job import LEDGER
from pipeline.curation.store import BALLAST_BYTES
from pipeline.dataset import SCRATCH
from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.versions import VERSIONS

CHAIN = (
    "transcribe.require_speech=false", "match.required=false", "narrate.min_steps=1",
    "watermark.threshold=1",
)  # fmt: skip
OTHER_VERSION = "narrate.min_steps=999"
"""Setting of the tables that lie in OUTPUT before the end phase is killed; no video is retained with it."""
REPEATS = 4
"""Runs after a fault, at most, until one ends without an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Effect of a fault. ``in_flight``: answers that a kill took away before they could be stored."""

    kind: str
    identical: bool
    rows_lost: int
    paid_twice: int
    in_flight: int
    mixed_reads: int
    readings: int = 0
    note: str = ""


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


class Bench:
    """Undisturbed runs, and trials that are compared with them.

    Args:
        folder: for everything that is written; emptied by the caller.
        films: copied; one more version of the first serves as its replacement.
    """

    def __init__(self, folder: Path, films: Sequence[Path], server: ChatServer, runner: str) -> None:
        self.folder, self.server, self.runner = folder, server, runner
        self.given = folder / "given"
        self.given.mkdir()
        for film in films:
            shutil.copy(film, self.given / film.name)
        self.first = self.given / films[0].name
        self.original = shutil.copy(self.first, folder / f"original{self.first.suffix}")
        self.other = folder / f"other{self.first.suffix}"
        write_film(self.other, seed=77, seconds=5.0)
        self.trials: list[Trial] = []
        self._number = 0
        self._mounts: list[Path] = []

    def command(self, at: Path, *settings: str, fault: tuple[str, int] | None = None) -> list[str]:
        """Return the command of a run into ``at/out`` with the memo ``at/memo``."""
        module = ["benchmarks.disturbed", fault[0], str(fault[1])] if fault else ["pipeline"]
        chosen = [part for each in (*CHAIN, *self.server.settings, *settings) for part in ("--set", each)]
        return [sys.executable, "-m", *module, "curate", str(self.given), str(at / "out"),
                "--runner", self.runner, "--memo", str(at / "memo"), *chosen]  # fmt: skip

    def start(self, at: Path, *settings: str, fault: tuple[str, int] | None = None) -> Run:
        """Start a run."""
        return Run(self.command(at, *settings, fault=fault))

    def undisturbed(
        self, name: str, *settings: str, fault: tuple[str, int] | None = None
    ) -> tuple[str, float]:
        """Make tables to compare with; returns the printed text, and the seconds after the claim."""
        at = self.folder / name
        at.mkdir(exist_ok=True)
        run = self.start(at, *settings, fault=fault)
        run.wait_for(at / "out" / VERSIONS)
        started = time.perf_counter()
        code, text = run.end()
        assert code == 0, f"the undisturbed run ended with {code}:\n{text}"
        return text, time.perf_counter() - started

    def counted(self, fault: str) -> int:
        """Count the operations before which :mod:`benchmarks.disturbed` can kill a run."""
        if fault == "end":
            at = self.folder / "counted-end"
            shutil.copytree(self.folder / "replaced", at, symlinks=True)
        text, _ = self.undisturbed(f"counted-{fault}", fault=(fault, -1))
        return int(text.strip().splitlines()[-1])

    def trial(
        self,
        kind: str,
        disturbed: Callable[[Path], str],
        *,
        expected: str = "whole",
        copied: str | None = None,
        repair: Callable[[Path], None] | None = None,
    ) -> None:
        """Run with a fault, then without until a run succeeds, and compare.

        Args:
            disturbed: runs in a folder, returns a remark.
            expected: name of the undisturbed run to compare with.
            copied: name of an undisturbed run to begin from; from scratch if None.
            repair: what a user does before giving the command again.
        """
        self._number += 1
        at = self.folder / f"trial-{self._number}"
        if copied is None:
            at.mkdir()
        else:
            shutil.copytree(self.folder / copied, at, symlinks=True)
        wanted = self.folder / expected / "out"
        whole = [whole_of(wanted)] + ([whole_of(at / "out")] if copied else [])
        self.server.answered.clear()
        with Reader(at / "out") as reader:
            note = disturbed(at)
            before = list(self.server.answered)
            stored = self.server.stored(at / "memo")
            if (at / "out" / MANIFEST).exists():
                whole.append(whole_of(at / "out"))
            if repair:
                repair(at)
            for _ in range(REPEATS):
                code, text = self.start(at).end()
                if code == 0:
                    break
            else:
                note += f"; the continued run ends with {code}: {text[-300:]}"
        later = self.server.answered[len(before) :]
        again = [key for key, number in Counter(before + later).items() if number > 1]
        found = Trial(
            kind=kind,
            identical=table_bytes(at / "out") == table_bytes(wanted),
            rows_lost=rows_lost(wanted, at / "out"),
            paid_twice=sum(key in stored for key in again),
            in_flight=sum(key not in stored for key in again),
            mixed_reads=reader.mixes(whole),
            readings=sum(each.total() for each in (reader.listings, reader.versions, reader.rows)),
            note=note,
        )
        self.trials.append(found)
        self.unmount()
        bad = not found.identical or found.rows_lost or found.paid_twice or found.mixed_reads
        print(f"{'FAILED ' if bad else ''}{found}", file=sys.stderr, flush=True)
        if not bad:
            shutil.rmtree(at)

    def kill_driver(self, after_s: float) -> Callable[[Path], str]:
        """Return a fault: SIGKILL of the driver some time after it has claimed OUTPUT."""

        def act(at: Path) -> str:
            run = self.start(at)
            run.wait_for(at / "out" / VERSIONS)
            time.sleep(after_s)
            return "killed" if run.kill() else "had ended"

        return act

    def kill_worker(self, after_s: float) -> Callable[[Path], str]:
        """Return a fault: SIGKILL of a worker of Ray some time after the driver has claimed OUTPUT."""

        def act(at: Path) -> str:
            run = self.start(at)
            run.wait_for(at / "out" / VERSIONS)
            time.sleep(after_s)
            while run.process.poll() is None:
                workers = [each for each in run.family() if title(each).startswith("ray::")]
                if workers:
                    victim = random.Random(after_s).choice(workers)
                    name = title(victim)
                    victim.kill()
                    return f"{name}, exit {run.end()[0]}"
                time.sleep(0.05)
            return "had ended"

        return act

    def planted(self, fault: str, number: int) -> Callable[[Path], str]:
        """Return a fault that :mod:`benchmarks.disturbed` plants."""
        return lambda at: f"exit {self.start(at, fault=(fault, number)).end()[0]}"

    def replace(self, after_s: float) -> Callable[[Path], str]:
        """Return a fault: a video is replaced by another one of the same name."""

        def act(at: Path) -> str:
            run = self.start(at)
            run.wait_for(at / "out" / VERSIONS)
            time.sleep(after_s)
            self.put(self.other)
            return f"exit {run.end()[0]}"

        return act

    def full(self, place: str) -> Callable[[Path], str]:
        """Return a fault: the disk of a folder has too little room."""

        def act(at: Path) -> str:
            (at / "out" / VERSIONS).mkdir(parents=True)
            (at / place).mkdir(exist_ok=True)
            used = sum(path.stat().st_size for path in (self.folder / "whole" / place).rglob("*.*"))
            # The memo of a worker holds room back before it begins.
            room = max(used // 2, 4096) + (BALLAST_BYTES if place == "memo" else 0)
            mount(at / place, f"size={room}")
            self._mounts.append(at / place)
            code, text = self.start(at).end()
            return f"exit {code}: {(text.strip().splitlines() or [''])[-1][:160]}"

        return act

    def unmount(self) -> None:
        """Take the small disks away."""
        while self._mounts:
            subprocess.run(["umount", "--lazy", str(self._mounts.pop())], check=True)

    def enlarge(self, at: Path) -> None:
        """Make room on the small disks."""
        for place in self._mounts:
            mount(place, "remount,size=256m")

    def put(self, film: Path | str) -> None:
        """Put a video in the place of the first one, in one step."""
        part = self.folder / "part"
        shutil.copy(film, part)
        part.replace(self.first)

    def two_at_once(self, at: Path) -> str:
        """Start a second run while the first is at work."""
        run = self.start(at)
        run.wait_for(at / "out" / VERSIONS)
        code, text = self.start(at).end()
        second = "was refused" if "another run is at work" in text else f"ended with {code}"
        return f"exit {run.end()[0]}; the second {second}"


def mount(place: Path, options: str) -> None:
    """Mount a file system in memory.

    Raises:
        subprocess.CalledProcessError: this user may not.
    """
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True
    )


def may_mount(folder: Path) -> bool:
    """Return whether this user may mount file systems."""
    folder.mkdir()
    try:
        mount(folder, "size=4096")
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def write_film(path: Path, seed: int, seconds: float) -> None:
    """Write a film of two shots without sound."""
    scenes = [
        Scene(
            duration_s=seconds, picture=moving_blobs(seed + shot, (90 + 100 * shot, 120, 200 - 90 * shot))
        )
        for shot in range(2)
    ]
    write_video(path, scenes, width_px=320, height_px=240, fps=15, audio=False)


def measure(bench: Bench, number: int, seed: int, disks: bool) -> None:
    """Try all faults."""
    _, length_s = bench.undisturbed("whole")
    bench.undisturbed("replaced", OTHER_VERSION)
    for after_s in moments(number, length_s, seed):
        bench.trial("driver killed at a random moment", bench.kill_driver(after_s))
    if bench.runner == "ray":
        for after_s in moments(number, length_s, seed + 1):
            bench.trial("worker killed", bench.kill_worker(after_s))
    else:
        records = bench.counted("memo")
        for at in spread(records, number):
            bench.trial("driver killed at a memo append", bench.planted("memo", at))
    shutil.copytree(bench.folder / "whole" / "memo", bench.folder / "replaced" / "memo", dirs_exist_ok=True)
    for at in spread(bench.counted("end"), 4 * number):
        kind = "driver killed at a file operation of the end phase"
        bench.trial(kind, bench.planted("end", at), copied="replaced")
    for place in ("memo", f"out/{VERSIONS}", f"out/{SCRATCH}", f"out/{LEDGER}") if disks else ():
        bench.trial(f"disk full: {place}", bench.full(place), repair=bench.enlarge)
    bench.trial("two runs at once", bench.two_at_once)
    bench.put(bench.other)
    bench.undisturbed("changed")
    for after_s in moments(number, length_s, seed + 2):
        bench.put(bench.original)
        bench.trial("video replaced", bench.replace(after_s), expected="changed")


def main(arguments: Sequence[str] | None = None) -> None:
    """Try all faults, print a table by kind, then one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="default: two generated ones")
    parser.add_argument("--trials", type=int, default=2, help="of a kind; file operations: four times")
    parser.add_argument("--runner", choices=("local", "ray"), default="local")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    print(f"{machine()}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # The small disks are unmounted on the way out.
    with tempfile.TemporaryDirectory() as name, ChatServer() as server:
        folder = Path(name)
        films = given.videos or [folder / "a.mp4", folder / "b.mp4"]
        for seed, film in enumerate(() if given.videos else films):
            write_film(film, seed=10 * seed, seconds=6.0)
        bench = Bench(folder, films, server, given.runner)
        try:
            measure(bench, given.trials, given.seed, disks := may_mount(folder / "mounted"))
        finally:
            bench.unmount()
    if not disks:
        print("Full disks skipped: this user may not mount.\n")
    print(markdown(list(HEAD), by_kind(bench.trials)), "\n")
    print(json.dumps(figures(bench.trials)))


HEAD = ("fault", "trials", "identical", "rows lost", "paid twice", "in flight", "mixed reads", "readings",
        "remarks")  # fmt: skip


def figures(trials: Sequence[Trial]) -> dict[str, int]:
    """Add trials up."""
    return {
        "trials": len(trials),
        "identical": sum(trial.identical for trial in trials),
        "rows_lost": sum(trial.rows_lost for trial in trials),
        "paid_twice": sum(trial.paid_twice for trial in trials),
        "mixed_reads": sum(trial.mixed_reads for trial in trials),
    }


def by_kind(trials: Sequence[Trial]) -> list[list[object]]:
    """Return the rows of the table of ``HEAD``."""
    found: list[list[object]] = []
    for kind in dict.fromkeys(trial.kind for trial in trials):
        own = [trial for trial in trials if trial.kind == kind]
        total = figures(own)
        notes = Counter(trial.note for trial in own).most_common(3)
        found.append(
            [kind, total["trials"], total["identical"], total["rows_lost"], total["paid_twice"],
             sum(trial.in_flight for trial in own), total["mixed_reads"],
             sum(trial.readings for trial in own), "; ".join(f"{n} x {note}" for note, n in notes)]
        )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
