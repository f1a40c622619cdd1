"""No word leaves the machine, and no secret leaves the process.

``python -m benchmarks.privacy [VIDEO]`` curates a video with the embedded models under ``strace``, on both
runners, and counts names that are looked up, addresses of other machines that are connected to or sent to,
and sockets that listen on more than loopback. Then it plants secrets - a key in the environment, one in the
query of an endpoint's URL, one among the arguments of a model server - lets a chat server echo them in the
headers and bodies of errors and in its answers, and searches every file that the run wrote and everything
that it printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.commands import parser_of
from benchmarks.fault_films import made_films, real_films
from benchmarks.machine import machine, markdown

SETTINGS = (
    "transcribe.require_speech=false", "match.required=false", "narrate.min_steps=1",
    "watermark.threshold=1",
)  # fmt: skip
KEY, IN_URL, ARGUMENT = "zq-key-7f3a91c2d5", "zq-signature-51e0b7aa", "zq-argument-9b2c44d1"
"""Secrets that stand nowhere else."""
ADDRESS = re.compile(
    r"sin6?_port=htons\((?P<port>\d+)\).*?"
    r"(?:inet_addr\(\"(?P<v4>[^\"]+)\"|inet_pton\(AF_INET6, \"(?P<v6>[^\"]+)\")"
)
LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.")
ANY = {"0.0.0.0", "::"}
DNS_PORT = 53
MODES = {
    # Status, and where the key is echoed.
    "error body": 500,
    "refusal": 401,
    "no completion": 200,
    "answer": 200,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both, print two tables, then one JSON object."""
    parser = parser_of("privacy", __doc__)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--runner", choices=("local", "ray"), nargs="+", default=("local", "ray"))
    parser.add_argument("--only", choices=("network", "secrets"), nargs="+", default=("network", "secrets"))
    given = parser.parse_args(arguments)
    print(f"{machine()}\n")
    figures: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = given.video or _video(folder / "films")
        if "network" in given.only:
            figures |= _network(video, folder, given.runner)
        if "secrets" in given.only:
            figures |= _secrets(video, folder)
    print(json.dumps(figures))


def _video(folder: Path) -> Path:
    """Return a short video: a segment of a real one where the sample data is there."""
    data = os.environ.get("VIDEOAUTEUR_DATA")
    return (real_films(Path(data), folder, 1) if data else made_films(folder, 1))[0]


def _network(video: Path, folder: Path, runners: Sequence[str]) -> dict[str, int]:
    """Trace runs, print a table, and add up."""
    if shutil.which("strace") is None:
        print("Network skipped: there is no strace.\n")
        return {}
    rows: list[list[object]] = []
    total = {"lookups": 0, "outside": 0, "listening_outside": 0}
    for runner in runners:
        trace = folder / f"{runner}.trace"
        command = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "120", "-e",
                   "trace=connect,sendto,sendmsg,sendmmsg,bind,listen", "-o", str(trace),
                   *_command(video, folder / runner, runner)]  # fmt: skip
        done = subprocess.run(command, env=_environment({}), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the run under strace ended with {done.returncode}:\n{done.stderr[-2000:]}")
        found = calls_outside(trace.read_text(errors="replace").splitlines())
        for name, lines in found.items():
            total[name] += len(lines)
            rows.append([runner, name, len(lines), "; ".join(lines[:3])])
    print(markdown(["runner", "calls", "number", "first ones"], rows), "\n")
    return total


def _command(video: Path, out: Path, runner: str, *settings: str) -> list[str]:
    chosen = [part for each in (*SETTINGS, *settings) for part in ("--set", each)]
    return [sys.executable, "-m", "pipeline", "curate", str(video), str(out), "--runner", runner, *chosen]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return own | dict(more)


def calls_outside(lines: Sequence[str]) -> dict[str, list[str]]:
    """Sort system calls of a trace: look-ups of names, traffic with other machines, and open sockets.

    Returns:
        lines by ``lookups``, ``outside`` and ``listening_outside``.
    """
    found: dict[str, list[str]] = {"lookups": [], "outside": [], "listening_outside": []}
    bound: dict[tuple[str, str], str] = {}
    for line in lines:
        process, _, call = line.partition(" ")
        call = call.strip()
        name, _, rest = call.partition("(")
        descriptor = rest.partition(",")[0].partition(")")[0]
        if name == "listen" and (address := bound.get((process, descriptor))):
            found["listening_outside"].append(address)
        match = ADDRESS.search(call)
        if match is None:
            continue
        address, port = match["v4"] or match["v6"], int(match["port"])
        if name == "bind":
            if address in ANY or not LOOPBACK.match(address):
                bound[process, descriptor] = f"{address}:{port}"
            else:
                bound.pop((process, descriptor), None)
        elif port == DNS_PORT:
            found["lookups"].append(call[:120])
        elif address not in ANY and not LOOPBACK.match(address):
            found["outside"].append(call[:120])
    return found


class _Echo(ThreadingHTTPServer):
    """Chat server that sends back the key of every request, in the way of ``mode``."""

    daemon_threads = True
    mode = "answer"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _EchoHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _EchoHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, _Echo)
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers.get("Authorization", "")
        said = f"bad key {key} for {self.path}; {key.removeprefix('Bearer ')} is unknown"
        message = {"role": "assistant", "content": json.dumps({"caption": said, "title": said})}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        bodies: dict[str, dict[str, object]] = {
            "answer": {"choices": [choice], "model": said},
            "no completion": {"said": said},
        }
        body = bodies.get(server.mode, {"error": {"message": said, "type": said, "code": said}})
        data = json.dumps(body).encode()
        self.send_response(MODES[server.mode])
        self.send_header("Content-Type", "application/json")
        self.send_header("Authorization", key)
        self.send_header("X-Echo", key)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def _secrets(video: Path, folder: Path) -> dict[str, int]:
    """Run with planted secrets, print a table of the files that hold one, and count them."""
    rows: list[list[object]] = []
    with _echo() as server:
        url = f"http://127.0.0.1:{server.server_port}/v1?signature={IN_URL}"
        asking = [
            f"{kind}.{each}"
            for kind in ("language", "vision")
            for each in (f"base_url={url}", "model=m", "api_key_env=PLANTED_KEY", "max_retries=0",
                         "deadline_s=5")
        ]  # fmt: skip
        for mode in MODES:
            server.mode = mode
            rows += _searched(f"echo in {mode}", video, folder / mode.replace(" ", "-"), asking)
    started = (
        "server.model=/nonexistent.gguf", f"server.arguments=['--api-key','{ARGUMENT}']",
        "server.start_deadline_s=20",
    )  # fmt: skip
    rows += _searched("arguments of a server", video, folder / "server", started)
    print(markdown(["planted", "exit", "files searched", "with a secret", "which"], rows), "\n")
    return {
        "searched": sum(int(str(row[2])) for row in rows),
        "secrets_found": sum(int(str(row[3])) for row in rows),
    }


@contextmanager
def _echo() -> Iterator[_Echo]:
    server = _Echo()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _searched(planted: str, video: Path, out: Path, settings: Sequence[str]) -> list[list[object]]:
    """Run once and search all that it wrote and printed."""
    home = out.parent / f"{out.name}-home"
    home.mkdir()
    environment = _environment(
        {"PLANTED_KEY": KEY, "VIDEOAUTEUR_SERVER_KEY": KEY, "HOME": str(home), "TMPDIR": str(home)}
    )
    done = subprocess.run(
        _command(video, out, "local", *settings), env=environment, capture_output=True, timeout=300
    )
    written = [path for place in (out, home) for path in place.rglob("*") if path.is_file()]
    found = [str(path.relative_to(out.parent)) for path in written if holds_secret(path.read_bytes())]
    for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
        if holds_secret(text):
            found.append(name)
    return [[planted, done.returncode, len(written) + 2, len(found), ", ".join(found)]]


def holds_secret(content: bytes) -> bool:
    """Return whether one of the planted secrets is in a file or a text; Parquet files are read."""
    if content[:4] == b"PAR1":
        import io

        import pyarrow.parquet as pq

        content = repr(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
    return any(secret.encode() in content for secret in (KEY, IN_URL, ARGUMENT))


if __name__ == "__main__":
    main()
