"""Jobs outlive the process that makes them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from generation.film.make import FilmCancelled, FilmEvent
from generation.film.plan import FilmBusyError, FilmError, FirstStep, Request
from generation.service.jobs import ABANDONED_S, Jobs
from generation.service.records import Change, Job, Limits, NotNowError, QueueFullError, Work

GOAL = Request(goal="How to make tea?", seed=3, steps=2)


class Maker:
    """Waits until it is let go, as a film does between its pieces."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[Request] = []

    def __call__(self, work: Work) -> None:
        self.asked.append(work.request)
        while not self.go.wait(0.01):
            if work.cancelled():
                raise FilmCancelled


def until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def state(folder: Path, job: Job) -> str:
    return str(json.loads((folder / job.id / "job.json").read_text())["status"])


def jobs(folder: Path, make: Callable[[Work], object], **limits: int) -> Jobs:
    bounds = {"max_running": 1, "max_queued": 2, "max_per_owner": 9} | limits
    made = Jobs(folder, make, Limits(**bounds))
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


def test_one_owner_cannot_fill_the_queue(tmp_path: Path) -> None:
    made = jobs(tmp_path, Maker(), max_running=1, max_queued=8, max_per_owner=2)
    for _ in range(2):
        made.submit("ann", GOAL)
    with pytest.raises(QueueFullError, match="2 of your narratives"):
        made.submit("ann", GOAL)
    made.submit("bob", GOAL)
    assert len(made.owned("ann")) == 2 and len(list(tmp_path.iterdir())) == 3
    made.stop()


@pytest.mark.parametrize("state", ["", "{", "[]", "null", '{"id": "x"}', "[" * 100_000, "\udcff"])
def test_a_damaged_state_does_not_keep_the_service_from_starting(tmp_path: Path, state: str) -> None:
    (tmp_path / ("0" * 32)).mkdir()
    (tmp_path / ("0" * 32) / "job.json").write_bytes(state.encode(errors="surrogateescape"))
    maker = Maker()
    maker.go.set()
    made = jobs(tmp_path, maker)
    job = made.submit("ann", GOAL)
    until(lambda: (made.find("ann", job.id) or job).status == "done")
    made.stop()


def test_old_jobs_and_what_killed_processes_left_are_removed(tmp_path: Path) -> None:
    maker = Maker()
    maker.go.set()
    made = jobs(tmp_path, maker, retention_s=3600)
    job = made.submit("ann", GOAL)
    until(lambda: (made.find("ann", job.id) or job).status == "done")
    half, foreign = tmp_path / ("1" * 32), tmp_path / "notes"
    for folder in (half, foreign):
        folder.mkdir()
        os.utime(folder, (0, time.time() - ABANDONED_S - 1))
    fresh = tmp_path / ("2" * 32)
    fresh.mkdir()
    made.sweep()
    assert not half.exists() and foreign.exists() and fresh.exists()
    assert made.find("ann", job.id) is not None
    ended = made.find("ann", job.id)
    assert ended is not None and ended.ended_s is not None
    made._jobs[job.id] = replace(ended, ended_s=ended.ended_s - 3601)
    made.sweep()
    assert made.find("ann", job.id) is None and not (tmp_path / job.id).exists()
    made.stop()


def test_only_what_has_ended_is_removed(tmp_path: Path) -> None:
    made = jobs(tmp_path, Maker())
    job = made.submit("ann", GOAL)
    with pytest.raises(NotNowError, match="cancel it first"):
        made.remove(job)
    changes: list[Change] = []
    with made.watched(job, changes.append):
        made.cancel(job)
        # The folder is written a moment before the change is published.
        until(lambda: bool(changes) and changes[-1].job.status == "cancelled")
    assert state(tmp_path, job) == "cancelled"
    made.remove(job)
    assert list(tmp_path.iterdir()) == []
    # A request may find the job just before another one, or the sweep, removes it.
    with pytest.raises(NotNowError, match="removed"):
        made.cancel(job)
    made.stop()


def test_pieces_of_a_film_are_news(tmp_path: Path) -> None:
    gate = threading.Event()

    def make(work: Work) -> None:
        gate.wait(30)
        for kind, step in (("plan", 1), ("keyframe", 1), ("clip", 1), ("film", 0)):
            work.on_event(FilmEvent(kind=kind, step=step, total=1, kept=False))

    made = jobs(tmp_path, make)
    job = made.submit("ann", GOAL)
    changes: list[Change] = []
    with made.watched(job, changes.append):
        gate.set()
        until(lambda: bool(changes) and changes[-1].job.status == "done")
    assert [change.step for change in changes if change.step] == [1, 1, 1]
    made.stop()
