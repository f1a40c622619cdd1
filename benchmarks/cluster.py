"""A run on a cluster of two nodes: scaling, a lost node, a repeated submission, a lost head.

The nodes are real Ray nodes on this machine, with one processor each. Videos are small files; their probe
burns ``--work`` seconds of processor time, the other stages are free, and each probe leaves a mark, so that
work done twice is seen.

- ``ratio``: probes a second on two nodes over those on one, both in the second half of the run, so that
  starting processes does not count; at most what the machine's processors allow;
- ``lost_node``: the run with one node removed in the middle ended by itself with the tables of an
  undisturbed run (1 or 0); ``lost_node_twice``: probes that were done again for it;
- ``submitted_twice``: probes that a second ``ray job submit`` of the same command did again;
- ``lost_head``: after the head was killed in the middle, the same command on a new cluster completed it
  with the same tables; ``lost_head_twice``: probes that were done again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.commands import parser_of
from benchmarks.free_stages import FreeSite, write_files
from benchmarks.machine import machine, markdown
from pipeline.curation import engine, job
from pipeline.curation.config import Config
from pipeline.dataset.manifest import MANIFEST, parse_manifest
from pipeline.platform.config import load
from pipeline.platform.packages import ROOT
from stages.base import Stage
from stages.records import Video
from stages.view import id_of

WORK_VARIABLE, MARKS_VARIABLE = "BENCHMARK_WORK_S", "BENCHMARK_MARKS"
SETTINGS = ("refine.informative=false", "run.runner=ray")
DRIVER = """
import sys
from pathlib import Path
from benchmarks.cluster import drive
drive(*map(Path, sys.argv[1:4]))
"""
START_DEADLINE_S = 120.0
STARTING = "No available agent to submit job"
"""Answer of a cluster that does not take jobs yet."""


class BurningSite(FreeSite):
    """Site whose probe burns processor time and leaves a mark for each video."""

    def stages(self) -> list[Stage]:
        """Return the stages that run."""
        stages = FreeSite.stages(self)
        for stage in stages:
            if stage.name == "probe":
                stage.measure = _Burning(stage.measure)  # type: ignore[method-assign]
        return stages


class _Burning:
    """Measurement that takes processor time first."""

    def __init__(self, measure: Callable[[Video], Video]) -> None:
        self._measure = measure

    def __call__(self, video: Video) -> Video:
        end_s = time.process_time() + float(os.environ[WORK_VARIABLE])
        while time.process_time() < end_s:
            pass
        with Path(os.environ[MARKS_VARIABLE]).open("a") as marks:
            marks.write(f"{time.time()} {id_of(video)}\n")
        return self._measure(video)


def drive(given: Path, output: Path, memo: Path) -> None:
    """Run the job with burning stages on the cluster of ``RAY_ADDRESS``."""
    with patch.object(engine, "Site", BurningSite):
        outcome = job.curate(str(given), output, load(None, SETTINGS, Config), memo=memo)
    if outcome.summary["videos"].get("failed"):
        raise SystemExit(f"videos failed: {outcome.summary['rejects']}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Folders of the benchmark, and the environment of its processes.

    Attributes:
        work: everything is in here.
        videos: in a measured run.
        submitted: in a run that is submitted twice.
    """

    work: Path
    videos: int
    submitted: int

    def log(self, name: str) -> Path:
        """Return the file with what the driver of an output printed."""
        return self.work / f"{name}.log"

    @property
    def marks(self) -> Path:
        """File with a line for each probe that was done."""
        return self.work / "marks"

    def files(self, number: int) -> Path:
        """Return a folder with so many videos."""
        folder = self.work / f"files{number}"
        if not folder.exists():
            write_files(folder, number, "cluster")
        return folder

    def start(self, address: str, number: int, name: str) -> subprocess.Popen[bytes]:
        """Start the driver over so many videos, into the output and memo of that name."""
        command = [sys.executable, "-c", DRIVER, *self._folders(number, name)]
        environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
        with self.log(name).open("wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def submit(self, dashboard: str, number: int, name: str) -> str:
        """Run the driver as a job of the cluster, and return its last lines."""
        entry = [sys.executable, "-c", DRIVER, *self._folders(number, name)]
        script = Path(sys.executable).with_name("ray")
        command = [str(script), "job", "submit", "--address", dashboard, "--", *entry]
        end_s = time.monotonic() + START_DEADLINE_S
        while True:
            found = subprocess.run(command, capture_output=True, text=True)
            said = found.stdout + found.stderr
            # A new cluster takes jobs some time after it has nodes.
            if STARTING not in said or time.monotonic() > end_s:
                break
        if found.returncode:
            raise SystemExit(f"ray job submit: {said[-4000:]}")
        return found.stdout[-500:]

    def run_to_end(self, address: str, number: int, name: str) -> None:
        """Run the driver to its end; see :meth:`start`."""
        status = self.start(address, number, name).wait()
        if status:
            raise SystemExit(f"the run {name} failed with {status}\n{self.log(name).read_text()[-3000:]}")

    def rate(self) -> float:
        """Return probes a second, in the second half of those that were done."""
        times = sorted(float(line.partition(" ")[0]) for line in self.marks.read_text().splitlines())
        half = len(times) // 2
        return (len(times) - 1 - half) / (times[-1] - times[half])

    def probes(self) -> int:
        """Return the number of probes done since the last call."""
        done = len(self.marks.read_text().splitlines()) if self.marks.exists() else 0
        self.marks.unlink(missing_ok=True)
        return done

    def wait_for_probes(self, number: int) -> None:
        """Wait until so many probes are done."""
        end_s = time.monotonic() + START_DEADLINE_S
        while not self.marks.exists() or len(self.marks.read_text().splitlines()) < number:
            if time.monotonic() > end_s:
                raise SystemExit("no probe was done in time")
            time.sleep(0.05)

    def same_tables(self, name: str) -> bool:
        """Return whether an output has the tables of an undisturbed run on one node."""
        if not (self.work / "on1").exists():
            with cluster(1) as found:
                self.run_to_end(found.address, self.videos, "on1")
            self.probes()
        return self._tables(name) == self._tables("on1")

    def _tables(self, name: str) -> dict[str, str]:
        manifest = parse_manifest((self.work / name / MANIFEST).read_bytes(), name)
        return {file.path: file.sha256 for files in manifest.tables.values() for file in files}

    def _folders(self, number: int, name: str) -> list[str]:
        return [str(self.files(number)), str(self.work / name), str(self.work / f"{name}_memo")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Figures of a part by key, and what they are made of."""

    figures: dict[str, float]
    detail: str


@contextmanager
def cluster(nodes: int, *, dashboard: bool = False) -> Iterator[Any]:
    """Start a cluster of so many nodes with one processor each."""
    # Ray is imported after the environment of its processes is set.
    from ray.cluster_utils import Cluster

    # Nodes of one machine cannot all have the agent at Ray's usual port, without which they take no jobs.
    options: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": 200_000_000,
        "dashboard_agent_listen_port": 0,
    }
    found = Cluster(initialize_head=True, head_node_args=options | {"include_dashboard": dashboard})
    try:
        for _ in range(nodes - 1):
            found.add_node(**options)
        yield found
    finally:
        # Gracefully would ask a store that is gone with the first cluster of this process.
        for node in [*found.worker_nodes, *([found.head_node] if found.head_node else [])]:
            found.remove_node(node, allow_graceful=False)


def scaling(bench: Bench) -> Found:
    """Compare the rates on two nodes and on one."""
    rates = []
    for nodes in (1, 2):
        with cluster(nodes) as found:
            bench.run_to_end(found.address, bench.videos, f"on{nodes}")
        rates.append(bench.rate())
        bench.probes()
    one, two = rates
    detail = f"{one:.2f} probes a second on one node, {two:.2f} on two"
    return Found(figures={"ratio": round(two / one, 3)}, detail=detail)


def lost_node(bench: Bench) -> Found:
    """Remove a node in the middle."""
    with cluster(2) as found:
        process = bench.start(found.address, bench.videos, "lost_node")
        bench.wait_for_probes(bench.videos // 3)
        (node,) = found.worker_nodes
        found.remove_node(node, allow_graceful=False)
        ended = process.wait() == 0
    if not ended:
        print(bench.log("lost_node").read_text()[-3000:], file=sys.stderr)
    twice = bench.probes() - bench.videos
    same = int(ended and bench.same_tables("lost_node"))
    return Found(figures={"lost_node": same, "lost_node_twice": twice}, detail=_again(twice))


def submitted_twice(bench: Bench) -> Found:
    """Submit the same command twice as a job of the cluster."""
    with cluster(2, dashboard=True) as found:
        address = f"http://{found.webui_url}" if found.webui_url else "http://127.0.0.1:8265"
        bench.submit(address, bench.submitted, "submitted")
        bench.probes()
        bench.submit(address, bench.submitted, "submitted")
    again = bench.probes()
    return Found(figures={"submitted_twice": again}, detail=f"of {bench.submitted} probes done again")


def lost_head(bench: Bench) -> Found:
    """Kill the head in the middle, and repeat the command on a new cluster."""
    with cluster(2) as found:
        process = bench.start(found.address, bench.videos, "lost_head")
        bench.wait_for_probes(bench.videos // 3)
        found.remove_node(found.head_node, allow_graceful=False)
        # A driver that lost its cluster waits for it; a job submitted to the head is gone with it.
        process.send_signal(signal.SIGKILL)
        process.wait()
    with cluster(2) as found:
        bench.run_to_end(found.address, bench.videos, "lost_head")
    twice = bench.probes() - bench.videos
    same = int(bench.same_tables("lost_head"))
    return Found(figures={"lost_head": same, "lost_head_twice": twice}, detail=_again(twice))


def _again(twice: int) -> str:
    return f"{twice} probes done again"


PARTS: dict[str, tuple[str, Callable[[Bench], Found]]] = {
    "ratio": ("two nodes over one", scaling),
    "lost_node": ("a node lost in the middle", lost_node),
    "lost_head": ("the head lost, the command repeated", lost_head),
    "submitted_twice": ("submitted twice", submitted_twice),
}
"""Meaning and function of each part, by its first key."""


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = parser_of("cluster", __doc__)
    parser.add_argument("--videos", type=int, default=40, help="in a measured run (default 40)")
    parser.add_argument("--work", type=float, default=1.0, help="seconds of a probe (default 1)")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; repeatable")
    parser.add_argument("--quick", action="store_true", help="12 videos")
    given = parser.parse_args()
    rows: list[list[object]] = []
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(work=Path(folder), videos=12 if given.quick else given.videos, submitted=4)
        os.environ[WORK_VARIABLE], os.environ[MARKS_VARIABLE] = str(given.work), str(bench.marks)
        os.environ["PYTHONPATH"] = str(ROOT)
        for name in given.only or PARTS:
            meaning, part = PARTS[name]
            found = part(bench)
            # One after the other: an interrupted run has shown what it has found.
            print(f"{meaning}: {found.figures}, {found.detail}", file=sys.stderr, flush=True)
            rows.append([meaning, found.figures[name], found.detail])
            figures |= found.figures
    print(f"{machine()}; two nodes of one processor on this machine\n")
    print(markdown(["what", "value", "made of"], rows), "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
