"""Settings of the model servers that a job starts itself."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.settings import Count, NonNegative, Positive, Section

Capability = Literal["language", "vision"]
"""Requests that a server answers: about text, or about pictures too."""


class ServerSettings(Section):
    """Model servers that the job starts, restarts and ends.

    ``model``: a GGUF file (llamacpp), a folder or a hub's name (vllm); null starts no server. ``name``: its
    name in requests and tables; null derives it from the model. ``serves``: the sections that it
    answers for; of such a section ``timeout_s``, ``schema_form`` and a longer ``deadline_s`` hold for
    it, while key and prices are for the section's ``others``. ``gpus``, ``num_cpus`` and
    ``concurrency`` (requests computed at the same time; null is 1 for llamacpp, 16 for vllm) are for
    each of the ``replicas``. ``python``: the interpreter of an environment that has the engine, see
    ``infra/envs``; null is this one. ``arguments`` are the engine's own. ``threads`` is 1, since
    llama.cpp's threads wait for each other in a busy loop: with two on two cores that other workers
    also use, an answer took 21 s in place of 3 s.
    """

    engine: Literal["llamacpp", "vllm"] = "llamacpp"
    model: str | None = None
    name: str | None = None
    serves: tuple[Capability, ...] = ("language",)
    replicas: Count = 1
    gpus: NonNegative = 0.0
    num_cpus: NonNegative = 0.0
    threads: Count = 1
    context_tokens: Annotated[int, Field(ge=256)] = 4096
    concurrency: Count | None = None
    start_deadline_s: Positive = 900.0
    python: str | None = None
    arguments: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_the_engine(self) -> Self:
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        if self.model is None and dict(self) != defaults:
            raise ValueError(
                "a server needs model: a GGUF file for llamacpp, a folder or a name on a hub for vllm"
            )
        if "vision" in self.serves and self.engine == "llamacpp" and "--mmproj" not in self.arguments:
            raise ValueError(
                "vision needs a model that sees: server.model with its image encoder as "
                "server.arguments=[--mmproj, FILE], or engine vllm"
            )
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError("gpus must be whole above 1, for one model is spread over whole GPUs")
        return self
