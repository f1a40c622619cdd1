"""Kill, starve and confuse a run: nothing is lost, nothing is paid for twice, no reader sees a mix.

``python -m benchmarks.faults`` curates segments of real videos (``$VIDEOAUTEUR_DATA``, or VIDEO...; made
films where there is neither) once undisturbed, with a small chat server as the endpoint of captions and
titles. Then it does so again and again, with one fault each: SIGKILL of the driver at random moments, at
appends to the memo and at every file operation of the end phase; SIGKILL of workers; a file that crashes
its decoder, and one that hangs; full disks; reads that fail; two runs at once; files replaced, removed and
added in the middle. The same command then continues, and its tables are compared with those of an
undisturbed run byte by byte.

- ``identical``: trials with the tables of the undisturbed run, and with the ending that is promised: a full
  disk ends with exit code 1 and one sentence, a bad file costs no other file, and so on.
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
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.commands import parser_of
from benchmarks.fault_bench import Bench, Trial, logged
from benchmarks.fault_films import copied, made_films, real_films
from benchmarks.fault_kinds import KINDS
from benchmarks.machine import machine, markdown
from benchmarks.witnesses import ChatServer

HEAD = ("runner", "fault", "trials", "identical", "rows lost", "paid twice", "in flight", "mixed reads",
        "readings", "seconds", "remarks")  # fmt: skip
RUNNERS = ("local", "ray")


def main(arguments: Sequence[str] | None = None) -> None:
    """Try all faults, print a table by kind, then one JSON object."""
    given = _parsed(arguments)
    print(f"{machine()}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # The small disks are unmounted on the way out.
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(ChatServer())
        films = films_of(folder, given.videos, 6 if given.quick else given.films)
        bench = Bench(folder, films, server, given.fresh, given.seed)
        stack.callback(bench.unmount)
        bench.prepare()
        for runner in given.runner:
            bench.runner = runner
            # A run on Ray takes several times as long.
            number = given.moments if runner == "local" else given.ray_moments
            for name in given.only:
                for fault in KINDS[name](bench, 2 if given.quick else number):
                    logged(bench.trial(fault), given.log)
    trials = bench.trials if given.log is None else read_log(given.log)
    print(markdown(list(HEAD), by_kind(trials)), "\n")
    print(json.dumps(figures(trials)))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("faults", __doc__)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--runner", choices=RUNNERS, nargs="+", default=RUNNERS)
    parser.add_argument("--only", choices=KINDS, nargs="+", default=tuple(KINDS), metavar="KIND",
                        help=", ".join(KINDS))  # fmt: skip
    parser.add_argument("--moments", type=int, default=30, help="random moments of a kind (default 30)")
    parser.add_argument("--ray-moments", type=int, default=30, help="the same with Ray (default 30)")
    parser.add_argument("--films", type=int, default=20, help="segments of sample films (default 20)")
    parser.add_argument("--fresh", type=int, default=3, help="films of a trial to compute (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="six films, two moments, eight operations")
    parser.add_argument("--folder", type=Path, help="kept, with what undisturbed runs made in it")
    parser.add_argument(
        "--log",
        type=Path,
        help="file that trials are appended to, as JSON lines; the table is of all in it",
    )
    return parser.parse_args(arguments)


def films_of(folder: Path, videos: Sequence[Path], number: int) -> list[Path]:
    """Copy or cut the films, where they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "films"
    data = os.environ.get("VIDEOAUTEUR_DATA")
    if videos:
        copied(videos, place)
    elif not place.exists():
        if data is None:
            made_films(place, number)
        else:
            films = real_films(Path(data), folder / "segments", number)
            copied(films, place)
    return sorted(place.iterdir())


def read_log(log: Path) -> list[Trial]:
    """Return all trials of a log, of this run and of earlier ones."""
    return [Trial(**json.loads(line)) for line in log.read_text().splitlines()]


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
    for runner, kind in dict.fromkeys((trial.runner, trial.kind) for trial in trials):
        own = [trial for trial in trials if (trial.runner, trial.kind) == (runner, kind)]
        total = figures(own)
        notes = Counter(trial.wrong or trial.note for trial in own).most_common(3)
        found.append(
            [runner, kind, total["trials"], total["identical"], total["rows_lost"], total["paid_twice"],
             sum(trial.in_flight for trial in own), total["mixed_reads"],
             sum(trial.readings for trial in own), f"{sum(trial.seconds for trial in own):.0f}",
             "; ".join(f"{number} x {note}" for note, number in notes)]
        )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
