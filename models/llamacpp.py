"""Models in GGUF files, served by llama.cpp: for machines with no key and no GPU.

:func:`command` is what :class:`models.server.Server` runs: this module as a program. With one slot and no
prompt cache an answer depends on its request alone, not on what was asked before, and runs repeat
exactly; with several slots requests are computed together and the last digits depend on the company.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from models.server import Command

ROOT = Path(__file__).resolve().parent.parent


def command(
    model: Path,
    *,
    threads: int,
    context_tokens: int,
    slots: int = 1,
    python: str = sys.executable,
    more: Sequence[str] = (),
) -> Command:
    """Build the command that serves a model.

    Args:
        model: GGUF file.
        threads: fixed, so that results are the same wherever they are computed.
        context_tokens: longest prompt and answer together, for each slot.
        slots: requests computed at the same time.
        python: an interpreter that has xllamacpp.
        more: further options of this program.
    """
    return Command(
        name=f"the llama.cpp server of {model}",
        arguments=[
            # Safe path: the folder that the job was started in may have a package of that name.
            python, "-P", "-m", "models.llamacpp", str(model), "--threads", str(threads),
            "--context-tokens", str(context_tokens), "--slots", str(slots), *more,
        ],
        environment={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def main() -> None:
    """Serve one GGUF model over HTTP until stopped."""
    parser = argparse.ArgumentParser(prog="python -m models.llamacpp", description=main.__doc__)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context-tokens", type=int, default=4096)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--mmproj", help="GGUF file of the image encoder, for a model that sees")
    arguments = parser.parse_args()

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    if arguments.mmproj:
        parameters.mmproj.path = arguments.mmproj
    parameters.hostnames = [arguments.host]
    parameters.port = arguments.port
    parameters.n_ctx = arguments.context_tokens * arguments.slots
    parameters.n_parallel = arguments.slots
    parameters.cpuparams.n_threads = arguments.threads
    parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.cache_prompt = False
    parameters.ui = False
    # The threads that it starts must not be the ones to get the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server = xllamacpp.Server(parameters)
    assert server
    signal.sigwait([signal.SIGTERM])
    os._exit(0)


if __name__ == "__main__":
    main()
