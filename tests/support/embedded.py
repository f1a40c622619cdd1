"""The packaged language model on its server, for tests that need the real one."""

from __future__ import annotations

from pathlib import Path

from models import llamacpp, weights
from models.server import Server


def embedded_server(folder: Path, *, context_tokens: int = 2048) -> Server:
    """A server of the embedded model; its log is ``server.log`` in the folder."""
    command = llamacpp.command(weights.smollm2(), threads=1, context_tokens=context_tokens)
    return Server(command, host="127.0.0.1", deadline_s=120, log=folder / "server.log")
