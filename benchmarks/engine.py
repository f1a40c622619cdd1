"""Cost of the engine beside the stages: start, known videos, rejects, a changed threshold, listing.

Every figure is of the real job: INPUT is listed and identified, the memo is asked and filled, the tables
are written and committed. Videos are small files with made-up measurements
(:mod:`benchmarks.free_stages`).

- ``cpu_ms_per_video``: processor time of the driver, Ray and its workers for new videos in free stages, as
  the difference of ``--new`` videos and of a few, so that starting processes does not count;
- ``noop_start_s``, ``noop_start_mb``: the command over ``--videos`` known ones, nothing to do: wall seconds
  and peak memory; ``noop_small_s``: the same over ten;
- ``one_video_overhead_s``: the command over one new video (``--video``), wall seconds beyond its stages;
- ``rejects_per_s``: files that are no videos, ``--rejects`` of them, beyond the time that a few take;
- ``rematch_ratio``: the ``--videos`` known ones with another threshold of matching, one process without
  Ray and its start, against reading and writing the same tables with pyarrow;
- ``list_s``: listing a folder of ``--files``.

The defaults are small, to be quick. The full setting is ``--videos 100000 --rejects 3000 --files 1000000``
(a million clips are 50,000 videos). No figure is scaled: each is of the size beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet as pq

from benchmarks.free_stages import CLIPS, FreeSite, write_files
from benchmarks.machine import machine, markdown
from examples.make_videos import SOUP
from examples.media import write_video
from pipeline.curation import engine, job
from pipeline.curation.config import Config
from pipeline.curation.ingest import list_files
from pipeline.curation.run_file import RUN_FILE
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.platform.config import load

FEW = 10
"""Videos of a small run."""
SAMPLE_S = 0.1
FREE_SETTINGS = ("refine.informative=false",)
"""Reading English is the work of a stage, also where it only judges."""
TICKS = os.sysconf("SC_CLK_TCK")
THRESHOLD = "match.max_start_diff_s=4.5"
"""Another one than the default, that keeps the same pairs here."""
FREE = """
import sys
from pathlib import Path
from benchmarks.engine import curate_free
curate_free(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time and memory that a command took.

    Attributes:
        cpu_s: of its process and of all that it started, as far as they were seen.
        peak_mb: peak memory of its process.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, the size that it was measured at, and what it is made of."""

    key: str
    value: float
    size: str
    detail: str = ""


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--videos", type=int, default=500, help="known videos (default 500)")
    parser.add_argument("--new", type=int, default=200, help="new videos in free stages (default 200)")
    parser.add_argument("--rejects", type=int, default=200, help="files that are no videos (default 200)")
    parser.add_argument("--files", type=int, default=20_000, help="listed files (default 20000)")
    parser.add_argument("--video", type=Path, help="a new video (default: a small one of the cases)")
    parser.add_argument("--runner", choices=("ray", "local"), default="ray")
    given = parser.parse_args()
    if min(given.videos, given.new, given.rejects) <= FEW or given.files < 1:
        parser.error(f"--videos, --new and --rejects are more than {FEW}, --files at least 1")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for found in (
            [listing(work / "listed", given.files)],
            [new_videos(work / "new", given.new, given.runner)],
            known_videos(work / "known", given.videos, given.runner),
            [rejects(work / "rejects", given.rejects, given.runner)],
            [one_video(work / "one", given.video or small_video(work), given.runner)],
        ):
            figures += found
            print(", ".join(f"{each.key} {each.value:.3f}" for each in found), file=sys.stderr, flush=True)
    print(f"{machine()}; runner {given.runner}\n")
    rows = [[each.key, each.value, each.size, each.detail] for each in figures]
    print(markdown(["figure", "value", "size", "made of"], rows), "\n")
    print(json.dumps({each.key: round(each.value, 3) for each in figures}))


def listing(folder: Path, files: int) -> Figure:
    """Time the listing of a folder."""
    write_files(folder, files, "listed")
    started = time.perf_counter()
    listed = len(list_files(str(folder)))
    return Figure(key="list_s", value=time.perf_counter() - started, size=f"{listed:,} files")


def new_videos(folder: Path, videos: int, runner: str) -> Figure:
    """Measure processor time of new videos in free stages."""
    costs = []
    for number in (FEW, videos):
        given = folder / str(number)
        write_files(given, number, "new")
        costs.append(run([sys.executable, "-c", FREE, str(given), str(folder / f"out{number}"), runner]))
    few, many = costs
    return Figure(
        key="cpu_ms_per_video",
        value=1000 * (many.cpu_s - few.cpu_s) / (videos - FEW),
        size=f"{videos:,} videos of {CLIPS} clips",
        detail=f"CPU {many.cpu_s:.1f} s, of {FEW} videos {few.cpu_s:.1f} s; wall {many.wall_s:.1f} s, "
        f"of {FEW} videos {few.wall_s:.1f} s",
    )


def known_videos(folder: Path, videos: int, runner: str) -> list[Figure]:
    """Measure runs over videos that are in the memo."""
    given, few, memo = folder / "given", folder / "few", folder / "memo"
    write_files(given, videos, "known")
    write_files(few, FEW, "known")
    for number, files in enumerate((few, given)):
        # Filling the memo is no part of the figures, so it need not wait for the disk.
        with patch("os.fsync"):
            curate_free(files, folder / f"filled{number}", "local", memo=memo)
    large = curate(given, folder / "large", runner, "--memo", str(memo))
    nothing_measured(folder / "large")
    # A memo of its own: that of many videos is read whole.
    few_memo = folder / "few_memo"
    with patch("os.fsync"):
        curate_free(few, folder / "filled_few", "local", memo=few_memo)
    small = curate(few, folder / "small", runner, "--memo", str(few_memo))
    nothing_measured(folder / "small")
    return [
        Figure(key="noop_start_s", value=large.wall_s, size=f"{videos:,} known videos"),
        Figure(key="noop_start_mb", value=large.peak_mb, size=f"{videos:,} known videos"),
        Figure(key="noop_small_s", value=small.wall_s, size=f"{FEW} known videos"),
        rematch(given, folder / "large", memo),
    ]


def rematch(given: Path, output: Path, memo: Path) -> Figure:
    """Compare a changed threshold with reading and writing the tables that it changes."""
    loaded = load(None, ["run.runner=local", THRESHOLD], Config)
    started = time.perf_counter()
    job.curate(str(given), output, loaded, memo=memo)
    rematched_s = time.perf_counter() - started
    started = time.perf_counter()
    copied = output.parent / "copied"
    clips = 0
    opened = open_dataset(output)
    for name in TABLES:
        (copied / name).mkdir(parents=True)
        for path in opened.files(name):
            table = pq.read_table(path)
            pq.write_table(table, copied / name / Path(path).name, compression="zstd")
            clips += table.num_rows if name == "clips" else 0
    copied_s = time.perf_counter() - started
    return Figure(
        key="rematch_ratio",
        value=rematched_s / copied_s,
        size=f"{clips:,} clips",
        detail=f"{rematched_s:.2f} s against {copied_s:.2f} s",
    )


def rejects(folder: Path, files: int, runner: str) -> Figure:
    """Measure the rate at which files are rejected that are no videos."""
    walls = []
    for number in (FEW, files):
        write_files(folder / str(number), number, "reject")
        walls.append(curate(folder / str(number), folder / f"out{number}", runner).wall_s)
    few_s, many_s = walls
    return Figure(
        key="rejects_per_s",
        value=(files - FEW) / max(many_s - few_s, SAMPLE_S),
        size=f"{files:,} files",
        detail=f"wall {many_s:.1f} s, of {FEW} files {few_s:.1f} s",
    )


def one_video(folder: Path, video: Path, runner: str) -> Figure:
    """Measure the command over one new video, beyond what its stages say that they took."""
    cost = curate(video, folder / "out", runner)
    told = _run_file(folder / "out")
    stages_s = sum(stage["seconds"] for stage in told["stages"].values())
    (status,) = [status for status, number in told["videos"].items() if number] or ["unknown"]
    return Figure(
        key="one_video_overhead_s",
        value=cost.wall_s - stages_s,
        size=f"{video.name}, {status}",
        detail=f"wall {cost.wall_s:.1f} s, stages {stages_s:.1f} s",
    )


def small_video(work: Path) -> Path:
    """Return the smallest video of the cases, or one that is made here."""
    data = os.environ.get("VIDEOAUTEUR_DATA")
    cases = list(Path(data, "cases").glob("*.mp4")) if data else []
    if cases:
        return min(cases, key=lambda path: (path.stat().st_size, path))
    path = work / "soup.mp4"
    write_video(path, SOUP)
    return path


def curate(given: Path, output: Path, runner: str, *more: str) -> Cost:
    """Run ``videoauteur curate`` with the default configuration."""
    command = [sys.executable, "-m", "pipeline", "curate", str(given), str(output), "--runner", runner]
    return run([*command, *more])


def curate_free(given: Path, output: Path, runner: str, *, memo: Path | None = None) -> None:
    """Run the job with free stages in this process.

    Raises:
        ValueError: a video was not kept.
    """
    with patch.object(engine, "Site", FreeSite):
        loaded = load(None, [f"run.runner={runner}", *FREE_SETTINGS], Config)
        done = job.curate(str(given), output, loaded, memo=memo)
    lost = {status: number for status, number in done.summary["videos"].items() if status != "kept"}
    if any(lost.values()):
        raise ValueError(f"free videos were not kept: {lost}")


def run(command: Sequence[str]) -> Cost:
    """Run a command and add up what it and its descendants took.

    Raises:
        subprocess.CalledProcessError: it failed; its output is on the terminal.
    """
    seen: dict[tuple[int, str], float] = {}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        seen |= _descendants(process.pid)
        time.sleep(SAMPLE_S)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    # Children that it waited for are in both; what was seen of the others can only be more.
    own_s = used.ru_utime + used.ru_stime
    return Cost(wall_s=wall_s, cpu_s=max(own_s, sum(seen.values())), peak_mb=used.ru_maxrss / 1024)


def _descendants(pid: int) -> dict[tuple[int, str], float]:
    """CPU seconds of a process and of all below it, by number and time of start."""
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


def _run_file(output: Path) -> dict[str, dict[str, dict[str, float]]]:
    read: dict[str, dict[str, dict[str, float]]] = json.loads((output / RUN_FILE).read_text())
    return read


def nothing_measured(output: Path) -> None:
    """Check that a run found everything in the memo.

    Raises:
        ValueError: it measured something.
    """
    measured = {name: stage["measured"] for name, stage in _run_file(output)["stages"].items()
                if stage.get("measured")}  # fmt: skip
    if measured:
        raise ValueError(f"known videos were measured again: {measured}")


if __name__ == "__main__":
    main()
