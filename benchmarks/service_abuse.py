"""Hostile requests to the service of films: answers, and the memory that they cost.

``python -m benchmarks.service_abuse`` starts the service, without models, in a process of its own, over a
folder with broken jobs (an empty state, half of one, one of another program, a file in the place of a job).
Then it sends pictures of 39.7 megapixels at once, and fuzzed bodies, and reads the memory of the process.
Nothing may be answered by 500, and the service must be healthy at the end.
"""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
from PIL import Image

from benchmarks.commands import parser_of
from benchmarks.fuzz import mutated
from benchmarks.machine import machine, markdown

KEY = "key-of-the-benchmark-0123"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
SIDE_PX = 6300
"""A picture of so many pixels squared, of one bit each, has 39.7 megapixels in a few kilobytes."""
BROKEN = {"empty": "", "half": '{"id": "half", "sta', "other": '{"a": [1, 2]}', "list": "[]"}
GOAL = "How to make soup?"


def serve(folder: str, port: int) -> None:
    """Serve over a folder; no film is ever made."""
    import uvicorn

    from generation import config
    from generation.service.http import build_app
    from generation.service.jobs import Jobs
    from generation.service.records import Limits, Work

    def make(work: Work) -> None:
        raise RuntimeError("there are no models here")

    jobs = Jobs(Path(folder), make, Limits(max_running=1, max_queued=8, max_per_owner=8, retention_s=3600))
    app = build_app(jobs, config.Serve(), max_steps=12, keys=[KEY], models=lambda: None)
    jobs.start()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")


@contextmanager
def service(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start the service; yields its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=[str(folder), port])
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}/healthz", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
                if not process.is_alive():
                    raise SystemExit("the service did not start over broken jobs") from None
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join()


def picture() -> str:
    """Return a PNG file of 39.7 megapixels in base64."""
    buffer = io.BytesIO()
    Image.new("1", (SIDE_PX, SIDE_PX)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def sent(url: str, process: psutil.Process, bodies: Sequence[bytes], threads: int) -> tuple[str, float]:
    """Send bodies; returns how often each status came, and the largest memory meanwhile in MB."""

    def post(body: bytes) -> int:
        return httpx.post(f"{url}/v1/narratives", content=body, headers=HEADERS, timeout=60).status_code

    peak = 0
    with ThreadPoolExecutor(threads) as pool:
        answers = [pool.submit(post, body) for body in bodies]
        while not all(answer.done() for answer in answers):
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.002)
    counts = Counter(answer.result() for answer in answers)
    return ", ".join(f"{number} x {status}" for status, number in sorted(counts.items())), peak / 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Send all, print a table, then one JSON object."""
    parser = parser_of("service_abuse", __doc__)
    parser.add_argument("--bodies", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for job, state in BROKEN.items():
            (folder / job).mkdir()
            (folder / job / "job.json").write_text(state)
        (folder / "file").write_text("no job")
        large = json.dumps({"goal": GOAL, "first_step": {"text": "Peel.", "picture": picture()}}).encode()
        small = json.dumps({"goal": GOAL, "steps": 3, "seed": 1, "first_step": {"text": "Peel."}}).encode()
        fuzzed = [mutated(small, random.Random(f"{given.seed}-{number}")) for number in range(given.bodies)]
        with service(folder) as (url, process):
            before = process.memory_info().rss / 2**20
            rows = [["broken job folders", "the service starts", before]]
            answers, pictures_mb = sent(url, process, [large] * given.pictures, given.pictures)
            rows.append([f"{given.pictures} pictures of 39.7 megapixels at once", answers, pictures_mb])
            said, bodies_mb = sent(url, process, fuzzed, 4)
            rows.append([f"{given.bodies} fuzzed bodies", said, bodies_mb])
            healthy = httpx.get(f"{url}/healthz", timeout=10).status_code == 200
    print(markdown(["sent", "answers", "memory, MB"], rows), "\n")
    print(
        json.dumps(
            {
                "start_mb": round(before),
                "pictures_mb": round(pictures_mb),
                "bodies_mb": round(bodies_mb),
                "server_errors": sum(text.count("x 5") for text in (answers, said)),
                "healthy": healthy,
            }
        )
    )


if __name__ == "__main__":
    main()
