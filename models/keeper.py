"""Keeps one model server running. A program; :class:`models.server.Server` starts it.

``python keeper.py --host HOST --deadline SECONDS --log FILE -- COMMAND...`` runs COMMAND with ``--host``
and ``--port`` added, in a process group of its own, and prints one line of JSON once it answers on
``/health``. If the server dies or hangs it is started again on the same port, so that its address stays
valid. When standard input closes - the parent ended, however that came about - or on SIGTERM, the whole
group is killed. A fork of the keeper does the same if the keeper itself is killed.

It needs the standard library alone, so that it starts at once and whatever the parent's environment is.
"""

import argparse
import contextlib
import http.client
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

MAX_DEATHS = 5
"""In a row, without an answer in between."""
MAX_FIRST_DEATHS = 2
"""Before the very first answer. The cause is then nearly always in the command; the second try is for a
port that another process took first."""
FIRST_WAIT_S = 0.5
"""Before it is started again; doubles with every death."""
STARTING_POLL_S, RUNNING_POLL_S = 0.1, 1.0
HEALTH_TIMEOUT_S = 5.0
HUNG_S = 120.0
"""Without a healthy answer for so long, a server that runs is taken for dead."""
GRACE_S = 5.0
"""From asking a server to end to killing it."""
TAIL_BYTES = 3000
LISTENING = "0A"
"""State of a socket in the system's tables."""
LINE_BYTES = 65_536
"""A longer line is copied in pieces."""

# Filled by the signal's handler, looked at between two steps.
_terminated: list[bool] = []


class EndError(Exception):
    """Order to end: the parent is gone or asked for it."""


class Keeper:
    """Process that starts, watches, restarts and ends the server."""

    def __init__(self, command: Sequence[str], host: str, deadline_s: float, log: BinaryIO) -> None:
        self._command = command
        self._host = host
        self._deadline_s = deadline_s
        self._log = log
        self._port = 0
        self._told = False
        self._began = 0
        self._engine: subprocess.Popen[bytes] | None = None
        self._copier: threading.Thread | None = None
        self._hide = _redactor(command)
        self._watchdog = _fork_watchdog()

    def run(self) -> str:
        """Keep the server running; return why it was given up.

        Raises:
            EndError: the parent is gone, or wants us to be.
        """
        deaths = 0
        while True:
            if not self._told:
                self._port = _free_port(self._host)
            engine = self._start()
            if self._wait_until_healthy(engine):
                deaths = 0
                self._tell_parent()
                self._watch(engine)
            elif engine.poll() is None:
                return f"it did not answer within {self._deadline_s:g} s"
            status = engine.poll()
            self._kill(engine)
            deaths += 1
            why = f"it ended with status {status}" if status is not None else "it answered no more"
            if deaths >= (MAX_DEATHS if self._told else MAX_FIRST_DEATHS):
                return why
            wait_s = FIRST_WAIT_S * 2 ** (deaths - 1)
            self._note(f"{why}; starting it again in {wait_s:g} s")
            _sleep(wait_s)

    def close(self) -> None:
        """End the server and whatever it started."""
        if self._engine is None:
            return
        if self._engine.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._engine.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._engine.wait(GRACE_S)
        self._kill(self._engine)

    def _start(self) -> subprocess.Popen[bytes]:
        self._began = self._log.tell()
        arguments = [*self._command, "--host", self._host, "--port", str(self._port)]
        self._note(f"start {' '.join(arguments)}")
        self._engine = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        self._copier = threading.Thread(target=self._copy, args=[self._engine.stdout], daemon=True)
        self._copier.start()
        os.write(self._watchdog, f"{self._engine.pid}\n".encode())
        return self._engine

    def _copy(self, output: BinaryIO) -> None:
        """Copy a server's output to the log, without secrets: servers print their options."""
        with output:
            while line := output.readline(LINE_BYTES):
                self._log.write(self._hide(line.decode(errors="replace")).encode())
                self._log.flush()

    def _wait_until_healthy(self, engine: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + self._deadline_s
        while engine.poll() is None and time.monotonic() < deadline:
            # Another program may have taken the port meanwhile and answer in the server's place.
            if self._healthy() and _listens(engine.pid, self._port):
                return True
            _sleep(STARTING_POLL_S)
        return False

    def _watch(self, engine: subprocess.Popen[bytes]) -> None:
        """Return as soon as the server died or hangs."""
        answered = time.monotonic()
        while engine.poll() is None and time.monotonic() - answered < HUNG_S:
            _sleep(RUNNING_POLL_S)
            if self._healthy():
                answered = time.monotonic()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=HEALTH_TIMEOUT_S)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _tell_parent(self) -> None:
        self._note("it answers")
        if not self._told:
            _tell({"base_url": f"http://{self._host}:{self._port}/v1"})
            self._told = True

    def _kill(self, engine: subprocess.Popen[bytes]) -> None:
        """Kill the server's group: a server's own children often survive it."""
        # A member that the system has not cleared away yet counts as there.
        deadline = time.monotonic() + GRACE_S
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(engine.pid, signal.SIGKILL)
                engine.poll()
                time.sleep(0.01)
        if self._copier is not None:
            self._copier.join(GRACE_S)

    def last_words(self) -> str:
        """Return the end of the server's output since its last start."""
        with Path(self._log.name).open("rb") as log:
            log.seek(max(self._began, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _note(self, text: str) -> None:
        self._log.write(self._hide(f"[keeper] {text}\n").encode())
        self._log.flush()


def main() -> None:
    """Keep one model server running until standard input closes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--deadline", type=float, required=True, help="seconds until it must answer")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: _terminated.append(True))
    # Ctrl-C in a terminal is for the job, which ends us in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with arguments.log.open("ab") as log:
        keeper = Keeper(arguments.command, arguments.host, arguments.deadline, log)
        try:
            why = keeper.run()
        except EndError:
            keeper.close()
            return
        except OSError as error:
            why = str(error)
        keeper.close()
        _tell({"failed": why, "log": keeper.last_words()})
    sys.exit(1)


def _sleep(seconds: float) -> None:
    """Wait; standard input becomes readable only when it is closed.

    Raises:
        EndError: it is closed, or there was a SIGTERM.
    """
    if select.select([sys.stdin], [], [], seconds)[0] or _terminated:
        raise EndError


def _tell(message: dict[str, str]) -> None:
    # The parent may be gone, or no longer listening.
    with contextlib.suppress(OSError):
        print(json.dumps(message), flush=True)


def _listens(group: int, port: int) -> bool:
    """Return whether a process of a group listens on a port; true where the system does not say."""
    sockets: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{rest[5]}]")
    if not sockets:
        return True
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == group:
                for descriptor in (process / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        if str(descriptor.readlink()) in sockets:
                            return True
    return False


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def _redactor(command: Sequence[str]) -> Callable[[str], str]:
    """Return a function that takes the secrets of a command and of the environment out of a text."""
    # By its file: an isolated interpreter has no path to our packages.
    path = Path(__file__).with_name("redaction.py")
    spec = importlib.util.spec_from_file_location("redaction", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hide: Callable[[str], str] = module.Redactor(values=module.secret_arguments(command)).text
    return hide


def _fork_watchdog() -> int:
    """Fork a process that outlives the keeper by a moment, to kill the server.

    Returns:
        Where to write the number of each new process group; the kernel closes it when the keeper ends.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        return writing
    os.setsid()
    os.close(writing)
    for stream in (sys.stdin, sys.stdout):
        # Held open here, they would keep the parent from noticing the keeper's end.
        os.close(stream.fileno())
    groups = b""
    while piece := os.read(reading, 4096):
        groups += piece
    if groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(groups.split()[-1]), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
