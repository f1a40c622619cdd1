"""Cost of the engine beside the stages: start, known videos, rejects, a changed threshold, listing.

Every figure is of the real job: INPUT is listed and identified, the memo is asked and filled, the tables
are written and committed. Videos are small files with made-up measurements
(:mod:`benchmarks.free_stages`).

- ``list_s``: listing and looking at the state of ``--files`` files, which are links to a few;
- ``cpu_ms_per_video``: processor time of the driver, Ray and its workers for new videos in free stages, as
  the difference of ``--new`` videos and of a quarter of them, with one worker a pool, so that starting
  processes does not count;
- ``noop_start_s``, ``noop_start_mb``: the same command again over ``--known`` finished files, nothing to
  do: wall seconds and peak memory. All but ``--videos`` of them are copies, which are known at once: such
  a run ends after the listing, whatever the files hold. ``noop_small_s``: the same over ten;
- ``rematch_ratio``: ``--videos`` known ones with another threshold of matching, one process without
  Ray and its start, against reading and writing the same tables with pyarrow;
- ``rejects_per_s``: files that are no videos, the time of ``--rejects`` beyond that of half of them;
- ``one_video_overhead_s``: the command over one new video (``--video``), wall seconds beyond its stages;
- ``incremental_ratio``, ``incremental_kept_shards``: ten files added to ``--grown`` finished ones: wall
  time by that of the first run, and the share of the shards that kept their bytes.

``--simulate N`` alone: N synthetic videos through listing, memo, engine and tables. No figure is scaled:
each is of the size beside it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet as pq

from benchmarks.commands import Cost, parser_of, run
from benchmarks.free_stages import CLIPS, FreeSite, write_files, write_links
from benchmarks.machine import machine, markdown
from examples.make_videos import SOUP
from examples.media import write_video
from pipeline.curation import engine, job
from pipeline.curation.config import Config
from pipeline.curation.ingest import list_files, survey
from pipeline.curation.run_file import RUN_FILE
from pipeline.dataset.manifest import MANIFEST, parse_manifest
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.platform.config import load

FEW = 10
"""Videos of a small run."""
ADDED = 10
"""Files that are added to a finished dataset."""
THRESHOLD = "match.max_start_diff_s=4.5"
"""Another one than the default, that keeps the same pairs here."""
FIXED_POOLS = tuple(f"run.pools.{pool}.workers=1" for pool in ("media", "speech", "language"))
"""Pools that do not grow: a further worker takes five seconds of processor time to start."""
SMALL_SHARDS = "run.max_shard_bytes=2000000"
"""Shards as many for a thousand videos as the default makes for a hundred thousand."""
SIZES = {
    "videos": (4000, 60, "known videos"),
    "known": (100_000, 1000, "finished files of a run with nothing to do"),
    "grown": (1000, 60, "finished videos that ten are added to"),
    "new": (3000, 60, "new videos in free stages"),
    "rejects": (10_000, 60, "files that are no videos"),
    "files": (1_000_000, 2000, "listed files"),
}
"""Sizes by option: the default, the one of ``--quick``, and the meaning."""
FREE = """
import sys
from pathlib import Path
from benchmarks.engine import FIXED_POOLS, curate_free
curate_free(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], settings=FIXED_POOLS)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, the size that it was measured at, and what it is made of."""

    key: str
    value: float
    size: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of files, and how they are run.

    Attributes:
        video: the new video of ``one_video_overhead_s``; None for a small one.
    """

    videos: int
    known: int
    grown: int
    new: int
    rejects: int
    files: int
    runner: str
    video: Path | None


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = parser_of("engine", __doc__)
    for name, (default, _, meaning) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} (default {default})")
    parser.add_argument("--video", type=Path, help="a new video (default: a small one of the cases)")
    parser.add_argument("--runner", choices=("ray", "local"), default="ray")
    parser.add_argument("--only", action="append", metavar="KEY", help="a figure or part; repeatable")
    parser.add_argument("--quick", action="store_true", help="small numbers")
    parser.add_argument("--simulate", type=int, metavar="N", help="only: N synthetic videos, end to end")
    given = parser.parse_args()
    sizes = Sizes(
        **{name: quick if given.quick else getattr(given, name) for name, (_, quick, _) in SIZES.items()},
        runner=given.runner,
        video=given.video,
    )
    if min(getattr(sizes, name) for name in SIZES) <= FEW or sizes.known < sizes.videos:
        parser.error(f"all sizes are more than {FEW}, and --known at least --videos")
    unknown = set(given.only or ()) - {key for keys in PARTS for key in keys}
    if unknown:
        parser.error(f"--only {unknown.pop()}: one of {', '.join(key for keys in PARTS for key in keys)}")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        parts = [(lambda work, sizes: simulation(work, given.simulate))] if given.simulate else None
        for number, part in enumerate(parts or _chosen(given.only)):
            # One after the other: an interrupted run has shown what it has found.
            for found in part(Path(folder, str(number)), sizes):
                figures.append(found)
                print(
                    f"{found.key} {found.value:.3f}: {found.size}; {found.detail}",
                    file=sys.stderr,
                    flush=True,
                )
    print(f"{machine()}; runner {sizes.runner}\n")
    rows = [[each.key, each.value, each.size, each.detail] for each in figures]
    print(markdown(["figure", "value", "size", "made of"], rows), "\n")
    print(json.dumps({each.key: round(each.value, 3) for each in figures}))


def _chosen(only: list[str] | None) -> list[Callable[[Path, Sizes], Iterator[Figure]]]:
    if only is None:
        return list(PARTS.values())
    return [part for keys, part in PARTS.items() if set(keys) & set(only)]


def listing(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Time the listing of a folder."""
    write_links(work, sizes.files)
    started, cpu_s = time.perf_counter(), time.process_time()
    listed = len(survey(list_files(str(work))))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    yield Figure(key="list_s", value=wall_s, size=f"{listed:,} files", detail=f"CPU {cpu_s:.1f} s")


def new_videos(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure processor time of new videos in free stages."""
    fewer = sizes.new // 4
    few, many = (_free_command(work, number, sizes.runner) for number in (fewer, sizes.new))
    yield Figure(
        key="cpu_ms_per_video",
        value=1000 * (many.cpu_s - few.cpu_s) / (sizes.new - fewer),
        size=f"{sizes.new:,} videos of {CLIPS} clips",
        detail=f"CPU {many.cpu_s:.1f} s, of {fewer} videos {few.cpu_s:.1f} s; "
        f"wall {many.wall_s:.1f} s, of {fewer} videos {few.wall_s:.1f} s",
    )


def _free_command(work: Path, number: int, runner: str) -> Cost:
    files = work / str(number)
    write_files(files, number, "new")
    return run([sys.executable, "-c", FREE, str(files), str(work / f"out{number}"), runner])


def known_videos(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure a changed threshold over known videos, and a run over many finished files."""
    files, output, memo = work / "files", work / "output", work / "memo"
    write_files(files, sizes.videos, "known")
    # Filling the memo is no part of the figures.
    filled_s = _timed(lambda: curate_free(files, work / "filled", "local", memo=memo))
    rebuilt = curate(files, output, sizes.runner, "--memo", str(memo))
    nothing_measured(output)
    yield rematch(files, output, memo)
    write_links(files / "copies", sizes.known - sizes.videos, of=files)
    copied = curate(files, output, sizes.runner, "--memo", str(memo))
    again = curate(files, output, sizes.runner, "--memo", str(memo))
    known = f"{sizes.known:,} files, {sizes.videos:,} contents"
    yield Figure(
        key="noop_start_s",
        value=again.wall_s,
        size=known,
        detail=f"before, {sizes.videos:,} known videos into a new OUTPUT {rebuilt.wall_s:.1f} s (filling "
        f"the memo {filled_s:.0f} s), with the copies {copied.wall_s:.1f} s",
    )
    yield Figure(
        key="noop_start_mb",
        value=again.peak_mb,
        size=known,
        detail=f"before {rebuilt.peak_mb:.0f} MB and {copied.peak_mb:.0f} MB",
    )


def few_videos(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure the command with nothing to do for a few videos."""
    files, output, memo = work / "files", work / "output", work / "memo"
    write_files(files, FEW, "known")
    curate_free(files, work / "filled", "local", memo=memo)
    rebuilt = curate(files, output, sizes.runner, "--memo", str(memo))
    nothing_measured(output)
    again = curate(files, output, sizes.runner, "--memo", str(memo))
    yield Figure(
        key="noop_small_s",
        value=again.wall_s,
        size=f"{FEW} known videos",
        detail=f"into a new OUTPUT {rebuilt.wall_s:.1f} s",
    )


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


def rejects(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure the rate at which files are rejected that are no videos."""
    half = sizes.rejects // 2
    costs = []
    for number in (half, sizes.rejects):
        write_files(work / str(number), number, "reject", head=b"")
        costs.append(curate(work / str(number), work / f"out{number}", sizes.runner))
    few, many = costs
    yield Figure(
        key="rejects_per_s",
        value=(sizes.rejects - half) / max(many.wall_s - few.wall_s, 0.001),
        size=f"{sizes.rejects:,} files",
        detail=f"wall {many.wall_s:.1f} s, of {half} files {few.wall_s:.1f} s; "
        f"CPU {1000 * (many.cpu_s - few.cpu_s) / (sizes.rejects - half):.2f} ms a file",
    )


def one_video(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure the command over one new video, beyond the seconds that its stages report."""
    video = sizes.video or small_video(work)
    cost = curate(video, work / "out", sizes.runner)
    run_file = _run_file(work / "out")
    stages_s = sum(stage["seconds"] for stage in run_file["stages"].values())
    (status,) = [status for status, number in run_file["videos"].items() if number] or ["unknown"]
    yield Figure(
        key="one_video_overhead_s",
        value=cost.wall_s - stages_s,
        size=f"{video.name}, {status}",
        detail=f"wall {cost.wall_s:.1f} s, stages {stages_s:.1f} s",
    )


def incremental(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Add ten files to a finished dataset: wall time, and how many shards changed."""
    files, output = work / "files", work / "output"
    write_files(files, sizes.grown, "known")
    first_s = _timed(lambda: curate_free(files, output, "local", settings=(SMALL_SHARDS,)))
    before = _shards(output)
    write_files(files / "added", ADDED, "added")
    second_s = _timed(lambda: curate_free(files, output, "local", settings=(SMALL_SHARDS,)))
    after = _shards(output)
    size = f"{ADDED} files added to {sizes.grown:,}"
    yield Figure(
        key="incremental_ratio",
        value=second_s / first_s,
        size=size,
        detail=f"{second_s:.1f} s, the first run {first_s:.1f} s",
    )
    yield Figure(
        key="incremental_kept_shards",
        value=len(before & after) / len(before),
        size=size,
        detail=f"of {len(before)} shards {len(before & after)}; {len(after - before)} are new, "
        f"in {', '.join(sorted({name.partition('/')[0] for name in after - before}))}",
    )


def simulation(work: Path, videos: int) -> Iterator[Figure]:
    """Run synthetic videos through listing, memo, engine and tables, in growing numbers."""
    for number in (videos // 4, videos // 2, videos):
        files, output = work / str(number) / "files", work / str(number) / "output"
        write_files(files, number, "simulated")
        cpu_s = time.process_time()
        new_s = _timed(lambda files=files, output=output: curate_free(files, output, "local"))  # type: ignore[misc]
        cpu_s = time.process_time() - cpu_s
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        memo_b, tables_b = _bytes(output / "_memo"), _bytes(output / "_versions")
        yield Figure(
            key=f"simulated_{number}_ms_per_video",
            value=1000 * new_s / number,
            size=f"{number:,} new videos of {CLIPS} clips",
            detail=f"CPU {1000 * cpu_s / number:.2f} ms, memo {memo_b / number / 1000:.1f} kB and tables "
            f"{tables_b / number / 1000:.1f} kB a video; peak {peak_mb:.0f} MB of the process so far",
        )


PARTS: dict[tuple[str, ...], Callable[[Path, Sizes], Iterator[Figure]]] = {
    ("list_s",): listing,
    ("cpu_ms_per_video",): new_videos,
    ("noop_start_s", "noop_start_mb", "rematch_ratio"): known_videos,
    ("noop_small_s",): few_videos,
    ("rejects_per_s",): rejects,
    ("one_video_overhead_s",): one_video,
    ("incremental_ratio", "incremental_kept_shards"): incremental,
}
"""Functions that measure, by the keys that they give."""


def small_video(work: Path) -> Path:
    """Return the smallest video of the cases, or one that is made here."""
    data = os.environ.get("VIDEOAUTEUR_DATA")
    cases = list(Path(data, "cases").glob("*.mp4")) if data else []
    if cases:
        return min(cases, key=lambda path: (path.stat().st_size, path))
    work.mkdir(parents=True, exist_ok=True)
    path = work / "soup.mp4"
    write_video(path, SOUP)
    return path


def curate(given: Path, output: Path, runner: str, *more: str) -> Cost:
    """Run ``videoauteur curate`` with the default configuration."""
    command = [sys.executable, "-m", "pipeline", "curate", str(given), str(output), "--runner", runner]
    return run([*command, *more])


def curate_free(
    given: Path,
    output: Path,
    runner: str,
    *,
    memo: Path | str | None = None,
    settings: tuple[str, ...] = (),
) -> None:
    """Run the job with free stages in this process.

    Raises:
        ValueError: a video was not kept.
    """
    loaded = load(None, [f"run.runner={runner}", *settings], Config)
    with patch.object(engine, "Site", FreeSite):
        done = job.curate(str(given), output, loaded, memo=memo)
    lost = {status: number for status, number in done.summary["videos"].items() if status != "kept"}
    if any(lost.values()):
        raise ValueError(f"free videos were not kept: {lost}")


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _bytes(folder: Path) -> int:
    return sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )


def _shards(output: Path) -> set[str]:
    manifest = parse_manifest((output / MANIFEST).read_bytes(), str(output))
    return {f"{file.path} {file.sha256}" for files in manifest.tables.values() for file in files}


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
