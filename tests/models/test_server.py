"""A model server is kept up at one address, says why it does not come up, and is never left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from models.server import Command, Server, ServerError

ROOT = Path(__file__).parents[2]
# Answers with its process id and that of a child of its own, as the engines of big models have.
ENGINE = """
import argparse, http.server, json, os, subprocess, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--once")
parser.add_argument("--stranger", action="store_true")
parser.add_argument("--api-key")
arguments = parser.parse_args()
if arguments.once:
    try:
        open(arguments.once, "x").close()
    except FileExistsError:
        sys.exit("the second start fails")
print("options:", arguments, "api_key", arguments.api_key, flush=True)
if arguments.stranger and os.fork():
    time.sleep(600)
if arguments.stranger:
    os.setsid()
    import threading
    threading.Timer(10, os._exit, [0]).start()
child = subprocess.Popen(["sleep", "600"] if not arguments.stranger else ["true"])
hung = False

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global hung
        hung = hung or self.path == "/hang"
        while hung:
            time.sleep(1)
        body = json.dumps([os.getpid(), child.pid]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()
"""
WAIT_S = 20.0


def engine(*options: str) -> Command:
    return Command(name="the test's server", arguments=[sys.executable, "-I", "-S", "-c", ENGINE, *options])


def started(folder: Path, *options: str) -> Server:
    return Server(engine(*options), host="127.0.0.1", deadline_s=WAIT_S, log=folder / "logs" / "server.log")


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes(base_url: str) -> list[int]:
    """The server's process and its child's; empty while nobody answers."""
    try:
        with urllib.request.urlopen(base_url, timeout=1) as answer:
            found: list[int] = json.load(answer)
    except OSError:
        return []
    return found


def lives(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


def test_a_dead_server_is_back_at_the_same_address_and_its_children_are_gone(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        first = processes(server.base_url)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: processes(server.base_url) not in ([], first))
        second = processes(server.base_url)
        server.check()
        assert not any(map(lives, first))
        assert all(map(lives, second))
    assert not any(map(lives, second))
    log = (tmp_path / "logs" / "server.log").read_text()
    assert "it ended with status -9; starting it again in 0.5 s" in log


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        ServerError, match="the test's server did not start: it ended with status 2"
    ) as caught:
        started(tmp_path, "--no-such-option")
    assert "unrecognized arguments: --no-such-option" in str(caught.value)
    assert str(caught.value).count("[keeper] start") == 1, "of the last try alone"


def test_a_server_that_does_not_answer_in_time_is_not_waited_for(tmp_path: Path) -> None:
    command = Command(name="sleep", arguments=["sh", "-c", "sleep 600; true"])
    with pytest.raises(ServerError, match=r"did not answer within 0\.3 s"):
        Server(command, host="127.0.0.1", deadline_s=0.3, log=tmp_path / "log")


def test_a_stranger_on_the_port_is_not_taken_for_the_server(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"did not answer within 2 s"):
        Server(engine("--stranger"), host="127.0.0.1", deadline_s=2, log=tmp_path / "log")


def test_the_log_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "from-the-environment")
    with started(tmp_path, "--api-key", "among-the-arguments") as server:
        assert processes(server.base_url)
    log = (tmp_path / "logs" / "server.log").read_text()
    assert "options:" in log and log.count("[redacted]") >= 2
    assert "among-the-arguments" not in log
    with pytest.raises(ServerError, match="unrecognized") as caught:
        started(tmp_path, "--api-key", "among-the-arguments", "--no-such=from-the-environment")
    assert not {"among-the-arguments", "from-the-environment"} & set(str(caught.value).split())


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = Command(name="it", arguments=["no-such-program"])
    with pytest.raises(ServerError, match="no-such-program"):
        Server(command, host="127.0.0.1", deadline_s=WAIT_S, log=tmp_path / "log")


def test_environment_variables_are_set_and_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNWANTED", "here")
    script = "import os, sys; sys.exit(f\"{os.environ.get('UNWANTED')} {os.environ['WANTED']}\")"
    command = Command(
        name="it",
        arguments=[sys.executable, "-I", "-S", "-c", script],
        environment={"UNWANTED": None, "WANTED": "yes"},
    )
    with pytest.raises(ServerError, match="None yes"):
        Server(command, host="127.0.0.1", deadline_s=WAIT_S, log=tmp_path / "log")


@pytest.mark.parametrize("victim", ["parent", "keeper"])
def test_nothing_is_left_when_its_owner_is_killed(victim: str, tmp_path: Path) -> None:
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from models.server import Command, Server\n"
        "command = Command(name='it', arguments=sys.argv[2:])\n"
        "server = Server(command, host='127.0.0.1', deadline_s=20, log=Path(sys.argv[1]))\n"
        "print(server._keeper.pid, server.base_url, flush=True)\n"
        "signal.pause()\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "log"), *engine().arguments]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            keeper, base_url = parent.stdout.readline().split()
            found = processes(base_url)
            assert len(found) == 2
            assert all(map(lives, found))
            os.kill(parent.pid if victim == "parent" else int(keeper), signal.SIGKILL)
            until(lambda: not any(map(lives, found)))
        finally:
            parent.kill()


def test_a_server_that_nobody_keeps_is_told(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        server.check()
        server._keeper.kill()
        server._keeper.wait()
        with pytest.raises(ServerError, match="the test's server was given up: its keeper was killed"):
            server.check()


def keep(*settings: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The keeper by itself, with less patience than it has."""
    code = f"from models import keeper; {'; '.join(f'keeper.{text}' for text in settings)}; keeper.main()"
    return subprocess.Popen(
        [
            sys.executable, "-c", code, "--host", "127.0.0.1", "--deadline", str(WAIT_S),
            "--log", os.devnull, "--", *engine(*options).arguments,
        ],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_server_that_hangs_is_started_again() -> None:
    with keep("HUNG_S = 0.5", "HEALTH_TIMEOUT_S = 0.5", "RUNNING_POLL_S = 0.1") as keeper:
        assert keeper.stdin is not None and keeper.stdout is not None
        base_url = json.loads(keeper.stdout.readline())["base_url"]
        first = processes(base_url)
        assert not processes(base_url.removesuffix("/v1") + "/hang")
        until(lambda: processes(base_url) not in ([], first))
        keeper.stdin.close()
        assert keeper.wait(WAIT_S) == 0


def test_a_server_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    with keep("FIRST_WAIT_S = 0.01", options=("--once", str(tmp_path / "once"))) as keeper:
        assert keeper.stdout is not None
        base_url = json.loads(keeper.stdout.readline())["base_url"]
        os.kill(processes(base_url)[0], signal.SIGKILL)
        message = json.loads(keeper.stdout.readline())
        assert message["failed"] == "it ended with status 1"
        assert keeper.wait(WAIT_S) == 1
