"""Models served by vLLM, which lives in an environment of its own (``infra/envs/vllm.txt``)."""

from __future__ import annotations

from collections.abc import Sequence

from models.server import Command

MODULE = "vllm.entrypoints.openai.api_server"


def command(
    model: str,
    *,
    name: str,
    python: str,
    threads: int,
    context_tokens: int,
    gpus: float = 0.0,
    more: Sequence[str] = (),
) -> Command:
    """Build the command that serves a model.

    Args:
        model: a folder, or a name on a hub.
        name: what requests call the model.
        python: the interpreter of an environment that has vLLM.
        threads: on processors; without effect on GPUs.
        context_tokens: longest prompt and answer together.
        gpus: from two on, the model is spread over so many.
        more: further options of vLLM's server.
    """
    spread = ["--tensor-parallel-size", str(int(gpus))] if gpus >= 2 else []
    return Command(
        name=f"the vLLM server of {model}",
        arguments=[
            # As a module: the command of that name looks for a package named vllm, which the
            # build for processors is not.
            python, "-m", MODULE, "--model", model, "--served-model-name", name,
            "--max-model-len", str(context_tokens), "--uvicorn-log-level", "warning", *spread, *more,
        ],
        # Our own folder on its path would hide packages that it has.
        environment={"PYTHONPATH": None, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
