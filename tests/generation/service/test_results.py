"""Films in an object store: served from there, and continued on another machine."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from generation import config
from generation.film.make import make_film
from generation.film.parts import FilmModels
from generation.film.plan import Request
from generation.service import jobs as jobs_module
from generation.service import serving
from generation.service.http import build_app
from generation.service.jobs import Jobs
from generation.service.records import Limits, Work
from generation.service.results import Results
from models.errors import UsageError
from pipeline.platform import lease
from pipeline.platform.lease import LEASE
from pipeline.platform.storage import RefusedError, Store
from tests.support.buckets import bucket, s3_server
from tests.support.film_parts import Decoder, Encoder, HeldModels, HeldPlanner, HeldRenderer

__all__ = ["bucket", "s3_server"]
KEY = "key-of-ann-0123456789"
AUTHORISED = {"Authorization": f"Bearer {KEY}"}
GOAL = Request(goal="How to make tea?", seed=3, steps=2)


class Machine:
    """A service with a folder of its own, as on one machine."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        folder.mkdir()
        limits = Limits(max_running=1, max_queued=4, max_per_owner=9)
        self.jobs = Jobs(folder / "jobs", self.make, limits, Results(url))
        app = build_app(
            self.jobs, config.Serve(), max_steps=12, keys=[KEY], models=lambda: None
        )  # fmt: skip
        self.http = TestClient(app, headers=AUTHORISED)
        self.made: list[tuple[str, int]] = []

    def make(self, work: Work) -> None:
        models = FilmModels(
            director=HeldPlanner(self.folder), decoder=Decoder(), encoder=Encoder(),
            generator=HeldRenderer(self.folder),
        )  # fmt: skip
        film = make_film(
            work.request, models, work.out, options=config.Film(upscale_px=32),
            on_event=work.on_event, cancelled=work.cancelled,
        )  # fmt: skip
        self.made += film.made

    def create(self) -> str:
        answer = self.http.post("/v1/narratives", json={"goal": GOAL.goal, "steps": 2})
        assert answer.status_code == 202
        return str(answer.json()["id"])

    def ended(self, job_id: str) -> str:
        end = time.monotonic() + 30
        while (status := self.status(job_id)) in ("queued", "running"):
            assert time.monotonic() < end
            time.sleep(0.01)
        return status

    def status(self, job_id: str) -> str:
        return str(self.http.get(f"/v1/narratives/{job_id}").json()["status"])


@pytest.fixture
def machines(tmp_path: Path, bucket: str) -> Iterator[Callable[[str], Machine]]:
    running: list[Machine] = []

    def start(name: str) -> Machine:
        machine = Machine(tmp_path / name, f"{bucket}/results")
        machine.jobs.start()
        running.append(machine)
        return machine

    yield start
    for machine in running:
        machine.jobs.stop()


def test_a_film_is_served_from_the_store_and_edited_on_another_machine(
    machines: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "EMPTIED_AFTER_S", 0.0)
    first = machines("first")
    job_id = first.create()
    assert first.ended(job_id) == "done"
    local = first.folder / "jobs" / job_id / "film"
    film = (local / "film.mp4").read_bytes()
    # The first waits until the film is stored, the second empties the folder.
    first.jobs.sweep()
    first.jobs.sweep()
    assert [path.name for path in local.iterdir() if not path.name.startswith(".")] == ["plan.json"]
    first.jobs.stop()
    shutil.rmtree(first.folder)

    second = machines("second")
    address = f"/v1/narratives/{job_id}"
    view = second.http.get(address).json()
    assert (view["status"], len(view["steps"])) == ("done", 2)
    assert second.http.get(view["film"]).content == film
    part = second.http.get(view["film"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, film[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(film)}"
    assert second.http.get(view["film"], headers={"Range": f"bytes={len(film)}-"}).status_code == 416
    picture = second.http.get(view["steps"][0]["keyframe"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert second.http.get(view["steps"][1]["clips"][0]).status_code == 200

    # What stands before the edited step is fetched, not made again.
    assert second.http.put(f"{address}/steps/2", json={"action": "Pour it"}).status_code == 202
    assert second.ended(job_id) == "done"
    assert {step for _, step in second.made} == {0, 2}
    assert second.http.get(view["film"]).content != film

    assert second.http.delete(address).status_code == 204
    assert second.jobs.results is not None
    assert [found.key for found in second.jobs.results.store.list()] == [LEASE]


def test_another_machine_continues_unfinished_jobs(machines: Callable[[str], Machine]) -> None:
    first = machines("first")
    (first.folder / "hold-clip").touch()
    job_id = first.create()
    first.jobs.stop()
    second = machines("second")
    assert second.ended(job_id) == "done"


def test_two_services_do_not_share_a_place(
    machines: Callable[[str], Machine], tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    first = machines("first")
    url = f"{bucket}/results"
    models = HeldModels(tmp_path, config.Serve())
    with (
        pytest.raises(UsageError, match="another service is at work in it"),
        serving.running(models, tmp_path, url),
    ):
        raise AssertionError("the service must not start")
    assert first.jobs.results is not None and not first.jobs.results.lost
    # As if it had been suspended, and another one had taken its place meanwhile.
    Store(url).put(LEASE, b"{}")
    end = time.monotonic() + 5
    while not first.jobs.results.lost:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_store_that_is_away_costs_no_film(
    machines: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    monkeypatch.setattr("pipeline.platform.storage.TRIES", 1)
    first = machines("first")
    endpoint = Store.put

    def away(*_: object) -> None:
        raise jobs_module.TransientError("the store is away")

    monkeypatch.setattr(Store, "put", away)
    job_id = first.create()
    assert first.ended(job_id) == "done"
    address = f"/v1/narratives/{job_id}"
    assert first.http.get(f"{address}/film").status_code == 200
    monkeypatch.setattr(Store, "put", endpoint)
    first.jobs.sweep()
    assert [job_id for job_id, _ in Results(f"{bucket}/results").states()] == [job_id]

    monkeypatch.setattr(Store, "head", away)
    answer = first.http.get(f"{address}/film")
    assert (answer.status_code, bucket in answer.text) == (503, False)


def test_each_job_and_piece_is_a_line_of_the_log(
    machines: Callable[[str], Machine], capfd: pytest.CaptureFixture[str]
) -> None:
    first = machines("first")
    job_id = first.create()
    assert first.ended(job_id) == "done"
    errors = capfd.readouterr().err
    assert KEY not in errors and GOAL.goal not in errors
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    mine = [line for line in lines if line.get("job") == job_id]
    assert [line["status"] for line in mine if line["event"] == "job"] == ["queued", "running", "done"]
    pieces = [(line["piece"], line.get("step")) for line in mine if line["event"] == "piece"]
    assert set(pieces) == {(kind, step) for kind in ("plan", "keyframe", "clip") for step in (1, 2)} | {
        ("film", 0)
    }


def test_a_place_that_is_refused_is_reported_at_the_start(tmp_path: Path, bucket: str) -> None:
    models = HeldModels(tmp_path, config.Serve())
    with pytest.raises(RefusedError), serving.running(models, tmp_path, "s3://no-such-bucket/results"):
        raise AssertionError("the service must not start")
