"""Model servers that the job owns: their throughput through the chain, and what a kill does.

``python -m benchmarks.servers --vision-model FOLDER --vllm-python PYTHON`` starts llama.cpp with the
packaged model, and vLLM with a vision-language model (``python -m generation.captioner.tiny FOLDER`` saves
a tiny one), each as a run does: behind a Ray actor. Prepared videos then go through the stages that ask
it - actions for llama.cpp, captions for vLLM - and the same requests go to the bare server
from a plain asynchronous client at the same concurrency, in turn. Rates are answers a second over the
middle half of the answers: neither the start of Ray's workers nor the last video's end is in them, and
for the client as well. Then the server's process is killed in the middle of a run, and at last the whole
job.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import httpx2
import numpy as np

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from models import failover, weights
from models.chat import complete
from models.ledger import Ledger
from pipeline.curation import ray_servers
from pipeline.curation.chain import build_stages, endpoints
from pipeline.curation.config import Config
from pipeline.curation.ray_runner import run_ray
from pipeline.curation.runners import Site, run_local
from pipeline.curation.servers import resolved
from pipeline.platform.cluster import connected
from stages.base import Stage
from stages.frames import FramePacker, encoded
from stages.reasons import FAILURES
from stages.records import Clip, Evidence, Interval, Sentence, Transcript, Video

POLL_S = 0.05
CLIP_S = 10.0
DOING = ("Chop", "Wash", "Peel", "Fry", "Boil", "Stir", "Salt", "Bake", "Cool", "Slice", "Mash", "Serve")
FOOD = ("onions", "carrots", "potatoes", "mushrooms", "beans", "tomatoes", "peppers", "noodles")
HOLD = """
import signal, sys
from pathlib import Path
from pipeline.curation import ray_servers
from pipeline.curation.config import Config
from pipeline.platform.cluster import connected
config = Config.model_validate_json(sys.argv[1])
with connected(config.run.ray_address), ray_servers.started(config, Path(sys.argv[2])) as running:
    print(running.base_urls["language"][0], flush=True)
    signal.pause()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Site):
    """A site where all but some stages are done."""

    left: tuple[str, ...]

    def stages(self) -> list[Stage]:
        return [stage for stage in build_stages(self.config) if stage.name in self.left]


def main() -> None:
    """Measure the engines and print a table, then one JSON object."""
    parser = parser_of("servers", __doc__)
    parser.add_argument("--vision-model", type=Path, metavar="FOLDER", help="for vLLM; left out without it")
    parser.add_argument("--only", choices=("llamacpp", "vllm"), help="one engine")
    parser.add_argument("--vllm-python", default=".venv-vllm/bin/python", metavar="PYTHON")
    parser.add_argument("--videos", type=int, default=12, metavar="N")
    parser.add_argument("--clips", type=int, default=6, metavar="N", help="of each video")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--concurrency", type=int, default=4, metavar="N")
    arguments = parser.parse_args()
    slots = arguments.concurrency
    engines: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "llamacpp": (
            {"model": str(weights.smollm2()), "concurrency": slots, "context_tokens": 1024},
            ("refine",),
        )
    }
    if arguments.vision_model:
        server = {
            "engine": "vllm", "model": str(arguments.vision_model), "python": arguments.vllm_python,
            "serves": ["language", "vision"], "concurrency": slots,
            "arguments": [
                "--enforce-eager", "--gpu-memory-utilization", "0.1",
                # A model with random weights would otherwise write nothing but line breaks.
                "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
            ],
        }  # fmt: skip
        engines["vllm"] = (server, ("caption",))
    found = {}
    for name, (server, left) in engines.items():
        if arguments.only not in (None, name):
            continue
        config = resolved(Config.model_validate({"server": server, "caption": {"only_matched": False}}))
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(config, left, Path(folder), arguments)
    print(f"{machine()}; {slots} requests at a time, {arguments.rounds} rounds in turn\n")
    heads = ("engine", *next(iter(found.values())))
    print(markdown(heads, [(name, *figures.values()) for name, figures in found.items()]))
    print(json.dumps(found))


def measure(
    config: Config, left: tuple[str, ...], folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one engine."""
    work = folder / "work"
    videos = [prepared(number, arguments.clips, work) for number in range(arguments.videos)]
    logs = folder / "logs"

    def site(name: str) -> Prepared:
        return Prepared(
            config=config, left=left, scratch=work, memo=folder / name / "memo",
            language=language, vision=vision, ledger=folder / name / "ledger",
        )  # fmt: skip

    started = time.perf_counter()
    with connected(config.run.ray_address), ray_servers.started(config, logs) as running:
        up_s = time.perf_counter() - started
        language, vision = endpoints(config, running.base_urls)
        assert language is not None
        base_url = language.base_url
        requests = recorded(videos, site("recorded"))
        bare, ours = [], []
        for number in range(arguments.rounds):
            bare.append(asyncio.run(bare_rate(base_url, requests, arguments.concurrency)))
            ours.append(chain_rate(videos, site(f"round{number}")))
        lost = killed(videos, site("killed"), base_url, at=len(requests) // 3)
    left_over = len(processes_of(base_url))
    return {
        "ready_s": round(up_s, 1),
        "requests": len(requests),
        "bare_per_s": median(bare),
        "chain_per_s": median(ours),
        "ratio": median(mine / theirs for mine, theirs in zip(ours, bare, strict=True)),
        "server_kills": 1,
        "server_starts": (logs / f"{'-'.join(config.server.serves)}-0.log")
        .read_text()
        .count("] it answers"),
        "videos_lost": lost,
        "left_over": left_over,
        "gone_after_job_kill_s": job_killed(config, folder / "held"),
    }


def prepared(number: int, num_clips: int, work: Path) -> Video:
    """A video whose clips and speech are known, with two frames a second."""
    times = [index / 2 for index in range(int(num_clips * CLIP_S * 2))]
    spans = [Interval(start_s=CLIP_S * index, end_s=CLIP_S * (index + 1)) for index in range(num_clips)]
    flat = [0.5] * len(times)
    video = Video(
        uri=f"file:///prepared-{number}.mp4", video_id=f"{number:016x}", content_id=f"{number:064x}",
        evidence=Evidence(
            shots=spans, frame_times_s=times, sharpness=flat, exposure=flat, motion=flat,
            num_frames=len(times),
        ),
        transcript=Transcript(
            language="en", model="made",
            sentences=[
                Sentence(
                    start_s=span.start_s + 1, end_s=span.start_s + 6, confidence=0.9,
                    text=f"{DOING[(number + index) % len(DOING)]} the {FOOD[index % len(FOOD)]} "
                    f"for {number + 2} minutes.",
                )
                for index, span in enumerate(spans)
            ],
        ),
        clips=[
            Clip(
                clip_id=f"{number:016x}-c{index:04d}", clip_index=index, start_s=span.start_s,
                end_s=span.end_s, num_shots=1, sharpness=0.5, exposure=0.5, motion=0.1,
            )
            for index, span in enumerate(spans)
        ],
    )  # fmt: skip
    target = work / "frames" / video.video_id[:2] / f"{video.video_id}.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number)
    with FramePacker(target) as packer:
        for time_s in times:
            small = noise.integers(0, 255, (8, 10, 3), dtype=np.uint8)
            packer.add(time_s, encoded(np.kron(small, np.ones((28, 28, 1), np.uint8)), 90))
    return video


def recorded(videos: Sequence[Video], site: Site) -> list[dict[str, Any]]:
    """The requests that the chain makes of these videos; warms the server too."""
    requests: list[dict[str, Any]] = []

    async def recording(client: Any, request: dict[str, Any], **more: Any) -> Any:
        requests.append(request)
        return await complete(client, request, **more)

    with patch.object(failover, "complete", recording):
        for video in run_local(videos, site, lambda _: None):
            fail_of(video)
    return requests


async def bare_rate(base_url: str, requests: Sequence[dict[str, Any]], concurrency: int) -> float:
    """Answers a second to a client that does nothing but ask."""
    waiting = iter(requests)
    times: list[float] = []
    async with httpx2.AsyncClient(base_url=base_url, timeout=600) as client:

        async def work() -> None:
            for request in waiting:
                (await client.post("/chat/completions", json=request)).raise_for_status()
                times.append(time.perf_counter())

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return middle_rate([(time_s, count) for count, time_s in enumerate(times, 1)])


def chain_rate(videos: Sequence[Video], site: Site) -> float:
    """Answers a second to the stages on Ray."""
    counts: list[tuple[float, int]] = []
    with watched(site, lambda count: counts.append((time.perf_counter(), count))):
        for video in run_ray(list(videos), site, lambda _: None):
            fail_of(video)
    return middle_rate(counts)


def middle_rate(counts: Sequence[tuple[float, int]]) -> float:
    """Answers a second between the first and the last quarter; of (seconds, answers until then)."""
    total = counts[-1][1]
    middle = [(time_s, count) for time_s, count in counts if total <= 4 * count <= 3 * total]
    (first_s, first), (last_s, last) = middle[0], middle[-1]
    return (last - first) / (last_s - first_s)


def killed(videos: Sequence[Video], site: Site, base_url: str, *, at: int) -> int:
    """Videos that are lost when the server is killed after so many answers."""
    victims: list[int] = []

    def strike(count: int) -> None:
        if count >= at and not victims:
            # The server itself; what it started is its keeper's to clear away.
            victims.append(min(processes_of(base_url)))
            os.kill(victims[0], signal.SIGKILL)

    with watched(site, strike):
        done = list(run_ray(list(videos), site, lambda _: None))
    assert victims, "the run was over before the server could be killed"
    missing = {video.video_id for video in videos} - {video.video_id for video in done}
    return len(missing) + sum(bool(video.rejected and video.rejected.reason in FAILURES) for video in done)


@contextlib.contextmanager
def watched(site: Site, tell: Callable[[int], None]) -> Iterator[None]:
    """Tell whenever the number of answers in a run's ledger has grown."""
    assert site.ledger is not None
    ledger, done = Ledger(site.ledger), threading.Event()

    def watch() -> None:
        told = 0
        while not done.wait(POLL_S):
            count = sum(total.answered for total in ledger.totals())
            if count > told:
                tell(count)
                told = count

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        time.sleep(2 * POLL_S)
        done.set()
        thread.join()


def job_killed(config: Config, folder: Path) -> float:
    """Seconds from the SIGKILL of a job to the end of the last process of its server."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, config.model_dump_json(), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    ) as job:
        assert job.stdout is not None
        base_url = job.stdout.readline().strip()
        assert processes_of(base_url)
        job.kill()
        started = time.perf_counter()
    while processes_of(base_url):
        time.sleep(POLL_S)
    return round(time.perf_counter() - started, 2)


def processes_of(base_url: str) -> list[int]:
    """Processes in the group of the server that listens at an address."""
    port = base_url.rpartition(":")[2].removesuffix("/v1").encode()
    groups, found = set(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if state == "Z":
                continue
            found.append((int(folder.name), int(group)))
            if b"\0--port\0" + port + b"\0" in (folder / "cmdline").read_bytes():
                groups.add(int(group))
    return [pid for pid, group in found if group in groups]


def fail_of(video: Video) -> None:
    """A run that fails measures nothing."""
    if video.rejected and video.rejected.reason in FAILURES:
        raise RuntimeError(f"{video.uri}: {video.rejected.stage}: {video.rejected.detail}")


if __name__ == "__main__":
    main()
