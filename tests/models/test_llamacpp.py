"""The server of our own: it answers, keeps to a schema, repeats itself, and never outlives its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import weights
from models.errors import TransientError
from models.language import Endpoint, LanguageClient, Question
from models.llamacpp import LlamaServer
from tests.models.test_language import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaServer]:
    with LlamaServer(weights.smollm2(), host="127.0.0.1", threads=1, context_tokens=1024) as started:
        yield started


def client(server: LlamaServer) -> LanguageClient:
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


def test_answers_keep_to_the_schema_and_do_not_depend_on_what_was_asked_before(server: LlamaServer) -> None:
    soup, bread = question("soup"), question("bread")
    first = client(server).ask([soup])
    again = client(server).ask([bread, soup])
    assert again[1:] == first
    for answer in again:
        assert answer.content is not None, answer.problem
        assert answer.content.keys() == {"kind", "words"}
        assert answer.content["kind"] in ("zrk", "qwx")
        assert len(answer.content["words"]) <= 3


def test_it_is_gone_when_it_is_closed() -> None:
    with LlamaServer(weights.smollm2(), host="127.0.0.1", threads=1, context_tokens=512) as server:
        pass
    with pytest.raises(TransientError):
        client(server).ask([question("soup")])


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"did not start on .*broken\.gguf: ") as caught:
        LlamaServer(broken, host="127.0.0.1", threads=1, context_tokens=512)
    assert "Failed to init server" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux only")
def test_it_dies_with_its_parent_however_that_ends() -> None:
    code = (
        "import signal\n"
        "from models import weights\n"
        "from models.llamacpp import LlamaServer\n"
        "server = LlamaServer(weights.smollm2(), host='127.0.0.1', threads=1, context_tokens=512)\n"
        "print(server._process.pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert select.select([child], [], [], 0)[0] == [], "it lives while its parent does"
            parent.send_signal(signal.SIGKILL)
            # A process's file descriptor becomes readable when it ends.
            assert select.select([child], [], [], 20)[0] == [child]
        finally:
            parent.kill()
            os.close(child)
