"""The language client against a real HTTP server that misbehaves in every way a provider does."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from models.errors import EndpointError, TransientError
from models.language import Answer, Endpoint, LanguageClient, Problem, Question
from tests.support.chat import (
    SCHEMA,
    ChatServer,
    Reply,
    Store,
    completion,
    endpoint,
    question,
    replies,
    said,
)


def no_answer(problem: Problem) -> Answer:
    """An unusable one that was charged."""
    return Answer(content=None, problem=problem, model="m", input_tokens=7, output_tokens=5)


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no server names a pause, the next try comes soon."""
    monkeypatch.setattr("models.pacing.FIRST_WAIT_S", 0.01)


def test_an_answer_does_not_hold_the_key_nor_the_signature_that_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_KEY", "key-that-is-secret")
    schema = {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"]}
    asked = Question(instructions="Tell.", material="it", schema=schema)
    store = Store()
    with ChatServer(replies(completion('{"t": "key-that-is-secret and zq-51e0b7aa"}'))) as server:
        place = Endpoint(
            base_url=f"{server.base_url}?signature=zq-51e0b7aa", model="m", api_key_env="SOME_KEY"
        )
        (answer,) = LanguageClient(place, store).ask([asked])
    assert answer.content is not None
    assert "secret" not in str(answer.content) and "zq-51e0b7aa" not in str(answer.content)
    assert "zq-51e0b7aa" not in str(vars(store))
    assert server.queries == ["signature=zq-51e0b7aa"]


def test_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    asked = Question(
        instructions="Count.", material="three", schema=SCHEMA, examples=[("two", {"n": 2})],
        images=[b"\xff\xd8one", b"\xff\xd8two"], max_tokens=9,
    )  # fmt: skip
    with ChatServer(replies(completion('{"n": 3}'))) as server:
        client = LanguageClient(endpoint(server, api_key_env="SOME_KEY"), Store())
        assert client.ask([asked]) == [said(3)]
    assert server.keys == ["Bearer sk-1"]
    (request,) = server.requests
    assert request == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Count."},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": '{"n": 2}'},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9hvbmU="}},
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9h0d28="}},
                    {"type": "text", "text": "three"},
                ],
            },
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        },
        "temperature": 0,
        "seed": 0,
        "max_tokens": 9,
    }


def test_the_other_form_of_a_schema_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ChatServer(replies(completion('{"n": 3}'))) as server:
        LanguageClient(endpoint(server, schema_form="json_object"), Store()).ask([question("three")])
    assert server.requests[0]["response_format"] == {"type": "json_object", "schema": SCHEMA}
    assert server.requests[0]["messages"][-1] == {"role": "user", "content": "three"}


@pytest.mark.parametrize(
    ("first", "wait_s"),
    [
        (Reply({}, 429, Retry_After="0.3"), 0.3),
        (Reply({}, 429, Retry_After="9", retry_after_ms="200"), 0.2),
        (Reply({}, 429), 0),
        (Reply({}, 425), 0),
        (Reply({"error": {"message": "down"}}, 500), 0),
        (Reply("<html>bad gateway</html>", 502), 0),
        (Reply({}, 503, Retry_After="0.2"), 0.2),
        (Reply("<html>Log in first</html>"), 0),
        (Reply({"choices": "none"}), 0),
        (Reply('{"choices": [{"mess', 200, Content_Length="500"), 0),
        (None, 0),
    ],
)
def test_what_may_work_later_is_asked_again(first: Reply | None, wait_s: float) -> None:
    with ChatServer(replies(first, completion('{"n": 1}'))) as server:
        answers = LanguageClient(endpoint(server), Store()).ask([question("one")])
    assert answers == [said(1)]
    assert server.requests[0] == server.requests[1] and len(server.requests) == 2
    assert server.times[1] - server.times[0] >= wait_s


def test_a_pause_that_the_server_asks_for_is_kept_by_all() -> None:
    first, lock = threading.Event(), threading.Lock()

    def answer(request: dict[str, Any]) -> Reply:
        with lock:
            if not first.is_set():
                first.set()
                return Reply({}, 429, Retry_After="0.5")
        return completion('{"n": 1}')

    with ChatServer(answer) as server:
        client = LanguageClient(endpoint(server, concurrency=1), Store())
        assert client.ask([question("one"), question("two")]) == [said(1), said(1)]
        paused = [time_ - server.times[0] for time_ in server.times[1:]]
    assert len(paused) == 2 and min(paused) >= 0.5


def test_a_pause_longer_than_the_deadline_is_not_waited_for() -> None:
    with ChatServer(lambda request: Reply({}, 429, Retry_After="3600")) as server:
        client = LanguageClient(endpoint(server, deadline_s=5), Store())
        with pytest.raises(TransientError, match="left alone for 3600 s"):
            client.ask([question("one")])
        with pytest.raises(TransientError, match="left alone"):
            client.ask([question("two")])
        assert len(server.requests) == 1, "the next call knows it too"


def test_a_question_has_a_deadline_over_all_its_tries() -> None:
    with ChatServer(lambda request: Reply({}, 500)) as server:
        client = LanguageClient(endpoint(server, deadline_s=0.2, max_retries=10_000), Store())
        with pytest.raises(TransientError, match="tried"):
            client.ask([question("one")])
        assert 1 < len(server.requests) < 100


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (completion(None, refusal="I cannot help."), no_answer(Problem.REFUSED)),
        (completion("", "content_filter"), no_answer(Problem.REFUSED)),
        (completion('{"n": 1', "length"), no_answer(Problem.CUT_OFF)),
        (completion(""), no_answer(Problem.EMPTY)),
        (completion(None), no_answer(Problem.EMPTY)),
        (completion("x" * 10_000_000), Answer(content=None, problem=Problem.TOO_LONG, model="m")),
    ],
)
def test_an_unusable_answer_is_a_problem_and_kept(reply: Reply, answer: Answer) -> None:
    store = Store()
    with ChatServer(replies(reply)) as server:
        assert LanguageClient(endpoint(server), store).ask([question("one")]) == [answer]
        assert LanguageClient(endpoint(server), store).ask([question("one")]) == [answer]
        assert len(server.requests) == 1
    assert len(json.dumps(store)) < 1000


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply({"error": {"code": "content_filter", "message": "no"}}, 400), Problem.REFUSED),
        (
            Reply({"error": {"message": "triggering the content management policy", "code": None}}, 400),
            Problem.REFUSED,
        ),
        # OpenRouter, and what it says under the status of a success; xAI.
        (
            Reply(
                {"error": {"code": 403, "message": "requires moderation and your input was flagged"}}, 403
            ),
            Problem.REFUSED,
        ),
        (Reply({"error": {"code": 403, "message": "your input was flagged"}}), Problem.REFUSED),
        (
            Reply({"code": "no permission", "error": "Content violates usage guidelines."}, 403),
            Problem.REFUSED,
        ),
        (Reply({"error": {"code": "too_long", "message": "no"}}, 400), Problem.BAD_REQUEST),
        (
            Reply({"error": {"message": "This model's maximum context length is 9", "code": "x"}}, 400),
            Problem.BAD_REQUEST,
        ),
        (Reply("<html>too large</html>", 413), Problem.BAD_REQUEST),
        (Reply({"detail": "bad image"}, 422), Problem.BAD_REQUEST),
        (Reply({"detail": [{"msg": "bad image"}]}, 422), Problem.BAD_REQUEST),
    ],
)
def test_a_question_that_is_declined_is_a_problem_and_no_error(reply: Reply, problem: Problem) -> None:
    with ChatServer(replies(reply)) as server:
        answers = LanguageClient(endpoint(server), Store()).ask([question("one")])
    assert answers == [Answer(content=None, problem=problem)]


@pytest.mark.parametrize(
    ("text", "problem", "content", "complaint"),
    [
        ('{"n": 1', Problem.INVALID_JSON, None, "not one JSON object"),
        ("[1]", Problem.INVALID_JSON, None, "this is a list"),
        ("One.", Problem.INVALID_JSON, None, "not one JSON object"),
        ('{"n": NaN}', Problem.INVALID_JSON, None, "NaN is no number of JSON"),
        ('{"n": 1, "s": 1e999}', Problem.INVALID_JSON, None, "not JSON compliant"),
        # Hours, if every line break were tried as the end of the fence's first line.
        ("```" + "\n" * 400_000, Problem.INVALID_JSON, None, "not one JSON object"),
        ('{"n": 1, "s": "\\ud800"}', Problem.INVALID_JSON, None, "surrogates not allowed"),
        ("[" * 100_000, Problem.INVALID_JSON, None, "nested too deeply"),
        ('{"n": "one"}', Problem.WRONG_SCHEMA, {"n": "one"}, "answer['n']: 'one' is not of type 'integer'"),
    ],
)
def test_a_wrong_answer_is_shown_to_the_model_once_more(
    text: str, problem: Problem, content: dict[str, Any] | None, complaint: str
) -> None:
    good, store = completion('{"n": 1}'), Store()
    with ChatServer(replies(completion(text), good, completion(text), completion("no"))) as server:
        client = LanguageClient(endpoint(server), store)
        mended = Answer(content={"n": 1}, model="m", input_tokens=14, output_tokens=10)
        assert client.ask([question("one")]) == [mended]
        unusable = Answer(content=content, problem=problem, model="m", input_tokens=14, output_tokens=10)
        assert client.ask([question("two")]) == [unusable], "one attempt, and the first answer stands"
        assert client.ask([question("one"), question("two")]) == [mended, unusable]
    assert len(server.requests) == 4
    answered, asked = server.requests[1]["messages"][-2:]
    assert answered["role"] == "assistant" and text.startswith(answered["content"])
    assert asked["role"] == "user" and complaint in asked["content"]
    assert server.requests[1]["messages"][:-2] == server.requests[0]["messages"]


def test_a_key_that_a_server_puts_into_its_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "tr0ub4dor-and-3")
    store = Store()
    with ChatServer(replies(completion('{"n": 1, "key": "tr0ub4dor-and-3"}'))) as server:
        LanguageClient(endpoint(server), store).ask([question("soup")])
    (stored,) = store.values()
    assert "[redacted]" in stored and "tr0ub4dor" not in stored


@pytest.mark.parametrize("key", ["sk-first\nsk-second", "sk-\x07bell", "sk-schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with ChatServer(replies(completion("{}"))) as server:
        client = LanguageClient(endpoint(server, api_key_env="SOME_KEY"), Store())
        with pytest.raises(EndpointError, match="the key in SOME_KEY") as caught:
            client.ask([Question(instructions="Tell.", material="it", schema=SCHEMA)])
        assert server.requests == [] and "sk-" not in str(caught.value)


def test_an_object_in_a_fence_is_taken() -> None:
    with ChatServer(replies(completion('Here it is:\n```json\n{"n": 1}\n```\nBye.'))) as server:
        assert LanguageClient(endpoint(server), Store()).ask([question("one")]) == [said(1)]


@pytest.mark.parametrize("count", [10**30, -1, 1.5, "7", None])
def test_a_count_of_tokens_that_cannot_be_is_none(count: object) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 5}
    reply = Reply({"choices": [{"message": {"content": '{"n": 1}'}}], "usage": usage})
    with ChatServer(replies(reply)) as server:
        answers = LanguageClient(endpoint(server), Store()).ask([question("one")])
    assert answers == [Answer(content={"n": 1}, model="m")]


def test_a_server_on_this_machine_is_not_looked_for_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = ChatServer(replies())
    gone.server_close()
    monkeypatch.setenv("HTTP_PROXY", gone.base_url)
    with ChatServer(replies(completion('{"n": 1}'))) as server:
        assert LanguageClient(endpoint(server), Store()).ask([question("one")]) == [said(1)]


def test_follow_ups_come_after_the_material() -> None:
    with ChatServer(replies(completion('{"n": 1}'))) as server:
        client = LanguageClient(endpoint(server), Store())
        client.ask([question("one", images=[b"\xff\xd8"], follow_ups=[("uno", "In English.")])])
    assert server.requests[0]["messages"][2:] == [
        {"role": "assistant", "content": "uno"},
        {"role": "user", "content": "In English."},
    ]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply({"error": {"message": "try later"}}, 408), "try later"),
        (Reply({"error": {"message": "slow down"}}, 429), "slow down"),
        (Reply({"error": {"message": "overloaded"}}, 500), "overloaded"),
        # What a proxy or a gateway says in place of the server, under the status of a success.
        (Reply("<html>Log in first</html>"), "no chat completion"),
        (Reply({"error": {"message": "provider down", "code": 502}}), "answers 502: provider down"),
        (Reply({"id": "1", "object": "chat.completion", "choices": []}), "no chat completion"),
        (Reply({"choices": [{"index": 0, "finish_reason": "stop"}]}), "no chat completion"),
        (Reply('{"id": "1", "choi'), "no chat completion"),
    ],
)
def test_a_server_that_cannot_answer_is_named(reply: Reply, words: str) -> None:
    store = Store()
    with ChatServer(lambda request: reply) as server:
        with pytest.raises(TransientError) as caught:
            LanguageClient(endpoint(server, max_retries=1), store).ask([question("one")])
        assert server.base_url in str(caught.value)
    assert words in str(caught.value)
    assert store == {}


@pytest.mark.parametrize(
    ("status", "error", "option"),
    [
        (401, {"message": "no such key"}, "api_key_env, which is OPENAI_API_KEY"),
        (
            429,
            {"message": "no money", "code": "insufficient_quota"},
            "api_key_env, which is OPENAI_API_KEY",
        ),
        (403, {"message": "not yours"}, "api_key_env, which is OPENAI_API_KEY"),
        (404, {"message": "no model m"}, "model, which is m"),
        (405, {"message": "no POST here"}, "base_url, which is http://"),
        (400, {"message": "API key not valid."}, "api_key_env, which is OPENAI_API_KEY"),
        (400, {"message": "Model Not Exist"}, "model, which is m"),
        (400, {"message": "no", "param": "response_format"}, "schema_form, which is json_schema"),
        (422, {"message": "response_format: unknown type"}, "schema_form, which is json_schema"),
    ],
)
def test_a_refusal_of_all_requests_ends_at_once_and_names_the_option(
    status: int, error: dict[str, str], option: str
) -> None:
    with ChatServer(lambda request: Reply({"error": error}, status)) as server:
        with pytest.raises(EndpointError) as caught:
            LanguageClient(endpoint(server), Store()).ask([question("one")])
        assert len(server.requests) == 1
    assert f"{server.base_url} answers {status}" in str(caught.value)
    assert error["message"] in str(caught.value) and f"look at {option}" in str(caught.value)


def test_a_server_that_is_not_there() -> None:
    server = ChatServer(replies())
    server.server_close()
    with pytest.raises(TransientError, match=rf"127.0.0.1:{server.server_port}.*\(tried 3 times\)"):
        LanguageClient(endpoint(server, max_retries=2), Store()).ask([question("one")])


def test_a_server_that_hangs_is_given_up() -> None:
    release = threading.Event()

    def hang(request: dict[str, Any]) -> Reply:
        release.wait(30)
        return completion('{"n": 1}')

    with ChatServer(hang) as server:
        try:
            with pytest.raises(TransientError, match="timed out"):
                LanguageClient(endpoint(server, timeout_s=0.2, max_retries=1), Store()).ask([question("x")])
        finally:
            release.set()
    assert len(server.requests) == 2


def test_questions_go_out_together_but_never_more_than_allowed() -> None:
    together, one_more = threading.Barrier(3), threading.Event()
    lock = threading.Lock()
    inside = 0

    def answer(request: dict[str, Any]) -> Reply:
        nonlocal inside
        with lock:
            inside += 1
            if inside > 3:
                one_more.set()
        # Breaks, and with it the test, unless three are on their way at once.
        together.wait(timeout=30)
        # A fourth, if there is one, is given time to come.
        one_more.wait(timeout=0.3)
        with lock:
            inside -= 1
        return completion(json.dumps({"n": int(request["messages"][-1]["content"])}))

    with ChatServer(answer) as server:
        client = LanguageClient(endpoint(server, concurrency=3, max_retries=0), Store())
        answers = client.ask([question(str(number)) for number in range(6)])
    assert not one_more.is_set()
    assert answers == [said(number) for number in range(6)], "in the questions' order"


def test_an_answered_question_is_never_asked_again() -> None:
    store = Store()
    with ChatServer(replies(completion('{"n": 1}'), completion(""), completion('{"n": 9}'))) as server:
        first = LanguageClient(endpoint(server), store).ask([question("one")])
        unusable = LanguageClient(endpoint(server), store).ask([question("two")])
        # Another endpoint of the same model, and as many clients as there are.
        moved = Endpoint(base_url="http://127.0.0.1:9/v1", model="m", max_retries=0)
        assert LanguageClient(moved, store).ask([question("one"), question("two")]) == first + unusable
        assert len(server.requests) == 2
        # Anything that could change the answer makes it another question.
        with pytest.raises(TransientError):
            LanguageClient(moved, store).ask([question("one", max_tokens=1)])
        other = Endpoint(base_url=server.base_url, model="m2")
        (answer,) = LanguageClient(other, store).ask([question("one")])
        assert (answer.content, answer.model) == ({"n": 9}, "m2")
    assert unusable == [no_answer(Problem.EMPTY)]
    assert len(store) == 3


def test_one_failure_among_many_loses_no_answer() -> None:
    store = Store()

    def answer(request: dict[str, Any]) -> Reply:
        number = int(request["messages"][-1]["content"])
        return Reply({}, 500) if number == 2 and healthy is False else completion(f'{{"n": {number}}}')

    questions = [question(str(number)) for number in range(6)]
    healthy = False
    with ChatServer(answer) as server:
        client = LanguageClient(endpoint(server, concurrency=2, max_retries=0), store)
        with pytest.raises(TransientError):
            client.ask(questions)
        assert len(store) == 5
        healthy = True
        assert client.ask(questions) == [said(number) for number in range(6)]
    asked = [request["messages"][-1]["content"] for request in server.requests]
    assert sorted(asked) == ["0", "1", "2", "2", "3", "4", "5"]


def test_nothing_is_asked_where_nothing_is_to_be_asked() -> None:
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="m")
    assert LanguageClient(nowhere, Store()).ask([]) == []
