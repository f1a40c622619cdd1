"""A chat server that answers as a test says, and a store of answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from models.language import Answer, Endpoint, Question

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}


class Reply:
    """Reply of the server to one request."""

    def __init__(self, body: object, status: int = 200, **headers: str) -> None:
        self.body = body if isinstance(body, str) else json.dumps(body)
        self.status = status
        kind = "text/html" if self.body.startswith("<") else "application/json"
        self.headers = {"Content-Type": kind} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }


def completion(content: str | None, finish: str = "stop", refusal: str | None = None) -> Reply:
    """A chat completion as OpenAI sends it."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "finish_reason": finish, "message": message, "logprobs": None}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return Reply({"id": "1", "object": "chat.completion", "created": 1, "model": "m",
                  "choices": [choice], "usage": usage})  # fmt: skip


class ChatServer(ThreadingHTTPServer):
    """An OpenAI-compatible server that answers as the test says; a context manager.

    Attributes:
        requests: the JSON bodies that came, in order.
        keys: the ``Authorization`` headers that came with them.
        queries: of the addresses that were asked.
        times: when they came, by the monotonic clock.
    """

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, Any]], Reply | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Chat)
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.queries: list[str] = []
        self.times: list[float] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Chat(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, ChatServer)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path.partition("?")[0] == "/v1/chat/completions"
        server.queries.append(self.path.partition("?")[2])
        server.times.append(time.monotonic())
        server.requests.append(request)
        server.keys.append(self.headers["Authorization"])
        reply = server.answer(request)
        if reply is None:
            # The connection is closed without a word.
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        # A client may have read enough.
        with suppress(ConnectionError):
            self.wfile.write(reply.body.encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Store(dict[str, str]):
    """An answer store in memory."""

    def put(self, key: str, value: str) -> None:
        assert key not in self, "what is stored is never asked again"
        self[key] = value


def replies(*items: Reply | None) -> Callable[[dict[str, Any]], Reply | None]:
    """One after the other."""
    rest = iter(items)
    return lambda request: next(rest)


def endpoint(server: ChatServer, **settings: Any) -> Endpoint:
    return Endpoint(base_url=server.base_url, model="m", **settings)


def question(material: str, **fields: Any) -> Question:
    return Question(instructions="Count.", material=material, schema=SCHEMA, **fields)


def said(number: int) -> Answer:
    """The answer that such a completion makes."""
    return Answer(content={"n": number}, model="m", input_tokens=7, output_tokens=5)
