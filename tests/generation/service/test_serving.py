"""The service, run by Ray Serve and called by a client made from its OpenAPI document."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
import ray
import yaml
from ray.serve.schema import ServeDeploySchema

from generation import config
from generation.film.trained import settings_of
from generation.service import serving
from pipeline.platform.cluster import connected
from pipeline.platform.config import ConfigError
from tests.support.film_parts import FRAMES, HeldModels
from tests.support.openapi_client import Client

KEY = "key-of-ann-0123456789"
GOAL = "How to make spring rolls?"
DEADLINE_S = 120.0


@dataclass
class Service:
    folder: Path
    options: config.Serve
    client: Client

    def look(self, job_id: str) -> dict[str, Any]:
        try:
            answer = self.client("get_narrative", id=job_id)
        except (httpx.TransportError, AssertionError):
            # While a killed front is replaced, the proxy answers in its place, or nothing does.
            return {"status": "unreachable", "steps": []}
        return dict(answer.tree)

    def wait(self, job_id: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        until = time.monotonic() + DEADLINE_S
        while not met(found := self.look(job_id)):
            assert time.monotonic() < until, f"still {found}"
            time.sleep(0.1)
        return found

    def create(self, **wanted: Any) -> str:
        answer = self.client("create_narrative", {"goal": GOAL} | wanted)
        assert answer.status == 202
        return str(answer.tree["id"])

    def done(self, job_id: str) -> dict[str, Any]:
        found = self.wait(job_id, lambda view: view["status"] in ("done", "failed", "cancelled"))
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

    def until_logged(self, part: str, text: str, count: int = 1) -> None:
        until = time.monotonic() + DEADLINE_S
        while sum(text in line for line in self.log(part)) < count:
            assert time.monotonic() < until, self.log(part)
            time.sleep(0.05)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    small = config.Replicas(cpus=0.2)
    options = config.Serve(
        port=port, director=small, painter=small, generator=config.Replicas(cpus=0.2, replicas=2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(options.api_keys_env, KEY)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
        with connected():
            application = serving.application(HeldModels(folder, options), folder / "jobs")
            with serving.deployed(application, options):
                yield Service(folder, options, Client(f"http://127.0.0.1:{port}", KEY))


def test_a_film_is_made_with_clips_on_all_replicas_at_once(service: Service) -> None:
    assert service.client("ready").status in (200, 503)
    with service.held("generator"):
        job_id = service.create(steps=3, seed=5)
        # Two replicas, two clips at work.
        service.until_logged("generator", GOAL, 2)
        # The third key frame does not wait for them.
        service.wait(job_id, lambda now: [bool(step["keyframe"]) for step in now["steps"]] == [True] * 3)
    whole = service.done(job_id)
    assert [step["action"] for step in whole["steps"]] == [f"Do part {n} of {GOAL}" for n in (1, 2, 3)]
    with av.open(io.BytesIO(service.client("get_film", id=job_id).content)) as container:
        assert len(list(container.decode(video=0))) == 3 * FRAMES
    assert service.client("ready").tree == {"status": "ok"}


def test_a_cancelled_film_frees_its_replicas_in_the_middle_of_a_clip(service: Service) -> None:
    with service.held("generator"):
        goal = "How to stop?"
        job_id = service.create(goal=goal, steps=2)
        service.until_logged("generator", goal, 2)
        service.client("cancel_narrative", id=job_id)
        service.wait(job_id, lambda view: view["status"] == "cancelled")
        # Both replicas work for another one, though the clips of the first were never released.
        other = service.create(goal="How to go on?", steps=2)
        service.until_logged("generator", "How to go on?", 2)
    service.done(other)
    assert service.client("get_film", id=job_id).status == 409


@pytest.mark.slow
@pytest.mark.parametrize("part", ["Generator", "Director", "Front"])
def test_a_replica_killed_in_the_middle_costs_nothing(service: Service, part: str) -> None:
    held = "director" if part == "Director" else "generator"
    goal = f"How to survive without the {part.lower()}?"
    with service.held(held):
        job_id = service.create(goal=goal, steps=2)
        service.until_logged(held, goal)
        if held == "director":
            service.wait(job_id, lambda view: len(view["steps"]) == 1)
        planned = [step["action"] for step in service.look(job_id)["steps"]]
        kill(part)
    whole = service.done(job_id)
    assert [step["action"] for step in whole["steps"]] == [f"Do part {n} of {goal}" for n in (1, 2)]
    assert [step["action"] for step in whole["steps"]][: len(planned)] == planned
    assert len(service.client("get_film", id=job_id).content) > 1000
    # The director is not asked again for what it has written.
    assert service.log("director").count(f"{goal} 1") == 1


def kill(part: str) -> None:
    names = [
        entry["name"]
        for entry in ray.util.list_named_actors(all_namespaces=True)
        if entry["namespace"] == "serve" and f"#{part}#" in entry["name"]
    ]
    assert names
    for name in names:
        ray.kill(ray.get_actor(name, namespace="serve"))


@pytest.mark.slow
def test_a_job_survives_a_restart_of_the_service(service: Service) -> None:
    goal = "How to survive a restart?"
    with service.held("generator"):
        job_id = service.create(goal=goal, steps=2)
        service.until_logged("generator", goal)
        serving.serve.delete(serving.NAME)
    application = serving.application(HeldModels(service.folder, service.options), service.folder / "jobs")
    with serving.deployed(application, service.options):
        assert len(service.done(job_id)["steps"]) == 2
        assert service.log("director").count(f"{goal} 1") == 1


def test_the_deployed_service_is_one_that_can_be_built() -> None:
    manifest = yaml.safe_load((Path(serving.__file__).parents[2] / "infra/rayservice.yaml").read_text())
    tree = ServeDeploySchema.model_validate(yaml.safe_load(manifest["spec"]["serveConfigV2"]))
    [application] = tree.applications
    module, _, name = application.import_path.partition(":")
    assert getattr(import_module(module), name) is serving.build
    assert {"models", "jobs"} <= set(application.args)
    values = dict(
        setting.removeprefix("serve.").split("=")
        for setting in settings_of(None, application.args["settings"])
    )
    most = sum(
        float(values[f"{role}.gpus"])
        * int(values.get(f"{role}.max_replicas", values.get(f"{role}.replicas", 1)))
        for role in ("director", "painter", "generator")
    )
    [workers] = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert workers["maxReplicas"] == most


def test_without_keys_only_a_service_on_loopback_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    options = config.Serve(api_keys_env="NO_SUCH_KEYS", host="0.0.0.0")
    monkeypatch.setenv("NO_SUCH_KEYS", " , ")
    assert serving.made_key(options) is None
    with pytest.raises(ConfigError, match="NO_SUCH_KEYS holds no key"):
        serving.application(HeldModels(tmp_path, options), tmp_path / "jobs")
    key = serving.made_key(options.model_copy(update={"host": "127.0.0.1"}))
    assert key is not None and len(key) >= 32
    assert serving.accepted_keys(options) == [key]
    assert serving.made_key(options.model_copy(update={"host": "::1"})) is None, "there is one now"


@pytest.mark.parametrize("key", ["schlüssel", "a\tb"])
def test_a_key_that_no_header_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SOME_KEYS", f"good,{key}")
    with pytest.raises(ConfigError, match=r"serve\.api_keys_env: a key in SOME_KEYS"):
        serving.accepted_keys(config.Serve(api_keys_env="SOME_KEYS"))
