"""Odd and hostile files: what becomes of each, in which time and memory.

``python -m benchmarks.cases [FOLDER]`` curates every file below the folder in a process of its own, with
the sequential runner and without a language model, and compares it with ``FOLDER/expected.json``: status,
cuts, spoken sentences, clips and matches. A file that is not listed there may be kept or rejected, but
never counts as our bug. The default is ``$VIDEOAUTEUR_DATA/cases``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown

TOLERANCE_S = {"cuts_s": 0.1, "actions_s": 0.5}
"""Largest distance of a cut and of a sentence's edge from the expected one."""
CHEAP = ("run.runner=local", "refine.enabled=false")
GOAL_MB = 600
NO_CASE = {".json", ".md"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Outcome of a file.

    Attributes:
        outcome: its status, with the reason where it was not kept.
        differs: differences from what is expected; empty where there are none.
        peak_mb: largest resident memory of the process that curated it.
    """

    file: str
    outcome: str
    detail: str
    differs: tuple[str, ...]
    seconds: float
    peak_mb: float
    exit_code: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Curate all files, print a table, then one JSON object."""
    data = os.environ.get("VIDEOAUTEUR_DATA")
    parser = parser_of("cases", __doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(data) / "cases" if data else None)
    parser.add_argument("--timeout-s", type=float, default=300.0, help="for one file (default 300)")
    given = parser.parse_args(arguments)
    if given.folder is None:
        parser.error("name a folder, or set VIDEOAUTEUR_DATA")
    files = sorted(
        path for path in given.folder.rglob("*") if path.is_file() and path.suffix not in NO_CASE
    )
    expected = expected_of(given.folder)
    print(f"{machine()}\n")
    results = []
    for path in files:
        results.append(measured(path, expected.get(path.name), given.timeout_s))
        print(f"{path.name}: {results[-1].outcome}", file=sys.stderr)
    head = ["file", "outcome", "detail", "as expected", "seconds", "peak MB"]
    rows = [
        [r.file, r.outcome, r.detail, "; ".join(r.differs) or "yes", f"{r.seconds:.1f}", f"{r.peak_mb:.0f}"]
        for r in results
    ]
    print(markdown(head, rows), "\n")
    print(
        json.dumps(
            {
                "files": len(results),
                "as_expected": sum(not result.differs for result in results),
                "bugs": sum(result.exit_code != 0 for result in results),
                "peak_rss_mb": max((result.peak_mb for result in results), default=0.0),
                "slowest_s": max((result.seconds for result in results), default=0.0),
                "results": [asdict(result) for result in results],
            }
        )
    )


def expected_of(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the entries of ``expected.json`` by file name; empty without one."""
    path = folder / "expected.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def measured(path: Path, expected: Mapping[str, Any] | None, timeout_s: float) -> Result:
    """Curate one file in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        settings = [word for setting in CHEAP for word in ("--set", setting)]
        command = [sys.executable, "-m", "pipeline", "curate", str(path), str(output), *settings]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        code, peak_mb = _awaited(process, timeout_s)
        seconds = round(time.perf_counter() - started, 2)
        if code is None or not (output / "videos").is_dir():
            outcome = "timeout" if code is None else f"exit code {code}"
            return Result(
                file=path.name, outcome=outcome, detail="", differs=(outcome,), seconds=seconds,
                peak_mb=peak_mb, exit_code=-1 if code is None else code,
            )  # fmt: skip
        seen = next(outcomes(output))
    differs = [*differences(expected or {}, seen)]
    if code != 0:
        differs.append(f"exit code {code}")
    return Result(
        file=path.name,
        outcome=seen["status"] if seen["status"] == "kept" else f"{seen['status']}: {seen['reason']}",
        detail=seen["detail"],
        differs=tuple(differs),
        seconds=seconds,
        peak_mb=peak_mb,
        exit_code=code,
    )


def _awaited(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[int | None, float]:
    """Wait for a process: its exit code, None if it was ended for taking too long, and its peak in MB."""
    deadline = time.monotonic() + timeout_s
    killed = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            process.returncode = code
            return None if killed else code, round(usage.ru_maxrss / 1024, 1)
        if not killed and time.monotonic() > deadline:
            process.kill()
            killed = True
        time.sleep(0.05)


def outcomes(output: Path) -> Iterator[dict[str, Any]]:
    """Yield each video's status, reason and the measures that ``expected.json`` names."""
    tables = {
        name: pq.read_table(output / name).to_pylist() for name in ("videos", "actions", "clips", "rejects")
    }
    for video in tables["videos"]:
        own = {
            name: [row for row in rows if row["video_id"] == video["video_id"]]
            for name, rows in tables.items()
        }
        end = next((row for row in own["rejects"] if row["kind"] == "file"), None)
        yield {
            "name": Path(video["uri"]).name,
            "status": video["status"],
            "reason": end["reason"] if end else "",
            "detail": end["detail"] if end else "",
            "cuts_s": video["shot_starts_s"][1:],
            "actions_s": sorted([row["start_s"], row["end_s"]] for row in own["actions"]),
            "clips": video["num_clips"],
            "matches": video["num_matches"],
        }


def differences(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[str]:
    """In which ways a video is not as expected, in words."""
    for name in ("status", "reason", "clips", "matches"):
        want, have = expected.get(name), seen[name]
        bound = str(want).partition("at least ")[2]
        right = have >= int(bound) if bound else have == want
        if want is not None and not right:
            yield f"{name} {have}, not {want}"
    for name, tolerance_s in TOLERANCE_S.items():
        if name in expected and not _near(expected[name], seen[name], tolerance_s):
            yield f"{name} {seen[name]}, not {expected[name]}"


def _near(want: Sequence[Any], have: Sequence[Any], tolerance_s: float) -> bool:
    """Return whether nested lists of times have the same shape and agree within the tolerance."""
    if isinstance(want, Sequence):
        same = isinstance(have, Sequence) and len(want) == len(have)
        return same and all(_near(a, b, tolerance_s) for a, b in zip(want, have, strict=True))
    return abs(want - have) <= tolerance_s


if __name__ == "__main__":
    main()
