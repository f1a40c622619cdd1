"""Jobs outlive the process that makes them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from generation.film.make import FilmCancelled
from generation.film.plan import FilmBusyError, FilmError, FirstStep, Request
from generation.service.jobs import Job, Jobs, QueueFullError

GOAL = Request(goal="How to make tea?", seed=3, steps=2)


class Maker:
    """Waits until it is let go, as a film does between its pieces."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[Request] = []

    def __call__(self, request: Request, out: Path, cancelled: Callable[[], bool]) -> None:
        self.asked.append(request)
        while not self.go.wait(0.01):
            if cancelled():
                raise FilmCancelled


def until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def state(folder: Path, job: Job) -> str:
    return str(json.loads((folder / job.id / "job.json").read_text())["status"])


def jobs(folder: Path, make: Callable[..., object], **limits: int) -> Jobs:
    made = Jobs(folder, make, **{"max_running": 1, "max_queued": 2} | limits)
    made.start()
    return made


def test_stopping_leaves_jobs_for_the_next_process(tmp_path: Path) -> None:
    maker = Maker()
    first = jobs(tmp_path, maker)
    picture = np.full((4, 6, 3), 9, np.uint8)
    asked = Request(goal="How to make tea?", seed=3, steps=2, first=FirstStep(text="Boil", picture=picture))
    running, waiting = first.submit("ann", asked), first.submit("ann", GOAL)
    until(lambda: state(tmp_path, running) == "running" and bool(maker.asked))
    first.stop()
    assert (state(tmp_path, running), state(tmp_path, waiting)) == ("running", "queued")

    again = Maker()
    again.go.set()
    second = jobs(tmp_path, again)
    until(lambda: {state(tmp_path, job) for job in (running, waiting)} == {"done"})
    assert [request.goal for request in again.asked] == [GOAL.goal] * 2
    restored = again.asked[0]
    assert (restored.seed, restored.steps) == (3, 2)
    assert restored.first is not None and np.array_equal(restored.first.picture, picture)
    # What has ended is not made again.
    second.stop()
    third = Maker()
    jobs(tmp_path, third).stop()
    assert third.asked == []


def test_a_cancellation_survives_a_kill(tmp_path: Path) -> None:
    killed = threading.Event()
    first = jobs(tmp_path, lambda *_: killed.wait(30))
    job = first.submit("ann", GOAL)
    until(lambda: state(tmp_path, job) == "running")
    assert first.cancel(job).status == "cancelling"
    second = jobs(tmp_path, Maker())
    until(lambda: state(tmp_path, job) == "cancelled")
    second.stop()
    killed.set()


def test_the_queue_has_an_end(tmp_path: Path) -> None:
    maker = Maker()
    made = jobs(tmp_path, maker, max_running=1, max_queued=1)
    for _ in range(2):
        last = made.submit("ann", GOAL)
    with pytest.raises(QueueFullError):
        made.submit("ann", GOAL)
    assert len(list(tmp_path.glob("*/job.json"))) == 2
    made.cancel(last)
    made.submit("ann", GOAL)
    made.stop()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FilmError("train it for longer"), "train it for longer"),
        (OSError("/secret/path"), "internal error"),
    ],
)
def test_a_failure_is_told_without_what_is_inside(tmp_path: Path, error: Exception, told: str) -> None:
    def fail(*_: object) -> None:
        raise error

    made = jobs(tmp_path, fail)
    job = made.submit("ann", GOAL)
    until(lambda: (made.find("ann", job.id) or job).status == "failed")
    error_told = json.loads((tmp_path / job.id / "job.json").read_text())["error"]
    assert told in error_told and "secret" not in error_told
    assert made.find("bob", job.id) is None and made.find("ann", "../x") is None
    made.stop()


def test_a_film_that_the_process_before_still_holds_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generation.service.jobs.BUSY_WAIT_S", 0.01)
    tries = list[int]()

    def busy(*_: object) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise FilmBusyError

    made = jobs(tmp_path, busy)
    job = made.submit("ann", GOAL)
    until(lambda: state(tmp_path, job) == "done")
    assert len(tries) == 3
    made.stop()
