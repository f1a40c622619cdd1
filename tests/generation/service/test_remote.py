"""Calls wait in the front for a free replica; nothing is offered to a busy one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from typing import Any

import pytest

from generation.film.make import FilmCancelled
from generation.service import remote
from generation.service.remote import Remote


class _Response:
    def __init__(self, answer: Future[str]) -> None:
        self._answer = answer

    def result(self, timeout_s: float) -> str:
        return self._answer.result(timeout_s)

    def cancel(self) -> None:
        pass


class _Stream:
    def __init__(self, answers: list[str]) -> None:
        self._answers = answers

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def cancel(self) -> None:
        pass


class _Handle:
    """A deployment's handle that remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.answers: dict[str, Future[str]] = {}

    def options(self, *, stream: bool) -> _Handle:
        assert stream
        return self

    def __getattr__(self, method: str) -> Any:
        def send(word: str) -> Any:
            self.sent.append(word)
            if method == "plan":
                return _Stream([f"{word} 1", f"{word} 2"])
            return _Response(self.answers.setdefault(word, Future()))

        return type("Method", (), {"remote": staticmethod(send)})


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_call_is_sent_when_one_of_the_replicas_is_free() -> None:
    handle, free = _Handle(), Semaphore(2)
    caller = Remote(handle, free, lambda: False)  # type: ignore[arg-type]
    with ThreadPoolExecutor(3) as threads:
        results = [threads.submit(caller.call, "sample", word) for word in "abc"]
        _until(lambda: len(handle.sent) == 2)
        waiting = ({*"abc"} - {*handle.sent}).pop()
        time.sleep(0.05)
        assert len(handle.sent) == 2
        first, second = handle.sent
        handle.answers[first].set_result(first.upper())
        _until(lambda: len(handle.sent) == 3)
        assert handle.sent[-1] == waiting
        handle.answers[second].set_result(second.upper())
        handle.answers[waiting].set_result(waiting.upper())
        assert [result.result() for result in results] == ["A", "B", "C"]


def test_a_cancelled_call_stops_waiting_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "POLL_S", 0.01)
    handle, free, cancelled = _Handle(), Semaphore(0), threading.Event()
    caller = Remote(handle, free, cancelled.is_set)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(caller.call, "sample", "a")
        cancelled.set()
        with pytest.raises(FilmCancelled):
            result.result()
    free.release()
    assert handle.sent == []
    assert free.acquire(timeout=0)
    assert not free.acquire(timeout=0)


def test_a_stream_gives_its_place_back_before_the_caller_has_taken_all() -> None:
    handle, free = _Handle(), Semaphore(1)
    caller = Remote(handle, free, lambda: False)  # type: ignore[arg-type]
    first = caller.stream("plan", "a")
    assert next(first) == "a 1"
    assert list(caller.stream("plan", "b")) == ["b 1", "b 2"]
    assert list(first) == ["a 2"]
    assert handle.sent == ["a", "b"]


def test_a_stream_that_the_handle_refuses_keeps_no_place() -> None:
    free = Semaphore(1)
    caller = Remote(_Handle(), free, lambda: False)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        next(caller.stream("plan", "a", "an argument too many"))
    assert free.acquire(timeout=0)
