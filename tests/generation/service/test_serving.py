"""The service, run by Ray Serve and called over HTTP by a plain client."""

from __future__ import annotations

import base64
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
import ray
import yaml
from PIL import Image
from ray.serve.schema import ServeDeploySchema

from generation import config
from generation.film.trained import settings_of
from generation.service import serving
from pipeline.platform.config import ConfigError
from tests.support.film_parts import FRAMES, HeldModels

KEYS = {"ann": "key-of-ann-0123456789", "bob": "key-of-bob-0123456789"}
GOAL = "How to make spring rolls?"
DEADLINE_S = 180.0


@dataclass
class Service:
    url: str
    folder: Path
    key: str = KEYS["ann"]

    def call(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx.Response:
        key = self.key if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.request(method, self.url + path, headers=headers, timeout=10, **more)

    def submit(self, **asked: Any) -> str:
        answer = self.call("POST", "/v1/narratives", json={"goal": GOAL} | asked)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["url"])

    def look(self, url: str) -> dict[str, Any]:
        try:
            answer = self.call("GET", url)
        except httpx.TransportError:
            # What a front was asked when it was killed is never answered.
            return {"status": "unreachable", "steps": []}
        # While a killed front is replaced, the proxy says so.
        return (
            dict(answer.json())
            if answer.status_code == 200
            else {"status": answer.status_code, "steps": []}
        )

    def wait(self, url: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        until = time.monotonic() + DEADLINE_S
        while not met(found := self.look(url)):
            assert time.monotonic() < until, f"still {found}"
            time.sleep(0.1)
        return found

    def done(self, url: str) -> dict[str, Any]:
        found = self.wait(url, lambda view: view["status"] in ("done", "failed", "cancelled"))
        assert found["status"] == "done", found
        return found

    @contextmanager
    def held(self, part: str) -> Iterator[None]:
        hold = self.folder / f"hold-{part}"
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    def log(self, part: str) -> list[str]:
        path = self.folder / f"{part}.log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = config.Serve(
        port=port, max_running_jobs=2, max_queued_jobs=1, max_body_bytes=100_000, replica_cpus=0.3
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(options.api_keys_env, ",".join(KEYS.values()))
        patch.delenv("RAY_ADDRESS", raising=False)
        with serving.running(HeldModels(folder, options), folder / "jobs"):
            yield Service(f"http://127.0.0.1:{port}", folder)


def picture(side: int = 8, form: str = "PNG", mode: str = "RGB") -> str:
    buffer = io.BytesIO()
    Image.new(mode, (side, side), (250, 120, 10) if mode == "RGB" else 1).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_film_is_made_and_its_steps_appear_one_by_one(service: Service) -> None:
    with service.held("director"):
        url = service.submit(steps=3, seed=5)
        part = service.wait(url, lambda view: bool(view["steps"] and view["steps"][0]["keyframe"]))
        assert part["status"] == "running" and len(part["steps"]) == 1 and part["film"] is None
        assert service.call("GET", f"{url}/film").status_code == 409
    whole = service.done(url)
    assert [step["action"] for step in whole["steps"]] == [f"Do part {n} of {GOAL}" for n in (1, 2, 3)]
    for step in whole["steps"]:
        shown = service.call("GET", step["keyframe"])
        assert shown.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(shown.content)).size == (32, 32)
    film = service.call("GET", whole["film"])
    assert film.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(film.content)) as container:
        assert len(container.chapters()) == 3
        assert len(list(container.decode(video=0))) == 3 * FRAMES


def test_events_tell_every_change_until_the_end(service: Service) -> None:
    with service.held("generator"):
        url = service.submit(steps=1)
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.stream("GET", f"{service.url}{url}/events", headers=headers, timeout=30) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    views = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert views[-1]["status"] == "done" and views[-1] == service.look(url)
    assert all(earlier != later for earlier, later in pairwise(views))


def test_a_picture_of_the_first_step_comes_inside_the_request(service: Service) -> None:
    url = service.submit(steps=2, first_step={"text": "Peel the carrots", "picture": picture()})
    whole = service.done(url)
    assert whole["steps"][0]["action"] == "Peel the carrots"
    shown = Image.open(io.BytesIO(service.call("GET", whole["steps"][0]["keyframe"]).content))
    assert shown.convert("RGB").getpixel((5, 5)) == (250, 120, 10)


def test_two_films_at_once_and_then_a_full_queue(service: Service) -> None:
    with service.held("generator"):
        first, second = (service.submit(steps=1, seed=seed) for seed in (1, 2))
        for url in (first, second):
            service.wait(url, lambda view: view["status"] == "running" and bool(view["steps"]))
        third = service.submit(steps=1)
        assert service.look(third)["status"] == "queued"
        refused = service.call("POST", "/v1/narratives", json={"goal": GOAL})
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
        assert "queue is full" in refused.json()["detail"]
        # A waiting one that is cancelled makes room at once.
        assert service.call("DELETE", third).json()["status"] == "cancelled"
        fourth = service.submit(steps=1)
    films = [service.call("GET", service.done(url)["film"]).content for url in (first, second, fourth)]
    assert films[0] != films[1]
    assert service.look(third)["status"] == "cancelled"


def test_a_running_film_is_cancelled(service: Service) -> None:
    with service.held("generator"):
        url = service.submit(steps=2)
        service.wait(url, lambda view: len(view["steps"]) == 2)
        assert service.call("DELETE", url).json()["status"] in ("cancelling", "cancelled")
        # Though the generator has not answered.
        service.wait(url, lambda view: view["status"] == "cancelled")
    assert service.call("GET", f"{url}/film").status_code == 409
    assert service.call("DELETE", url).json()["status"] == "cancelled"
    finished = service.submit(steps=1)
    service.done(finished)
    assert service.call("DELETE", finished).status_code == 409
    assert service.look(finished)["status"] == "done"


def test_only_keys_open_and_only_their_own(service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {service.key}"}):
        for method, path in (("POST", "/v1/narratives"), ("GET", "/v1/narratives/any")):
            answer = httpx.request(
                method, service.url + path, headers=headers, json={"goal": GOAL}, timeout=30
            )
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    url = service.submit(steps=1)
    for method, path in (
        ("GET", url),
        ("GET", f"{url}/film"),
        ("GET", f"{url}/keyframes/1"),
        ("DELETE", url),
    ):
        assert service.call(method, path, key=KEYS["bob"]).status_code == 404
    service.done(url)
    assert service.call("GET", "/healthz", key="").status_code == 200
    for job in (service.folder / "jobs").glob("*/job.json"):
        assert service.key not in job.read_text()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "goal"),
        ({"goal": "   "}, "goal"),
        ({"goal": "two\nlines"}, "goal"),
        ({"goal": "x" * 301}, "300"),
        ({"goal": GOAL, "steps": 0}, "steps"),
        ({"goal": GOAL, "steps": 13}, "at most 12"),
        ({"goal": GOAL, "seed": -1}, "seed"),
        ({"goal": GOAL, "speed": 2}, "speed"),
        ({"goal": GOAL, "first_step": {"picture": "x"}}, "text"),
        ({"goal": GOAL, "first_step": {"text": "Peel", "picture": "/etc/passwd"}}, "base64"),
        ({"goal": GOAL, "first_step": {"text": "Peel", "picture": "http://127.0.0.1/a.png"}}, "base64"),
        ({"goal": GOAL, "first_step": {"text": "Peel", "picture": picture(form="GIF")}}, "PNG, JPEG"),
        ({"goal": GOAL, "first_step": {"text": "Peel", "picture": picture(7000, mode="1")}}, "pixels"),
    ],
)
def test_wrong_input_is_refused_with_its_reason(service: Service, body: dict[str, Any], told: str) -> None:
    answer = service.call("POST", "/v1/narratives", json=body)
    assert answer.status_code == 422 and told in answer.text


def test_what_is_too_large_is_not_read(service: Service) -> None:
    large = json.dumps({"goal": GOAL, "first_step": {"text": "x", "picture": "A" * 200_000}}).encode()
    assert service.call("POST", "/v1/narratives", content=large).status_code == 413
    pieces = (large[at : at + 1000] for at in range(0, len(large), 1000))
    assert service.call("POST", "/v1/narratives", content=pieces).status_code == 413
    assert service.call("POST", "/v1/narratives", content=b"{" * 5000).status_code in (400, 422)


def test_there_is_nothing_at_other_addresses(service: Service) -> None:
    for path in ("/v1/narratives/nobody", "/v1/narratives/..%2F..%2Fetc", "/v1/narratives"):
        assert service.call("GET", path).status_code in (404, 405)
    url = service.submit(steps=1)
    service.done(url)
    assert service.call("GET", f"{url}/keyframes/2").status_code == 404
    assert service.call("GET", f"{url}/keyframes/plan.json").status_code == 422


def test_the_interface_describes_itself(service: Service) -> None:
    tree = service.call("GET", "/openapi.json", key="").json()
    assert {"post"} == set(tree["paths"]["/v1/narratives"])
    assert {"get", "delete"} == set(tree["paths"]["/v1/narratives/{id}"])
    assert {"202", "401", "413", "422", "429"} <= set(tree["paths"]["/v1/narratives"]["post"]["responses"])
    assert tree["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["Generator", "Director", "Front"])
def test_a_replica_killed_in_the_middle_costs_nothing(service: Service, part: str) -> None:
    held = "director" if part == "Director" else "generator"
    goal = f"How to survive without the {part.lower()}?"
    with service.held(held):
        url = service.submit(goal=goal, steps=2)
        until = time.monotonic() + DEADLINE_S
        while not any(goal in line for line in service.log(held)[-2:]):
            assert time.monotonic() < until
            time.sleep(0.05)
        if held == "director":
            service.wait(url, lambda view: len(view["steps"]) == 1)
        planned = service.look(url)["steps"]
        kill(part)
    whole = service.done(url)
    assert [step["action"] for step in whole["steps"]] == [f"Do part {n} of {goal}" for n in (1, 2)]
    assert whole["steps"][: len(planned)] == planned
    assert len(service.call("GET", whole["film"]).content) > 1000
    # The director is not asked again for what it has written.
    lines = [line for line in service.log("director") if goal in line]
    assert lines.count(f"{goal} 1") == 1


def kill(part: str) -> None:
    names = [
        entry["name"]
        for entry in ray.util.list_named_actors(all_namespaces=True)
        if entry["namespace"] == "serve" and f"#{part}#" in entry["name"]
    ]
    assert len(names) == 1, names
    ray.kill(ray.get_actor(names[0], namespace="serve"))


def test_the_deployed_service_is_one_that_can_be_built() -> None:
    manifest = yaml.safe_load((Path(serving.__file__).parents[2] / "infra/rayservice.yaml").read_text())
    tree = ServeDeploySchema.model_validate(yaml.safe_load(manifest["spec"]["serveConfigV2"]))
    [application] = tree.applications
    module, _, name = application.import_path.partition(":")
    assert getattr(import_module(module), name) is serving.build
    assert {"models", "jobs"} <= set(application.args)
    wanted = settings_of(None, application.args["settings"])
    gpus = [group["replicas"] for group in manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]]
    numbers = dict(setting.removeprefix("serve.").split("=") for setting in wanted)
    assert gpus == [int(numbers["director_replicas"]) + int(numbers["generator_replicas"])]


def test_without_keys_the_service_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = config.Serve(api_keys_env="NO_SUCH_KEYS")
    monkeypatch.setenv("NO_SUCH_KEYS", " , ")
    with pytest.raises(ConfigError, match="NO_SUCH_KEYS holds no key"):
        serving.application(HeldModels(tmp_path, options), tmp_path / "jobs")
