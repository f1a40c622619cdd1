"""Cost of preprocessing: scan, clip and watermark against a bare decode and PySceneDetect.

``python -m benchmarks.preprocess [VIDEO ...]`` joins the videos (default: the footage below
``$VIDEOAUTEUR_DATA``) into one reel, encodes it at 360, 720 and 1080 lines, and measures on each, in
alternating rounds:

- ``decode``: ``ffmpeg -i REEL -f null -``;
- ``scenedetect``: PySceneDetect's command line, adaptive detection;
- ``split``: the same, and the shots written to files; in the first rounds only, since encoding them takes
  ten times as long as everything else;
- ``ours``: the scan, clip and watermark stages in one warm worker process.

The reel is cropped to 16:9 and has no sound. It lasts ``--seconds`` and holds one stretch of 20 seconds or
more of each video, from its beginning, so that cuts come as often as in the videos; where the videos are
too short they are repeated, mirrored every other time. 600 is the full setting and takes about an hour on
two cores. The ratios of the last line are medians over the rounds of wall seconds, the table also has
those of CPU seconds; the figures without a suffix are those of all sizes together. Needs an ``ffmpeg``
program: Debian's package of that name, or ``pip install imageio-ffmpeg``.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import cycle, islice, zip_longest
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.commands import parser_of
from benchmarks.films import filling
from benchmarks.machine import machine, markdown
from models.language import Endpoint
from models.media import frames, open_media
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.platform.memo import Memo
from stages.base import Workspace
from stages.records import Transcript, Video

SIZES = {360: (640, 360), 720: (1280, 720), 1080: (1920, 1080)}
"""Width and height in pixels by number of lines."""
FPS = 25
MIN_STRETCH_S = 20.0
"""Length of a video's part of the reel, at least, as far as the video is so long."""
FOLDERS = ("real", "recipes", "scenes")
COMMANDS = ("decode", "scenedetect", "split", "ours")
RATIOS = {
    "ratio_vs_decode": "decode",
    "ratio_vs_scenedetect": "scenedetect",
    "ratio_vs_scenedetect_split": "split",
}
MEGABYTE = 1_000_000
MEASURE = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=2)
_, status, used = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss]))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
"""Runs a program from a small process: peak memory is inherited from the process that starts one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time and memory of one run.

    Attributes:
        peak_mb: peak resident memory of the process; of a warm worker, since its start.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = parser_of("preprocess", __doc__)
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--seconds", type=float, default=100.0, help="length of the reel (default 100)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--split-rounds", type=int, default=1, help="rounds that split, too (default 1)")
    parser.add_argument("--sizes", type=int, nargs="+", choices=list(SIZES), default=list(SIZES))
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.split_rounds) < 1:
        parser.error("--rounds and --split-rounds: at least 1")
    videos = arguments.videos or footage()
    if not videos:
        parser.error("name videos, or set VIDEOAUTEUR_DATA to a folder with real/, recipes/ or scenes/")
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        parser.error("no ffmpeg program: install Debian's ffmpeg, or `pip install imageio-ffmpeg`")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "bin").mkdir()
        (work / "bin" / "ffmpeg").symlink_to(ffmpeg)
        costs: dict[int, dict[str, list[Cost]]] = {}
        with WarmWorker(work / "scratch") as worker:
            for lines in arguments.sizes:
                reel = work / f"reel_{lines}.mp4"
                write_reel(reel, videos, lines, arguments.seconds)
                runs = commands(reel, work, worker)
                costs[lines] = {name: [] for name in runs}
                if len(costs) == 1:
                    # Imports and the loading of models at the first video are no cost of a warm worker.
                    worker.run(reel)
                for number in range(arguments.rounds):
                    for name, run in runs.items():
                        if name != "split" or number < arguments.split_rounds:
                            costs[lines][name].append(run())
        version = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=True)
    print(f"{machine()}, {version.stdout.split('Copyright')[0].strip()}\n")
    print(f"{len(videos)} videos, {arguments.seconds:g} s at {FPS} pictures/s, {arguments.rounds} rounds\n")
    head = ["lines", "run", "wall s", "CPU s", "peak MB", "ours against it, wall", "ours against it, CPU"]
    rows = [
        [lines, name, *shown(runs[name]), ratio(runs, "ours", name), ratio(runs, "ours", name, "cpu_s")]
        for lines, runs in costs.items()
        for name in COMMANDS
    ]
    print(markdown(head, rows), "\n")
    print(json.dumps(figures(costs)))


def footage() -> list[Path]:
    """The videos below ``$VIDEOAUTEUR_DATA`` that the default reel is made of."""
    data = os.environ.get("VIDEOAUTEUR_DATA")
    folders = [sorted(Path(data, name).glob("*.mp4")) for name in FOLDERS] if data else []
    # In turn, so that a short reel holds some of each folder.
    return [path for row in zip_longest(*folders) for path in row if path is not None]


def find_ffmpeg() -> str | None:
    """An ffmpeg program of the system, or the one of the package imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found is None and importlib.util.find_spec("imageio_ffmpeg"):
        found = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    return found


def commands(reel: Path, work: Path, worker: WarmWorker) -> dict[str, Callable[[], Cost]]:
    """Return the commands to run on a reel, in the order of a round."""
    target = work / "split"
    detect = [
        sys.executable,
        "-m",
        "scenedetect",
        "-q",
        "-i",
        str(reel),
        "-o",
        str(target),
        "detect-adaptive",
    ]
    programs = {
        "decode": [str(work / "bin" / "ffmpeg"), "-v", "error", "-i", str(reel), "-f", "null", "-"],
        "scenedetect": detect,
        "split": [*detect, "split-video"],
    }
    path = f"{work / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    runs = {name: partial(run_program, line, path) for name, line in programs.items()}
    return {**runs, "ours": partial(worker.run, reel)}


def run_program(line: Sequence[str], path: str) -> Cost:
    """Run a program to its end.

    Raises:
        SystemExit: it failed; the message holds what it wrote.
    """
    environment = {**os.environ, "PATH": path}
    with tempfile.TemporaryFile() as log:
        measured = subprocess.run(
            [sys.executable, "-S", "-c", MEASURE, *line],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, check=False,
        )  # fmt: skip
        if measured.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(line)} failed:\n{log.read().decode(errors='replace')[-2000:]}")
    wall_s, cpu_s, peak_kib = json.loads(measured.stdout)
    return Cost(wall_s=wall_s, cpu_s=cpu_s, peak_mb=peak_kib * 1024 / MEGABYTE)


class WarmWorker:
    """A process that holds the opened stages and scans one reel after the other."""

    def __init__(self, scratch: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, self._there = context.Pipe()
        self._process = context.Process(target=serve, args=(self._there, scratch), daemon=True)

    def __enter__(self) -> WarmWorker:
        self._process.start()
        # With the only other end in the process, its death ends the waiting for an answer.
        self._there.close()
        return self

    def run(self, reel: Path) -> Cost:
        """Send one reel through the stages.

        Raises:
            SystemExit: the process has ended; its own message stands above.
        """
        try:
            self._connection.send(reel)
            cost = self._connection.recv()
        except (EOFError, OSError):
            raise SystemExit(f"the worker ended at {reel.name}") from None
        assert isinstance(cost, Cost)
        return cost

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._connection.send(None)
        self._process.join()


def serve(connection: Connection, scratch: Path) -> None:
    """Run stages on the reels that the connection names, until it sends None."""
    config = Config.model_validate(
        {"probe": {"min_duration_s": 0, "max_duration_s": 1e6}, "transcribe": {"require_speech": False}}
    )
    wanted = {"probe", "scan", "clip", "watermark"}
    probe, *stages = [stage for stage in build_stages(config) if stage.name in wanted]
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    workspace = Workspace(scratch=scratch, answers=Memo(scratch / "memo"), language=nowhere, vision=None)
    for stage in stages:
        stage.open(workspace)
    speechless = Transcript(language="", sentences=[], model="")
    while (reel := connection.recv()) is not None:
        video = probe(
            Video(uri=reel.as_uri(), video_id=reel.stem, content_id=reel.stem, transcript=speechless)
        )
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        for stage in stages:
            if video.rejected:
                # As in a curation; the reader must know that the cost is not that of all stages.
                print(f"{reel.name} ends before {stage.name}: {video.rejected.detail}", file=sys.stderr)
                break
            video = stage(video)
        wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        peak_kib = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
        connection.send(Cost(wall_s=wall_s, cpu_s=cpu_s, peak_mb=peak_kib * 1024 / MEGABYTE))


def write_reel(target: Path, videos: Sequence[Path], lines: int, seconds: float) -> None:
    """Encode pictures of the videos, one after the other, as H.264 of one size and rate."""
    width, height = SIZES[lines]
    with av.open(target, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "21"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, picture in enumerate(pictures(videos, width, height, round(seconds * FPS))):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def pictures(videos: Sequence[Path], width: int, height: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield ``count`` BGR pictures ``[height, width, 3]``, one stretch of each video."""
    left = count
    share = max(round(MIN_STRETCH_S * FPS), -(-count // len(videos)))
    rounds = (mirrored for mirrored in cycle((False, True)) for _ in videos)
    for path, mirrored in zip(cycle(videos), rounds, strict=False):
        with open_media(path) as container:
            for frame in islice(frames(container), min(share, left)):
                left -= 1
                full = np.asarray(frame.picture.to_ndarray(format="bgr24"), np.uint8)
                image = filling(full, width, height)
                yield np.ascontiguousarray(image[:, ::-1]) if mirrored else image
        if left == 0:
            return


def shown(runs: list[Cost]) -> list[float]:
    """Medians of wall and CPU seconds, and the largest memory."""
    return [
        median(cost.wall_s for cost in runs),
        median(cost.cpu_s for cost in runs),
        max(cost.peak_mb for cost in runs),
    ]


def ratio(runs: dict[str, list[Cost]], over: str, under: str, unit: str = "wall_s") -> float:
    """Median over the rounds of one run's seconds over another's in the same round."""
    # Not every round splits.
    pairs = zip(runs[over], runs[under], strict=False)
    return float(median(getattr(mine, unit) / getattr(theirs, unit) for mine, theirs in pairs))


def figures(costs: dict[int, dict[str, list[Cost]]]) -> dict[str, float]:
    """The ratios by size and of all sizes together, and the worker's peak memory."""
    together = {
        name: [
            Cost(wall_s=sum(one.wall_s for one in row), cpu_s=sum(one.cpu_s for one in row), peak_mb=0)
            for row in zip(*(runs[name] for runs in costs.values()), strict=True)
        ]
        for name in COMMANDS
    }
    found = {key: round(ratio(together, "ours", other), 3) for key, other in RATIOS.items()}
    for lines, runs in costs.items():
        found |= {f"{key}_{lines}": round(ratio(runs, "ours", other), 3) for key, other in RATIOS.items()}
    peak = max(cost.peak_mb for runs in costs.values() for cost in runs["ours"])
    return {**found, "peak_rss_mb": round(peak, 1)}


if __name__ == "__main__":
    main()
