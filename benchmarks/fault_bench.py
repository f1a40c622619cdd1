"""Runs with a fault in them, compared with undisturbed ones.

Every trial curates the same folder of videos. The memo of a trial knows all but a few of them, which differ
from trial to trial, so that a trial takes seconds. That memo is put together of one memo for each video,
which undisturbed runs of one video filled; the tables to compare with are those of one run that began with
an empty memo.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from benchmarks.fault_films import copied, write_film
from benchmarks.run_process import Run
from benchmarks.witnesses import ChatServer, Reader, rows_lost, table_bytes, whole_of
from pipeline.cli.main import main
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.versions import VERSIONS

CHAIN = (
    "transcribe.require_speech=false", "transcribe.model=tiny.en", "match.required=false",
    "narrate.min_steps=1", "watermark.threshold=1",
)  # fmt: skip
OTHER_VERSION = "narrate.min_steps=999"
"""Setting of the tables that lie in OUTPUT before the end phase is killed; no video is retained with it."""
REPEATS = 4
"""Runs after a fault, at most, until one ends without an error."""
OTHER, ADDED = "other.mp4", "zz-added.mp4"
"""Films that take the place of the first one, and that join the others, in the middle of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Effect of a fault.

    Attributes:
        in_flight: answers that a kill took away before they could be stored.
        wrong: difference of the disturbed run from what is promised, in words; empty without one.
    """

    kind: str
    runner: str
    identical: bool
    rows_lost: int
    paid_twice: int
    in_flight: int
    mixed_reads: int
    readings: int = 0
    seconds: float = 0.0
    note: str = ""
    wrong: str = ""

    @property
    def failed(self) -> bool:
        """Tell whether something was lost, paid twice, mixed, or not as promised."""
        return not self.identical or bool(
            self.rows_lost or self.paid_twice or self.mixed_reads or self.wrong
        )


@dataclass(slots=True)
class At:
    """Folder of a trial. ``known``: films whose results its memo has."""

    root: Path
    known: list[str]

    @property
    def given(self) -> Path:
        """INPUT."""
        return self.root / "given"

    @property
    def operations(self) -> Path:
        """File in which :mod:`benchmarks.disturbed` counts operations, a byte each."""
        return self.root / "operations"

    @property
    def out(self) -> Path:
        """OUTPUT."""
        return self.root / "out"

    @property
    def memo(self) -> Path:
        """The memo."""
        return self.root / "memo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault to try.

    Attributes:
        act: runs in a folder with the fault; returns a remark, and what was not as promised.
        expected: name of the undisturbed run to compare with.
        begin_with: name of an undisturbed run whose OUTPUT the trial begins with; an empty one if None.
        repair: what a user does before giving the command again.
        settings: of the runs after the fault.
        knows_all: whether the memo knows all films.
    """

    kind: str
    act: Callable[[At], tuple[str, str]]
    expected: str = "whole"
    begin_with: str | None = None
    repair: Callable[[At], None] | None = None
    settings: tuple[str, ...] = ()
    knows_all: bool = False


@dataclass
class Bench:
    """Undisturbed runs, and trials that are compared with them.

    Args:
        folder: for everything that is written; undisturbed runs that are there already are used.
        fresh: films of a trial that its memo does not know.
    """

    folder: Path
    films: Sequence[Path]
    server: ChatServer
    fresh: int
    seed: int
    runner: str = "local"
    trials: list[Trial] = field(default_factory=list)
    mounts: list[Path] = field(default_factory=list)
    _number: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the films; the first one is replaced, removed and poisoned."""
        return [film.name for film in self.films]

    def command(self, at: At, *settings: str, fault: tuple[str, int] | None = None) -> list[str]:
        """Return the command of a run."""
        module = ["pipeline"]
        if fault:
            module = ["benchmarks.disturbed", fault[0], str(fault[1]), str(at.operations)]
        return [
            sys.executable,
            "-m",
            *module,
            *self._words(at.given, at.out, at.memo, self.runner, settings),
        ]

    def _words(
        self, given: Path, out: Path, memo: Path, runner: str, settings: Sequence[str] = ()
    ) -> list[str]:
        chosen = [part for each in (*CHAIN, *self.server.settings, *settings) for part in ("--set", each)]
        return ["curate", str(given), str(out), "--runner", runner, "--memo", str(memo), *chosen]

    def start(
        self,
        at: At,
        *settings: str,
        fault: tuple[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run."""
        return Run(self.command(at, *settings, fault=fault), environment)

    def end(self, at: At, *settings: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run to the end; returns the exit code and what was printed."""
        return self.start(at, *settings, environment=environment).end()

    def prepare(self) -> None:
        """Make the memos of single films and all tables to compare with, where they are not there.

        Raises:
            SystemExit: those that are there were made by other stages, which would differ by themselves.
        """
        made_by = self.folder / "signatures.json"
        signatures = json.dumps([stage.signature for stage in build_stages(Config())])
        if made_by.exists() and made_by.read_text() != signatures:
            raise SystemExit(f"{self.folder} was made by other stages than today's; remove it")
        made_by.write_text(signatures)
        write_film(self._made(OTHER), seed=77, seconds=4.0)
        write_film(self._made(ADDED), seed=88, seconds=3.0)
        todo = [
            film
            for film in (*self.films, self._made(OTHER), self._made(ADDED))
            if not (self.folder / "memos" / film.name / "done").exists()
        ]
        if todo:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                process.submit(fill_memos, [(film, self._single(film)) for film in todo]).result()
        self.undisturbed("whole", self.names, known=())
        others = self.names[1:]
        self.undisturbed("replaced", self.names, known=[*others, OTHER], first=self._made(OTHER))
        self.undisturbed("removed", others, known=others)
        self.undisturbed("added", [*self.names, ADDED], known=[*self.names, ADDED])
        self.undisturbed("older", self.names, OTHER_VERSION, known=self.names)

    def _made(self, name: str) -> Path:
        (self.folder / "made").mkdir(exist_ok=True, parents=True)
        return self.folder / "made" / name

    def _single(self, film: Path) -> list[str]:
        """Return the arguments of a run over one film with a memo of its own."""
        at = self.folder / "memos" / film.name
        return self._words(film, at / "out", at / "memo", "local")

    def undisturbed(
        self,
        name: str,
        films: Sequence[str],
        *settings: str,
        known: Sequence[str],
        first: Path | None = None,
    ) -> None:
        """Make tables to compare with; ``first`` takes the place of the first film."""
        at = At(self.folder / name, list(known))
        if (at.root / "done").exists():
            return
        shutil.rmtree(at.root, ignore_errors=True)
        self.fill(at, films, first)
        code, text = Run([sys.executable, "-m", "pipeline",
                          *self._words(at.given, at.out, at.memo, "local", settings)]).end()  # fmt: skip
        assert code == 0, f"the undisturbed run {name} ended with {code}:\n{text}"
        (at.root / "done").touch()

    def fill(self, at: At, films: Sequence[str], first: Path | None = None) -> None:
        """Write INPUT and the memo of a run."""
        at.root.mkdir()
        sources = {path.name: path for path in (*self.films, self._made(ADDED))}
        copied([sources[name] for name in films], at.given)
        if first is not None:
            shutil.copy(first, at.given / films[0])
        at.memo.mkdir()
        for name in at.known:
            for segment in (self.folder / "memos" / name / "memo").glob("*.seg"):
                shutil.copy(segment, at.memo)

    def begun(self, fault: Fault, name: str = "") -> At:
        """Make the folder of a trial."""
        self._number += 1
        dice = random.Random(f"{self.seed}-{self._number}")
        others = dice.sample(self.names[1:], min(self.fresh, len(self.names)) - 1)
        fresh = () if fault.knows_all else (self.names[0], *others)
        known = [name for name in self.names if name not in fresh]
        at = At(self.folder / (name or f"trial-{os.getpid()}-{self._number}"), known)
        shutil.rmtree(at.root, ignore_errors=True)
        self.fill(at, self.names)
        if fault.begin_with is not None:
            shutil.copytree(self.folder / fault.begin_with / "out", at.out, symlinks=True)
        return at

    def counted(self, kind: str, *, knows_all: bool, begin_with: str | None = None) -> int:
        """Count the operations before which :mod:`benchmarks.disturbed` can kill a run."""
        nothing = Fault(kind=kind, act=lambda at: ("", ""), knows_all=knows_all, begin_with=begin_with)
        at = self.begun(nothing)
        code, text = self.start(at, fault=(kind, -1)).end()
        assert code == 0, text
        number = at.operations.stat().st_size
        shutil.rmtree(at.root)
        return number

    def length_s(self) -> float:
        """Measure the time from the claim of OUTPUT to the end of an undisturbed trial."""
        at = self.begun(Fault(kind="", act=lambda at: ("", "")))
        run = self.start(at)
        run.wait_for(at.out / VERSIONS)
        started = time.perf_counter()
        code, text = run.end()
        assert code == 0, text
        shutil.rmtree(at.root)
        return time.perf_counter() - started

    def trial(self, fault: Fault) -> Trial:
        """Run with a fault, then without until a run succeeds, and compare."""
        started = time.perf_counter()
        at = self.begun(fault)
        wanted = self.folder / fault.expected / "out"
        whole = [whole_of(wanted)] + ([whole_of(at.out)] if fault.begin_with else [])
        self.server.begin(at.memo)
        with Reader(at.out) as reader:
            note, wrong = fault.act(at)
            if (at.out / MANIFEST).exists():
                whole.append(whole_of(at.out))
            if fault.repair:
                fault.repair(at)
            for _ in range(REPEATS):
                code, text = self.end(at, *fault.settings)
                if code == 0:
                    break
            else:
                wrong += f"; the continued run ends with {code}: {text[-300:]}"
        same = not wrong and table_bytes(at.out) == table_bytes(wanted)
        found = Trial(
            kind=fault.kind,
            runner=self.runner,
            identical=same,
            rows_lost=0 if same else rows_lost(wanted, at.out),
            paid_twice=len(self.server.paid_twice),
            in_flight=len(self.server.in_flight - self.server.paid_twice),
            mixed_reads=reader.mixes(whole),
            readings=reader.total(),
            seconds=round(time.perf_counter() - started, 1),
            note=note,
            wrong=wrong.strip("; "),
        )
        self.trials.append(found)
        self.unmount()
        if not found.failed:
            shutil.rmtree(at.root)
        return found

    def unmount(self) -> None:
        """Take the small disks away."""
        while self.mounts:
            subprocess.run(["umount", "--lazy", str(self.mounts.pop())], check=True)


def fill_memos(runs: Sequence[tuple[Path, list[str]]]) -> None:
    """Curate films one by one, each into a memo of its own; in this process.

    Args:
        runs: films, with the arguments of the command; ``out`` in it lies beside the memo.
    """
    for film, words in runs:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            code = main(words)
        assert code == 0, f"{film.name}: exit {code}\n{text.getvalue()}"
        out = Path(words[2])
        shutil.rmtree(out)
        (out.parent / "done").touch()


def logged(trial: Trial, log: Path | None) -> None:
    """Print a line of a trial, and append it to a file."""
    mark = "FAILED " if trial.failed else ""
    print(
        f"{mark}{trial.runner}: {trial.kind}: {trial.seconds} s, {trial.note}"
        + (f"; {trial}" if mark else ""),
        file=sys.stderr,
        flush=True,
    )
    if log is not None:
        with log.open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
