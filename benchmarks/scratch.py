"""Size of the scratch folder for an hour of video, during a run and after it.

``python -m benchmarks.scratch VIDEO...`` curates videos with the embedded models and the sequential runner,
and adds up the files of ``_work`` all the while; once as by default, once with ``run.keep_frames``.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from benchmarks.run_process import Run
from pipeline.dataset import SCRATCH

SETTINGS = ("transcribe.require_speech=false", "match.required=false", "watermark.threshold=1")
POLL_S = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both, print a table, then one JSON object."""
    parser = parser_of("scratch", __doc__)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    given = parser.parse_args(arguments)
    print(f"{machine()}\n")
    rows: list[list[object]] = []
    figures: dict[str, int] = {}
    for name, keep in (("default", "false"), ("kept", "true")):
        during, after, hours = measured(given.videos, f"run.keep_frames={keep}")
        rows.append([name, hours, during / hours, after / hours])
        figures |= {
            f"{name}_during_mb_an_hour": round(during / hours),
            f"{name}_after_mb_an_hour": round(after / hours),
        }
    print(markdown(["frames", "hours of video", "MB an hour during", "MB an hour after"], rows), "\n")
    print(json.dumps(figures))


def measured(videos: Sequence[Path], setting: str) -> tuple[float, float, float]:
    """Return the largest and the last size of the scratch folder in MB, and the hours of retained video.

    Raises:
        SystemExit: the run failed.
    """
    with tempfile.TemporaryDirectory() as name:
        listed, out = Path(name) / "videos.list", Path(name) / "out"
        listed.write_text("\n".join(str(video.resolve()) for video in videos))
        settings = [word for each in (*SETTINGS, setting) for word in ("--set", each)]
        run = Run([sys.executable, "-m", "pipeline", "curate", str(listed), str(out),
                   "--runner", "local", *settings])  # fmt: skip
        largest = 0.0
        while run.process.poll() is None:
            largest = max(largest, size_mb(out / SCRATCH))
            time.sleep(POLL_S)
        code, text = run.end()
        if code:
            raise SystemExit(text)
        lengths = pq.read_table(out / "videos", columns=["status", "duration_s"]).to_pylist()
        hours = sum(row["duration_s"] for row in lengths if row["status"] == "kept") / 3600
        return largest, size_mb(out / SCRATCH), hours


def size_mb(folder: Path) -> float:
    """Return the size of the files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        # Files come and go while a run is at work.
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total / 1e6


if __name__ == "__main__":
    main()
