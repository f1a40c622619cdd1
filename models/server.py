"""A model server as a child of this process, kept running and never left over."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from models import keeper
from models.errors import ReportedError

MARGIN_S = 30.0
"""Seconds that the keeper may take beyond the deadlines of its server."""


class ServerError(ReportedError):
    """Model server that does not start or no longer runs; the text ends with its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Program that serves a model over the OpenAI protocol.

    Attributes:
        name: what it is, for messages.
        arguments: the program and its options; it takes ``--host`` and ``--port`` beside them.
        environment: variables set, or with None unset, over those of this process.
    """

    name: str
    arguments: Sequence[str]
    environment: dict[str, str | None] = field(default_factory=dict)


class Server:
    """Running model server; a context manager.

    The server is a grandchild: a keeper between us restarts it when it dies, on the same port, and
    ends it with all its children when this object is closed or this process ends, however it does.

    Args:
        command: what to run.
        host: address to listen on; the system finds a free port.
        deadline_s: from start to the first healthy answer.
        log: what the server writes is added to this file.

    Raises:
        ServerError: it did not come up.
    """

    def __init__(self, command: Command, *, host: str, deadline_s: float, log: Path) -> None:
        self._name = command.name
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **command.environment}
        self._keeper = subprocess.Popen(
            [
                # Isolated: neither the user's site nor our folder of modules is on its path.
                sys.executable, "-I", "-S", keeper.__file__, "--host", host, "--deadline", str(deadline_s),
                "--log", str(log), "--", *command.arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in environment.items() if value is not None},
            # Ctrl-C reaches the whole terminal group; the job decides when its server goes.
            start_new_session=True,
        )  # fmt: skip
        try:
            message = self._listen(keeper.MAX_FIRST_DEATHS * deadline_s + MARGIN_S)
        except BaseException:
            self.close()
            raise
        if "base_url" not in message:
            self.close()
            raise ServerError(f"{self._name} did not start: {_told(message)}")
        self.base_url: str = message["base_url"]
        """With the ``/v1``."""

    def check(self) -> None:
        """Raise if the server was given up.

        Raises:
            ServerError: it died again and again and was given up.
        """
        if self._keeper.poll() is not None:
            raise ServerError(f"{self._name} was given up: {_told(self._listen(0))}")

    def close(self) -> None:
        """End the server; return when all its processes are gone."""
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=keeper.GRACE_S * 2 + MARGIN_S)
        except subprocess.TimeoutExpired:
            # Its watchdog ends the server then.
            self._keeper.kill()
            self._keeper.wait()
        self._keeper.stdout.close()

    def _listen(self, seconds: float) -> dict[str, str]:
        """Return the keeper's next message; empty if there is none."""
        assert self._keeper.stdout is not None
        ready, _, _ = select.select([self._keeper.stdout], [], [], seconds)
        line = self._keeper.stdout.readline() if ready else b""
        message: dict[str, str] = json.loads(line) if line else {}
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _told(message: dict[str, str]) -> str:
    if not message:
        return "its keeper was killed"
    return f"{message['failed']}\n{message['log'].strip()}"
