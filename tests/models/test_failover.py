"""Several addresses, and the ledger of what was asked of them, against real HTTP servers."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from models.budget import Budget
from models.errors import BudgetError, EndpointError, TransientError
from models.language import Answer, Endpoint, LanguageClient, Problem
from models.ledger import Ledger, Total
from tests.support.chat import ChatServer, Reply, Store, completion, endpoint, question, replies, said

GOOD = completion('{"n": 1}')


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.pacing.FIRST_WAIT_S", 0.01)


def nowhere() -> str:
    """The address of a server that has just gone."""
    server = ChatServer(replies())
    server.server_close()
    return server.base_url


def test_peers_share_the_load() -> None:
    both = threading.Barrier(2)

    def answer(request: dict[str, Any]) -> Reply:
        # Breaks, and with it the test, unless each has one at the same time.
        both.wait(timeout=30)
        return GOOD

    with ChatServer(answer) as one, ChatServer(answer) as two:
        shared = endpoint(one, concurrency=1, others=(endpoint(two, concurrency=1),))
        answers = LanguageClient(shared, Store()).ask([question(str(number)) for number in range(6)])
    assert answers == [said(1)] * 6
    assert len(one.requests) == len(two.requests) == 3


@pytest.mark.parametrize("broken", [Reply({}, 500), Reply({}, 429, Retry_After="60"), None])
def test_a_peer_stands_in_for_one_that_fails(broken: Reply | None) -> None:
    store = Store()
    with ChatServer(lambda request: broken) as one, ChatServer(lambda request: GOOD) as two:
        shared = endpoint(one, max_retries=1, others=(endpoint(two),))
        answers = LanguageClient(shared, store).ask([question(str(number)) for number in range(4)])
    assert answers == [said(1)] * 4 and len(two.requests) == 4 and len(store) == 4


def test_a_peer_stands_in_for_one_that_is_not_there_and_for_one_that_refuses() -> None:
    gone = Endpoint(base_url=nowhere(), model="m", max_retries=0)
    with ChatServer(lambda request: Reply({}, 401)) as closed, ChatServer(lambda request: GOOD) as two:
        for first in (gone, endpoint(closed, max_retries=0)):
            client = LanguageClient(Endpoint(**fields(first), others=(endpoint(two),)), Store())
            assert client.ask([question(str(number)) for number in range(3)]) == [said(1)] * 3
            assert client.ask([question("again")]) == [said(1)]
        assert len(closed.requests) <= 3, "who refuses once is not asked again"
        refused = len(closed.requests)
        client.ask([question("another")])
        assert len(closed.requests) == refused


def fields(of: Endpoint) -> dict[str, Any]:
    return {"base_url": of.base_url, "model": of.model, "max_retries": of.max_retries}


def test_another_model_is_asked_only_when_all_of_the_first_fail() -> None:
    store = Store()
    healthy = False

    def answer(request: dict[str, Any]) -> Reply:
        return GOOD if healthy else Reply({"error": {"message": "down"}}, 500)

    with ExitStack() as stack:
        one, two = (stack.enter_context(ChatServer(answer)) for _ in range(2))
        last = stack.enter_context(ChatServer(lambda request: completion('{"n": 2}')))
        other = Endpoint(base_url=last.base_url, model="small", schema_form="json_object")
        client = LanguageClient(endpoint(one, max_retries=2, others=(endpoint(two), other)), store)
        (answered,) = client.ask([question("one")])
        assert (answered.content, answered.model) == ({"n": 2}, "small")
        assert len(one.requests) + len(two.requests) == 3 and len(last.requests) == 1
        assert last.requests[0]["response_format"]["type"] == "json_object"
        healthy = True
        (remembered,) = client.ask([question("one")])
        assert remembered == answered, "it is the answer to this question, whoever gave it"
        assert client.ask([question("two")]) == [said(1)]
        assert len(last.requests) == 1


def test_a_hanging_endpoint_leaves_time_for_the_other_model() -> None:
    release = threading.Event()

    def hang(request: dict[str, Any]) -> Reply:
        release.wait(30)
        return GOOD

    with ChatServer(hang) as one, ChatServer(lambda request: GOOD) as two:
        other = Endpoint(base_url=two.base_url, model="small")
        client = LanguageClient(endpoint(one, deadline_s=1.0, others=(other,)), Store())
        try:
            assert [answer.model for answer in client.ask([question("one")])] == ["small"]
        finally:
            release.set()


def test_when_all_fail_the_error_is_one_that_may_pass() -> None:
    with (
        ChatServer(lambda request: Reply({}, 503)) as one,
        ChatServer(lambda request: Reply({}, 404)) as two,
    ):
        other = Endpoint(base_url=two.base_url, model="small")
        with pytest.raises(TransientError, match="503"):
            LanguageClient(endpoint(one, max_retries=0, others=(other,)), Store()).ask([question("one")])
        with pytest.raises(EndpointError, match="look at model, which is small"):
            LanguageClient(other, Store()).ask([question("one")])


def test_a_first_model_that_is_not_there_may_be_back_whatever_the_other_says() -> None:
    gone = Endpoint(base_url=nowhere(), model="m", max_retries=2)
    with ChatServer(lambda request: Reply({}, 401)) as closed:
        other = Endpoint(base_url=closed.base_url, model="small")
        client = LanguageClient(Endpoint(**fields(gone), others=(other,)), Store())
        for material in ("one", "two"):
            with pytest.raises(TransientError, match=gone.base_url):
                client.ask([question(material)])


def test_a_server_that_takes_two_at_a_time_is_asked_two_at_a_time() -> None:
    lock, inside, refused = threading.Lock(), 0, []

    def answer(request: dict[str, Any]) -> Reply:
        nonlocal inside
        with lock:
            inside += 1
            busy = inside > 2
        threading.Event().wait(0.02)
        with lock:
            inside -= 1
        if busy:
            refused.append(request)
            return Reply({}, 429)
        return GOOD

    with ChatServer(answer) as server:
        client = LanguageClient(endpoint(server, concurrency=8, max_retries=50), Store())
        assert client.ask([question(str(number)) for number in range(30)]) == [said(1)] * 30
        before = len(refused)
        assert client.ask([question(f"more {number}") for number in range(6)]) == [said(1)] * 6
    assert before >= 6, "eight came at first"
    assert len(refused) - before < 6, "what was learned holds for the next call"


def test_the_ledger_holds_every_request_and_what_it_cost(tmp_path: Path) -> None:
    cut = Reply('{"choices": [{"mess', 200, Content_Length="500")
    script = [
        Reply({}, 429), GOOD, completion("One."), completion('{"n": 2}'), cut, Reply({}, 500), GOOD,
        Reply({"error": {"code": "content_filter"}}, 400), completion("x" * 2_000_000),
    ]  # fmt: skip
    ledger, store = Ledger(tmp_path), Store()
    with ChatServer(replies(*script)) as server:
        priced = endpoint(server, concurrency=1, input_price=1000.0, output_price=2000.0)
        client = LanguageClient(priced, store, ledger=ledger, stage="caption")
        answers = client.ask([question(str(number)) for number in range(5)])
        client.ask([question("0"), question("1"), question("2"), question("4")])
    assert [answer.problem for answer in answers] == [None] * 3 + [Problem.REFUSED, Problem.TOO_LONG]
    assert answers[1] == Answer(content={"n": 2}, model="m", input_tokens=14, output_tokens=10)
    (total,) = ledger.totals()
    assert total == Total(
        stage="caption", model="m", requests=len(script), answered=5, failed=4, unknown=2,
        # The second question was mended: both of its requests were remembered.
        remembered=5, input_tokens=4 * 7, output_tokens=4 * 5,
        usd=pytest.approx(4 * (0.007 + 0.01)), at_most_usd=total.at_most_usd,
    )  # fmt: skip
    # At most: every byte a token that is read, and the whole answer that was allowed.
    request = json.dumps(server.requests[0])
    assert 512 * 0.002 < (total.at_most_usd - total.usd) / 2 < 512 * 0.002 + 2 * len(request) * 0.001


def test_a_spent_budget_ends_the_asking(tmp_path: Path) -> None:
    store = Store()
    with ChatServer(lambda request: GOOD) as server:
        client = LanguageClient(
            endpoint(server, concurrency=3), store, ledger=Ledger(tmp_path, Budget(max_requests=4))
        )
        with pytest.raises(BudgetError, match=r"budget\.max_requests, which is 4"):
            client.ask([question(str(number)) for number in range(20)])
        assert len(server.requests) == len(store) == 4
        larger = Ledger(tmp_path, Budget(max_requests=20))
        client = LanguageClient(endpoint(server), store, ledger=larger)
        assert client.ask([question(str(number)) for number in range(20)]) == [said(1)] * 20
        assert len(server.requests) == 20


def test_the_same_question_twice_in_one_call_is_asked_once() -> None:
    with ChatServer(lambda request: GOOD) as server:
        assert LanguageClient(endpoint(server), Store()).ask([question("one")] * 5) == [said(1)] * 5
        assert len(server.requests) == 1
