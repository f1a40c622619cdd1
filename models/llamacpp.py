"""A llama.cpp server of our own, for machines with no key and no GPU.

``python -m models.llamacpp MODEL.gguf`` serves until it is told to stop or its parent dies;
:class:`LlamaServer` starts that as a child and waits until it answers. One slot and no prompt cache:
an answer then depends on its request alone, not on what was asked before, and runs repeat exactly.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

START_DEADLINE_S = 120.0
PR_SET_PDEATHSIG = 1


class LlamaServer:
    """Runs the server as a child process; a context manager.

    Args:
        model: GGUF file.
        host: address to listen on; the port is free and found by the system.
        threads: fixed, so that results are the same wherever they are computed.
        context_tokens: longest prompt and answer together.

    Raises:
        RuntimeError: it did not come up; the message ends with what it wrote.
    """

    def __init__(self, model: Path, *, host: str, threads: int, context_tokens: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "models.llamacpp", str(model), "--host", host,
                "--threads", str(threads), "--context-tokens", str(context_tokens),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=Path(__file__).parent.parent,
            # Ctrl-C reaches the whole terminal group; the job decides when its server goes.
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_DEADLINE_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.close()
            self._log.seek(0)
            raise RuntimeError(
                f"the llama.cpp server did not start on {model}: "
                + self._log.read().decode(errors="replace")[-500:]
            )
        self.base_url: str = json.loads(line)["base_url"]

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def main() -> None:
    """Serve one model over HTTP and print the address as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m models.llamacpp", description=main.__doc__)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context-tokens", type=int, default=4096)
    arguments = parser.parse_args()
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        # Linux only: die with the parent, however it ends.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.hostnames = [arguments.host]
    parameters.port = arguments.port
    parameters.n_ctx = arguments.context_tokens
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = arguments.threads
    parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.cache_prompt = False
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    print(json.dumps({"base_url": f"{server.listening_address}/v1"}), flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    os._exit(0)


if __name__ == "__main__":
    main()
