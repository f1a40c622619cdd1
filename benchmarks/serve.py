"""The service under load, against the bare models in one process.

``python -m benchmarks.serve``: clients ask for films one after the other, follow the events and fetch each
film. The models are stand-ins that do a fixed number of matrix products in one thread, the same with and
without the service, and a log of their calls shows repeated work. The bare figure is the same plans, key
frames and clips without files, queue or HTTP, measured before and after.

A clip takes about half a second, less than any real model needs, so the share that the service costs is an
upper bound; ``--clip-products 80`` makes it a tenth of a second.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from generation import config
from generation.core.states import Pictures, StateDecoder, StateEncoder
from generation.core.story import Step
from generation.film.trained import DirectorParts, GeneratorParts, PainterParts
from generation.service import serving
from pipeline.platform.cluster import connected

KEY_VARIABLE = "VIDEOAUTEUR_BENCHMARK_KEY"
STEPS = 3
TOKENS, WIDTH, SIDE_PX, FRAMES = 1, 32, 48, 5
STEP_PRODUCTS, PICTURE_PRODUCTS, CLIP_PRODUCTS = 30, 30, 400


class Work:
    """A fixed amount of arithmetic in one thread, in calls of a module."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._layer = nn.Linear(512, 512)
        self._rows = torch.ones(256, 512)

    @torch.no_grad()
    def do(self, products: int) -> None:
        """Multiply so many times."""
        for _ in range(products):
            self._layer(self._rows)


@dataclass
class Director:
    work: Work

    def plan(self, goal: str, *, steps: int | None, given: Sequence[Step], seed: int) -> Iterator[Step]:
        """See :class:`generation.film.parts.Director`."""
        for number in range(1, (steps or STEPS) + 1):
            if number <= len(given) and given[number - 1].state is not None:
                yield given[number - 1]
                continue
            self.work.do(STEP_PRODUCTS)
            state = torch.full((TOKENS, WIDTH), float(number))
            yield Step(action=f"Do part {number} of {goal}", caption=f"Hands do part {number}", state=state)


class Decoder(StateDecoder):
    picture_px = SIDE_PX

    def __init__(self, work: Work) -> None:
        self._work = work

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`generation.core.states.StateDecoder.decode`."""
        self._work.do(PICTURE_PRODUCTS)
        return np.full((len(z), SIDE_PX, SIDE_PX, 3), seed % 256, np.uint8)


class Encoder(StateEncoder):
    name, tokens, width = "none", TOKENS, WIDTH

    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`generation.core.states.StateEncoder.encode`."""
        return torch.zeros(len(images), TOKENS, WIDTH)


@dataclass
class Generator:
    work: Work
    log: Path | None
    products: int

    def render(self, caption: str, state: Tensor | None, **shown: Any) -> tuple[NDArray[np.uint8], None]:
        """See :class:`generation.film.parts.Generator`."""
        self.work.do(self.products)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{caption}\n")
        return np.zeros((FRAMES, SIDE_PX, SIDE_PX, 3), np.uint8), None


@dataclass(frozen=True)
class StandIns:
    """The models; see :class:`generation.film.trained.Models`."""

    serve: config.Serve
    clip_products: int
    log: Path | None = None

    def recipe(self) -> config.Recipe:
        """Return the recipe of the service."""
        return config.Recipe(film=config.Film(upscale_px=SIDE_PX), serve=self.serve)

    def plans_at_once(self) -> int:
        """Return 1."""
        return 1

    def director(self) -> DirectorParts:
        """Load the director."""
        return DirectorParts(director=Director(Work()), encoder=Encoder(), identity={"director": "1"})

    def painter(self) -> PainterParts:
        """Load the decoder."""
        return PainterParts(decoder=Decoder(Work()), identity={"decoder": "1"})

    def generator(self) -> GeneratorParts:
        """Load the generator."""
        generator = Generator(Work(), self.log, self.clip_products)
        return GeneratorParts(generator=generator, condition="state", fps=4.0, identity={"generator": "1"})


@dataclass
class Load:
    """Observations of the clients of one level; times in seconds."""

    clients: int
    seconds: float = 0.0
    asked: int = 0
    done: int = 0
    first_step: list[float] = field(default_factory=list)
    first_clip: list[float] = field(default_factory=list)
    film: list[float] = field(default_factory=list)


def bare(seconds: float, clip_products: int) -> float:
    """Return films a second by the bare models in this process."""
    models = StandIns(config.Serve(), clip_products)
    director, decoder = models.director().director, models.painter().decoder
    generator = models.generator().generator
    assert decoder is not None
    started, films = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for step in director.plan("x", steps=STEPS, given=(), seed=0):
            assert step.state is not None
            decoder.decode(step.state[None], seed=0)
            generator.render(step.caption, step.state, seed=0, keyframe=None, first_frame=None)
        films += 1
    return films / (time.perf_counter() - started)


def loaded(url: str, key: str, clients: int, seconds: float, name: str) -> Load:
    """Drive the service with clients that ask again as soon as their film is there."""
    load = Load(clients=clients)
    until = time.perf_counter() + seconds
    lock = threading.Lock()

    def client(number: int) -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120) as http:
            for turn in range(1_000_000):
                if time.perf_counter() > until:
                    return
                _film(http, f"{name}, client {number}, film {turn}", load, lock)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        for each in [threads.submit(client, number) for number in range(clients)]:
            each.result()
    load.seconds = time.perf_counter() - started
    return load


def _film(http: httpx.Client, goal: str, load: Load, lock: threading.Lock) -> None:
    started = time.perf_counter()
    answer = http.post("/v1/narratives", json={"goal": goal, "steps": STEPS})
    if answer.status_code == 429:
        time.sleep(1)
        return
    answer.raise_for_status()
    with lock:
        load.asked += 1
    address = answer.json()["url"]
    first_step = first_clip = None
    view: dict[str, Any] = {}
    with http.stream("GET", f"{address}/events") as stream:
        for line in stream.iter_lines():
            if not line.startswith("data: "):
                continue
            view = json.loads(line[6:])
            steps = view.get("steps", [view])
            now = time.perf_counter() - started
            if first_step is None and any(step["keyframe"] for step in steps):
                first_step = now
            if first_clip is None and any(step["clips"] for step in steps):
                first_clip = now
    whole = view.get("status") == "done" and len(http.get(view["film"]).content) > 0
    with lock:
        load.done += whole
        load.film.append(time.perf_counter() - started)
        load.first_step += [first_step] if first_step is not None else []
        load.first_clip += [first_clip] if first_clip is not None else []


def front_mb() -> float:
    """Return the memory of the front's process; 0 where the system has no /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"videoauteur:Front" in (process / "cmdline").read_bytes().split(b"\0")[0]:
                pages = int((process / "statm").read_text().split()[1])
                return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0


def main() -> None:
    """Print a table, then one JSON object.

    ``p95_s`` is a film's at the highest number of clients, ``first_step_s`` the median at the lowest.
    """
    parser = parser_of("serve", __doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="at once, by level")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each level")
    parser.add_argument("--generators", type=int, default=1, help="replicas")
    parser.add_argument(
        "--clip-products", type=int, default=CLIP_PRODUCTS, help="of a clip; 400 take half a second"
    )
    parser.add_argument("--quick", action="store_true", help="two short levels")
    arguments = parser.parse_args()
    levels, seconds = ([1, 8], 8.0) if arguments.quick else (arguments.clients, arguments.seconds)
    key = os.environ[KEY_VARIABLE] = "key-of-the-benchmark"
    products: int = arguments.clip_products
    rows, rates = [], [bare(seconds / 3, products)]
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        options = _options(port, arguments.generators)
        log = Path(folder) / "clips.log"
        service = serving.application(StandIns(options, products, log), Path(folder) / "jobs")
        os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
        with connected(), serving.deployed(service, options):
            url = f"http://127.0.0.1:{port}"
            loaded(url, key, 1, 2.0, "warm")
            for clients in levels:
                before = front_mb()
                load = loaded(url, key, clients, seconds, f"{clients} at once")
                rows.append((load, before, front_mb()))
        clips = log.read_text().splitlines()
    rates.append(bare(seconds / 3, products))
    bare_rate = sum(rates) / len(rates)
    print(
        f"{machine()}\n\n{STEPS} steps a film, {products} products a clip, "
        f"{arguments.generators} generator(s), bare: {bare_rate:.3f} films/s\n"
    )
    head = ["clients", "films", "films/s", "of bare", "first step, median s", "first clip, median s",
            "film, median s", "film, p95 s", "front before, MB", "after, MB"]  # fmt: skip
    print(markdown(head, [_row(load, bare_rate, *memory) for load, *memory in rows]))
    loads = [load for load, *_ in rows]
    best = max(load.done / load.seconds for load in loads)
    print(
        json.dumps(
            {
                "ratio_vs_bare": round(best / bare_rate, 3),
                "lost": sum(load.asked - load.done for load in loads),
                "doubled": len(clips) - len(set(clips)),
                "p95_s": round(float(np.percentile(loads[-1].film, 95)), 3),
                "first_step_s": round(float(np.median(loads[0].first_step)), 3),
            }
        )
    )


def _options(port: int, generators: int) -> config.Serve:
    small = config.Replicas(cpus=0.2)
    return config.Serve(
        port=port, api_keys_env=KEY_VARIABLE, max_running_jobs=4, max_queued_jobs=128,
        max_jobs_per_key=128, max_streams_per_key=128, director=small, painter=small,
        generator=config.Replicas(cpus=0.2, replicas=generators),
    )  # fmt: skip


def _row(load: Load, bare_rate: float, before: float, after: float) -> list[object]:
    rate = load.done / load.seconds
    medians = [float(np.median(times)) for times in (load.first_step, load.first_clip, load.film)]
    p95 = float(np.percentile(load.film, 95))
    return [load.clients, load.done, rate, rate / bare_rate, *medians, p95, round(before), round(after)]


if __name__ == "__main__":
    main()
