"""The server of our own: it answers, keeps to a schema and repeats itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models import llamacpp
from models.errors import TransientError
from models.language import Endpoint, LanguageClient, Question
from models.server import Server, ServerError
from tests.support.chat import Store
from tests.support.embedded import embedded_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with embedded_server(tmp_path_factory.mktemp("server"), context_tokens=1024) as started:
        yield started


def client(server: Server) -> LanguageClient:
    endpoint = Endpoint(base_url=server.base_url, model="smollm2", concurrency=2, max_retries=0)
    return LanguageClient(endpoint, Store())


def question(dish: str) -> Question:
    """Fields, a closed list and a bound that no small model would keep to by itself."""
    return Question(
        instructions="Answer.",
        material=f"What is {dish}?",
        schema={
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["zrk", "qwx"]},
                "words": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
            },
            "required": ["kind", "words"],
            "additionalProperties": False,
        },
        max_tokens=100,
    )


def test_answers_keep_to_the_schema_and_do_not_depend_on_what_was_asked_before(server: Server) -> None:
    soup, bread = question("soup"), question("bread")
    first = client(server).ask([soup])
    again = client(server).ask([bread, soup])
    assert [answer.content for answer in again[1:]] == [answer.content for answer in first]
    for answer in again:
        assert answer.content is not None, answer.problem
        assert answer.content.keys() == {"kind", "words"}
        assert answer.content["kind"] in ("zrk", "qwx")
        assert len(answer.content["words"]) <= 3


def test_it_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    with embedded_server(tmp_path, context_tokens=512) as server:
        pass
    with pytest.raises(TransientError):
        client(server).ask([question("soup")])


def test_a_model_that_is_none_is_refused_with_the_engine_s_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    command = llamacpp.command(broken, threads=1, context_tokens=512)
    with pytest.raises(ServerError, match=r"broken\.gguf did not start: ") as caught:
        Server(command, host="127.0.0.1", deadline_s=60, log=tmp_path / "log")
    assert "Failed to init server" in str(caught.value)
