"""The HTTP interface over jobs in this process, called by a client made from its OpenAPI document."""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from generation import config
from generation.film.make import make_film
from generation.film.parts import FilmModels
from generation.service.http import build_app
from generation.service.jobs import Jobs
from generation.service.records import Limits, Work
from generation.service.views import Models
from tests.support.browser import ENTER, browsing
from tests.support.film_parts import FRAMES, Decoder, Encoder, HeldPlanner, HeldRenderer
from tests.support.listening import listening
from tests.support.openapi_client import Client

KEYS = {"ann": "key-of-ann-0123456789", "bob": "key-of-bob-0123456789"}
GOAL = "How to make spring rolls?"
OPTIONS = config.Serve(
    max_running_jobs=2, max_queued_jobs=2, max_jobs_per_key=3, max_streams_per_key=2,
    max_body_bytes=400_000, max_goal_chars=100, max_picture_pixels=24_950_000, retention_h=1,
)  # fmt: skip


@dataclass
class Service:
    folder: Path
    url: str = ""
    ready: bool = True
    clients: dict[str, Client] = field(default_factory=dict)

    def make(self, work: Work) -> None:
        models = FilmModels(
            director=HeldPlanner(self.folder), decoder=Decoder(), encoder=Encoder(),
            generator=HeldRenderer(self.folder),
        )  # fmt: skip
        make_film(
            work.request, models, work.out, options=config.Film(upscale_px=32), renderers=2,
            on_event=work.on_event, cancelled=work.cancelled,
        )  # fmt: skip

    def models(self) -> Models | None:
        return Models(director="stand-in", generator="stand-in", notice="no models") if self.ready else None

    def hold(self, part: str) -> Path:
        (self.folder / f"hold-{part}").touch()
        return self.folder / f"hold-{part}"

    def post(self, body: bytes) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEYS['ann']}", "Content-Type": "application/json"}
        return httpx.post(f"{self.url}/v1/narratives", content=body, headers=headers, timeout=30)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    limits = Limits(max_running=2, max_queued=2, max_per_owner=3, retention_s=3600)
    jobs = Jobs(tmp_path / "jobs", found.make, limits)
    app = build_app(jobs, OPTIONS, max_steps=12, keys=list(KEYS.values()), models=found.models)
    with listening(app) as found.url:
        jobs.start()
        found.clients = {name: Client(found.url, key) for name, key in KEYS.items()}
        yield found
        jobs.stop()
        for hold in tmp_path.glob("hold-*"):
            hold.unlink()


@pytest.fixture
def ann(service: Service) -> Client:
    return service.clients["ann"]


def create(client: Client, **wanted: Any) -> str:
    answer = client("create_narrative", {"goal": GOAL} | wanted)
    assert answer.status == 202
    return str(answer.tree["id"])


def ended(client: Client, job_id: str, status: str = "done") -> dict[str, Any]:
    with client.events("watch_narrative", id=job_id) as events:
        *_, (_, last) = events
    assert last["status"] == status, last
    assert last == client("get_narrative", id=job_id).tree
    return dict(last)


def test_a_film_is_made_and_each_piece_is_reported_as_soon_as_it_exists(
    service: Service, ann: Client
) -> None:
    held = [service.hold("director"), service.hold("generator")]
    job_id = create(ann, steps=3, seed=5)
    seen: list[tuple[str, Any]] = []
    with ann.events("watch_narrative", id=job_id) as events:
        for name, tree in events:
            seen.append((name, tree))
            # The key frame of the first step is there while the director writes the second.
            if name == "step" and tree["keyframe"] and held:
                assert (tree["step"], tree["clips"]) == (1, [])
                assert not any(t["step"] == 3 for n, t in seen if n == "step")
                assert ann.fetch(tree["keyframe"]).headers["content-type"] == "image/png"
                assert ann("get_film", id=job_id).status == 409
                while held:
                    held.pop().unlink()
    assert seen[0][0] == seen[-1][0] == "narrative"
    statuses = [tree["status"] for name, tree in seen if name == "narrative"]
    assert statuses[-1] == "done" and set(statuses) <= {"queued", "running", "done"}
    for number in (1, 2, 3):
        steps = [tree for name, tree in seen if name == "step" and tree["step"] == number]
        pictures = [bool(step["keyframe"]) for step in steps]
        clips = [len(step["clips"]) for step in steps]
        assert pictures == sorted(pictures) and clips == sorted(clips)
    whole = seen[-1][1]
    assert [step["action"] for step in whole["steps"]] == [f"Do part {n} of {GOAL}" for n in (1, 2, 3)]
    for step in whole["steps"]:
        [clip] = [ann.fetch(address) for address in step["clips"]]
        with av.open(io.BytesIO(clip.content)) as container:
            assert len(list(container.decode(video=0))) == FRAMES
    film = ann("get_film", id=job_id)
    with av.open(io.BytesIO(film.content)) as container:
        assert len(container.chapters()) == 3
        assert len(list(container.decode(video=0))) == 3 * FRAMES
    ranged = httpx.get(
        service.url + whole["film"],
        headers={"Authorization": f"Bearer {KEYS['ann']}", "Range": "bytes=0-9"},
    )
    assert ranged.status_code == 206 and ranged.content == film.content[:10]


def test_a_step_is_edited_and_what_depends_on_it_is_made_again(service: Service, ann: Client) -> None:
    job_id = create(ann, steps=3)
    before = ended(ann, job_id)
    pictures = [ann.fetch(step["keyframe"]).content for step in before["steps"]]
    log = service.folder / "generator.log"
    log.unlink()
    held = service.hold("generator")
    assert ann("edit_step", {"action": "Fry the onion"}, id=job_id, step=2).status == 202
    assert ann("edit_step", {"action": "Fry it"}, id=job_id, step=2).status == 409
    assert ann("delete_narrative", id=job_id).status == 409
    held.unlink()
    after = ended(ann, job_id)
    assert [step["action"] for step in after["steps"]] == [
        before["steps"][0]["action"], "Fry the onion", before["steps"][2]["action"],
    ]  # fmt: skip
    assert [step["edited"] for step in after["steps"]] == [False, True, False]
    again = [ann.fetch(step["keyframe"]).content for step in after["steps"]]
    assert [old == new for old, new in zip(pictures, again, strict=True)] == [True, False, False]
    assert len(log.read_text().splitlines()) == 2
    assert ann("edit_step", {"action": "Fry"}, id=job_id, step=4).status == 422
    assert ann("edit_step", {"action": " "}, id=job_id, step=1).status == 422


def test_a_job_is_listed_cancelled_and_removed(service: Service, ann: Client) -> None:
    held = service.hold("generator")
    first, second = create(ann, steps=2), create(ann, steps=1, goal="How to make tea?")
    listed = ann("list_narratives", limit=1).tree
    assert (listed["total"], [each["id"] for each in listed["narratives"]]) == (2, [second])
    assert ann("list_narratives", offset=1).tree["narratives"][0]["id"] == first
    assert ann("cancel_narrative", id=first).tree["status"] in ("cancelling", "cancelled")
    held.unlink()
    ended(ann, first, "cancelled")
    ended(ann, second)
    assert ann("cancel_narrative", id=second).status == 409
    for job_id in (first, second):
        assert ann("delete_narrative", id=job_id).status == 204
        assert ann("get_narrative", id=job_id).status == 404
        assert not (service.folder / "jobs" / job_id).exists()


def test_a_key_opens_its_own_narratives_only(service: Service, ann: Client) -> None:
    job_id = create(ann, steps=1)
    whole = ended(ann, job_id)
    bob, nobody, wrong = service.clients["bob"], Client(service.url, None), Client(service.url, "key")
    for operation, more in (
        ("get_narrative", {}), ("watch_narrative", {}), ("get_film", {}), ("cancel_narrative", {}),
        ("delete_narrative", {}), ("get_keyframe", {"step": 1}), ("get_clip", {"step": 1, "number": 1}),
    ):  # fmt: skip
        assert bob(operation, id=job_id, **more).status == 404
        for client in (nobody, wrong):
            answer = client(operation, id=job_id, **more)
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert bob("list_narratives").tree == {"narratives": [], "total": 0}
    assert bob.fetch(whole["steps"][0]["clips"][0]).status_code == 404
    assert nobody("create_narrative", {"goal": GOAL}).status == 401
    assert all(KEYS["ann"] not in path.read_text() for path in (service.folder / "jobs").glob("*/job.json"))


def test_what_is_bounded_is_refused_with_the_time_to_try_again(service: Service, ann: Client) -> None:
    held = service.hold("generator")
    mine = [create(ann, steps=1, seed=seed) for seed in range(3)]
    answer = ann("create_narrative", {"goal": GOAL})
    assert (answer.status, answer.headers["retry-after"]) == (429, "10")
    assert "3 of your narratives are unfinished" in answer.tree["detail"]
    bob = service.clients["bob"]
    create(bob)
    assert "queue is full" in bob("create_narrative", {"goal": GOAL}).tree["detail"]
    with ann.events("watch_narrative", id=mine[0]) as one, ann.events("watch_narrative", id=mine[1]) as two:
        assert next(one)[0] == next(two)[0] == "narrative"
        assert ann("watch_narrative", id=mine[2]).status == 429
    held.unlink()


def picture(width: int = 8, height: int = 8, form: str = "PNG", mode: str = "RGB") -> str:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), (250, 120, 10) if mode == "RGB" else 1).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_picture_of_the_first_step_comes_inside_the_request(ann: Client) -> None:
    first = {"text": "Peel the carrots", "picture": picture(3000, 2000)}
    whole = ended(ann, create(ann, steps=2, first_step=first))
    assert whole["steps"][0]["action"] == "Peel the carrots"
    shown = Image.open(io.BytesIO(ann.fetch(whole["steps"][0]["keyframe"]).content))
    assert shown.convert("RGB").getpixel((5, 5)) == (250, 120, 10)


def first_step(**fields: Any) -> str:
    return json.dumps({"goal": GOAL, "first_step": fields})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{}", "goal"),
        ('{"goal": "   "}', "goal"),
        ('{"goal": "two\\nlines"}', "goal"),
        ('{"goal": "\\ud800"}', "goal"),
        ('{"goal": "x", "\\ud800": 1}', "unicode"),
        (json.dumps({"goal": "x" * 101}), "at most 100"),
        ('{"goal": "x", "steps": 0}', "steps"),
        ('{"goal": "x", "steps": 13}', "at most 12"),
        ('{"goal": "x", "seed": -1}', "seed"),
        ('{"goal": "x", "seed": 1e400}', "seed"),
        ('{"goal": "x", "seed": NaN}', "seed"),
        ('{"goal": "x", "speed": 2}', "speed"),
        ("[" * 5000, "parsing the body"),
        ("{" * 100, "body"),
        ("", "body"),
        (first_step(picture="x"), "text"),
        (first_step(text="Peel\ud800"), "text"),
        (first_step(text="Peel", picture="/etc/passwd"), "base64"),
        (first_step(text="Peel", picture="http://127.0.0.1/a.png"), "base64"),
        (first_step(text="Peel", picture="\u00e9"), "base64"),
        (first_step(text="Peel", picture=picture(form="GIF")), "PNG, JPEG"),
        (first_step(text="Peel", picture=picture(6300, 6300, mode="1")), "at most 24950000"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_with_its_reason(service: Service, body: str, reason: str) -> None:
    answer = service.post(body.encode())
    assert answer.status_code == (400 if "[[" in body else 422), answer.text
    assert reason in answer.json()["detail"]


def used_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_large_pictures_at_once_cost_the_memory_of_one(service: Service) -> None:
    body = first_step(text="Peel", picture=picture(4990, 4990, mode="1")).encode()
    used, most = used_bytes(), 0
    with ThreadPoolExecutor(6) as threads:
        answers = [threads.submit(service.post, body) for _ in range(6)]
        while not all(answer.done() for answer in answers):
            most = max(most, used_bytes() - used)
            time.sleep(0.005)
    assert {answer.result().status_code for answer in answers} <= {202, 429}
    assert most < 250_000_000


def test_too_large_a_body_is_not_read(service: Service) -> None:
    large = first_step(text="x", picture="A" * 500_000).encode()
    assert service.post(large).status_code == 413
    headers = {"Authorization": f"Bearer {KEYS['ann']}"}
    pieces = (large[at : at + 1000] for at in range(0, len(large), 1000))
    answer = httpx.post(f"{service.url}/v1/narratives", content=pieces, headers=headers)
    assert answer.status_code == 413


def test_health_readiness_and_models(service: Service) -> None:
    nobody = Client(service.url, None)
    assert nobody("health").tree == nobody("ready").tree == {"status": "ok"}
    assert nobody("models").tree["notice"] == "no models"
    service.ready = False
    assert (nobody("health").status, nobody("ready").status, nobody("models").status) == (200, 503, 503)


def test_there_is_nothing_at_other_addresses(service: Service, ann: Client) -> None:
    for path in ("/v1/narratives/nobody", "/v1/narratives/..%2F..%2Fetc", "/studio.py", "/../http.py"):
        assert ann.fetch(path).status_code == 404
    page = ann.fetch("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http:" not in page.text and "https:" not in page.text


def test_a_browser_asks_for_a_film_watches_it_appear_and_edits_a_step(service: Service) -> None:
    held = service.hold("generator")
    with browsing() as browser:
        browser.resize(390)
        browser.open(f"{service.url}/#key={KEYS['ann']}")
        browser.type("#steps", "2")
        browser.type("#goal", f"{GOAL}{ENTER}")
        # Both steps and their pictures are there while the first clip is still being made.
        browser.wait_for(lambda: "2. Do part 2" in browser.text("#plan"))
        shown = "return document.querySelectorAll('#plan img:not([hidden])').length"
        browser.wait_for(lambda: browser.run(shown) == 2)
        assert browser.text("#status") == "being made" and browser.fits()
        held.unlink()
        browser.wait_for(lambda: browser.text("#status") == "done")
        # An edit or a removal before they have arrived would meet addresses without content.
        playable = (
            "return [...document.querySelectorAll('video[src]')].filter((each) => each.readyState).length"
        )
        browser.wait_for(lambda: browser.run(playable) == 3)
        browser.click("#films button")  # opens the same film again
        browser.wait_for(lambda: browser.run(playable) == 3)

        browser.click("#plan li:nth-child(2) summary")
        browser.type("#plan li:nth-child(2) form input", f"Fold the <b>rolls</b>{ENTER}")
        browser.wait_for(lambda: "2. Fold the <b>rolls</b>" in browser.text("#plan"))
        browser.wait_for(lambda: browser.text("#status") == "done")
        browser.wait_for(lambda: browser.run(playable) == 3)
        browser.click("#remove")
        browser.wait_for(lambda: "None yet" in browser.text("nav"))
        assert browser.errors() == []
