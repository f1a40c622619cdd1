"""Servers of real S3 interfaces on this machine, and a proxy before them that counts and disturbs."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.platform.storage import Store, store_of

START_S = 30.0
PIECE_BYTES = 1 << 16
SLOW_S = 1.5
"""Pause in the middle of an answer that is slow."""
FAULTS = ("error", "slow", "truncated", "reset", "lost")
HOP_HEADERS = frozenset({"connection", "transfer-encoding", "keep-alive"})


@contextlib.contextmanager
def server(name: str) -> Iterator[str]:
    """Run an S3 server in a process of its own; yield its address.

    Args:
        name: ``moto`` (Python, in memory), or the script ``bin/s3rver.js`` of the npm package s3rver
            (Node.js, on disk; key and secret are ``S3RVER``).
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            _command(name, port, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _command(name: str, port: int, folder: str) -> list[str]:
    if name == "moto":
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return ["node", name, "--directory", folder, "--address", "127.0.0.1", "--port", str(port)]


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError("the S3 server did not start")


def make_bucket(endpoint: str, bucket: str) -> None:
    """Create a bucket; the server must take requests without a signature."""
    address = urlsplit(endpoint).netloc
    connection = http.client.HTTPConnection(address)
    connection.request("PUT", f"/{bucket}")
    answer = connection.getresponse()
    if answer.status not in (200, 409):
        raise RuntimeError(f"{endpoint}/{bucket}: {answer.status}")
    connection.close()


class Proxy:
    """HTTP server that passes requests on, counts what is read, and disturbs a share of them.

    A disturbed request is answered with an error, late, cut off in its middle, not at all, or not at all
    after it was carried out.

    Args:
        upstream: address of the server.
        share: of the requests that are disturbed, in [0, 1].

    Attributes:
        requests: number of requests by method.
        read: bytes of answers to GET by path, as far as they were sent.
        faults: number of disturbed requests by kind.
        endpoint: address of the proxy.
    """

    def __init__(self, upstream: str, *, share: float = 0.0, seed: int = 0) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.share = share
        self.requests: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._dice, self._lock = random.Random(seed), threading.Lock()
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method: str) -> str:
        """Return how this request is disturbed; empty if it is not."""
        with self._lock:
            self.requests[method] += 1
            kind = self._dice.choice(FAULTS) if self._dice.random() < self.share else ""
            if kind:
                self.faults[kind] += 1
        return kind

    def count(self, method: str, path: str, size: int) -> None:
        """Count bytes that were sent to the client."""
        if method == "GET":
            with self._lock:
                self.read[unquote(urlsplit(path).path)] += size


class _Server(ThreadingHTTPServer):
    """Server of a proxy."""

    daemon_threads = True

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Handler of a request to a proxy."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def do(self) -> None:
        kind = self.server.proxy.fault(self.command)
        body = self._body()
        if kind == "error":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if kind == "reset":
            self._hang_up()
            return
        connection = http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        if kind == "lost":
            answer.read()
            self._hang_up()
        else:
            self._answer(answer, kind)
        connection.close()

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, answer: http.client.HTTPResponse, kind: str) -> None:
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*HOP_HEADERS, "content-length", "server", "date"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        middle = len(data) // 2
        self._send(data[:middle])
        if kind == "slow":
            time.sleep(SLOW_S)
        if kind == "truncated":
            self._hang_up()
        else:
            self._send(data[middle:])

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self.wfile.write(piece)
            self.server.proxy.count(self.command, self.path, len(piece))

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def handle(self) -> None:
        # A client that was killed leaves its connection.
        with contextlib.suppress(OSError, http.client.HTTPException):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        return

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do  # noqa: N815


def environment(endpoint: str, key: str, secret: str) -> dict[str, str]:
    """Return the environment variables of a client of an S3 server."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@contextlib.contextmanager
def client(variables: Mapping[str, str]) -> Iterator[None]:
    """Make this process a client of a server, which keeps its copies in a folder of its own.

    Args:
        variables: see :func:`environment`.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(variables, VIDEOAUTEUR_CACHE=cache)
        store_of.cache_clear()
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def upload(bucket: str, folder: Path, prefix: str) -> int:
    """Upload a folder to a place in a bucket; return its size in bytes."""
    store, total = Store(f"{bucket}/{prefix}"), 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        store.put(path.relative_to(folder).as_posix(), path)
        total += path.stat().st_size
    return total
