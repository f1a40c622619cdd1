"""The service over pretrained pipelines and a language model behind an endpoint, on Ray Serve."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import av
import pytest

from generation import config
from generation.film.stock import StockModels
from generation.service import serving
from pipeline.platform.cluster import connected
from tests.support import tiny_pipelines
from tests.support.chat import ChatServer, Reply, completion
from tests.support.openapi_client import Client

KEY = "key-of-eve-0123456789"
DEADLINE_S = 120.0


@pytest.mark.slow
def test_films_from_stock_weights_whose_plans_are_asked_for_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=DEADLINE_S)

    def plan(request: dict[str, Any]) -> Reply:
        together.wait()
        goal = json.loads(request["messages"][-1]["content"])["goal"]
        return completion(json.dumps({"steps": [{"action": f"Begin {goal}", "caption": "Hands begin."}]}))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    small = config.Replicas(cpus=0.2)
    options = config.Serve(port=port, director=small, painter=small, generator=small)
    kontext = config.Pipeline(
        path=tiny_pipelines.flux_kontext(tmp_path / "kontext"), dtype="float32", steps=1
    )
    video = config.StockVideo(
        path=tiny_pipelines.wan_two_experts(tmp_path / "wan"), dtype="float32", steps=1,
        frames=5, height_px=16, width_px=32, fps=5,
    )  # fmt: skip
    monkeypatch.setenv(options.api_keys_env, KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ChatServer(plan) as server:
        planner = config.StockPlanner(base_url=server.base_url, model="m", steps=1)
        recipe = config.Recipe(
            film=config.Film(upscale_px=32), serve=options,
            stock=config.Stock(planner=planner, painter=kontext, video=video),
        )  # fmt: skip
        application = serving.application(StockModels(recipe, tmp_path / "answers"), tmp_path / "jobs")
        with connected(), serving.deployed(application, options):
            client = Client(f"http://127.0.0.1:{port}", KEY)
            goals = ["How to fry an egg?", "How to boil rice?"]
            jobs = [str(client("create_narrative", {"goal": goal}).tree["id"]) for goal in goals]
            views = [_done(client, job) for job in jobs]
            films = [client("get_film", id=job).content for job in jobs]
            models = client("models").tree
    assert [view["steps"][0]["action"] for view in views] == [f"Begin {goal}" for goal in goals]
    assert all(view["steps"][0]["keyframe"] and view["steps"][0]["clips"] for view in views)
    for film in films:
        with av.open(io.BytesIO(film)) as container:
            assert len(list(container.decode(video=0))) == video.frames
    assert models == {"director": "m", "generator": "wan", "notice": None}
    assert len(server.requests) == 2 and not together.broken


def _done(client: Client, job: str) -> dict[str, Any]:
    until = time.monotonic() + DEADLINE_S
    while (view := dict(client("get_narrative", id=job).tree))["status"] not in ("done", "failed"):
        assert time.monotonic() < until, view
        time.sleep(0.1)
    assert view["status"] == "done", view
    return view
