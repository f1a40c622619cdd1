"""Model servers that a run starts: their number, their names, and starting them beside this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from models import llamacpp, vllm
from models.endpoint import EndpointSettings
from models.server import Command, Server, ServerError
from models.serving import Capability, ServerSettings
from models.weights import digest_of
from pipeline.curation.config import Config
from pipeline.platform.config import ConfigError

HERE = "127.0.0.1"
SLOTS = {"llamacpp": 1, "vllm": 16}
"""Requests computed at the same time, where nothing is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGroup:
    """Servers of one model that a run needs.

    Attributes:
        serves: requests that they answer, of those that the settings allow.
    """

    settings: ServerSettings
    serves: tuple[Capability, ...]

    @property
    def slots(self) -> int:
        """Requests that one of them computes at the same time."""
        return self.settings.concurrency or SLOTS[self.settings.engine]

    def command(self) -> Command:
        """Return the command that starts one of them."""
        given = self.settings
        python = given.python or sys.executable
        assert given.model is not None
        if given.engine == "vllm":
            return vllm.command(
                given.model,
                name=model_name(given),
                python=python,
                threads=given.threads,
                context_tokens=given.context_tokens,
                gpus=given.gpus,
                more=given.arguments,
            )
        return llamacpp.command(
            Path(given.model),
            threads=given.threads,
            context_tokens=given.context_tokens,
            slots=self.slots,
            python=python,
            more=given.arguments,
        )

    def start(self, host: str, logs: Path, replica: int) -> Server:
        """Start one of them; the caller closes it.

        Raises:
            ServerError: it did not come up.
        """
        return Server(
            self.command(),
            host=host,
            deadline_s=self.settings.start_deadline_s,
            log=logs / f"{'-'.join(self.serves)}-{replica}.log",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Servers that are up.

    Attributes:
        base_urls: by what they answer.
        check: raises ServerError once one of them was given up.
    """

    base_urls: Mapping[Capability, tuple[str, ...]]
    check: Callable[[], None]


def needed(config: Config) -> list[ServerGroup]:
    """Return the servers that a run starts: for sections without an endpoint, if a model is configured."""
    if config.server.model is None:
        return []
    serves = tuple(each for each in config.server.serves if getattr(config, each).base_url is None)
    return [ServerGroup(settings=config.server, serves=serves)] if serves else []


def reserved_cpus(config: Config) -> float:
    """Processors that the servers take from the cluster."""
    return sum(group.settings.num_cpus * group.settings.replicas for group in needed(config))


def model_for(config: Config, capability: Capability) -> str | None:
    """Return the name of the model for text or pictures, in requests and tables; None if there is none."""
    section: EndpointSettings = getattr(config, capability)
    if section.model is not None:
        return section.model
    served = config.server.model is not None and capability in config.server.serves
    return model_name(config.server) if served else None


def model_name(server: ServerSettings) -> str:
    """Return the name of a server's model.

    Answers are remembered by this name, so that of a local file or folder ends with a digest of what is
    in it: a model that was trained on is another one.
    """
    if server.name is not None:
        return server.name
    assert server.model is not None
    path = Path(server.model)
    return (
        f"{path.stem if path.is_file() else path.name}@{digest_of(path)}" if path.exists() else server.model
    )


def resolved(config: Config) -> Config:
    """Return the configuration with absolute paths and the model's name, which every node reads alike."""
    server = config.server
    if server.model is None:
        return config
    paths = {
        key: str(Path(value).absolute())
        for key, value in (("model", server.model), ("python", server.python))
        if value is not None and Path(value).exists()
    }
    # The name is of the files that lie here; a node may have them elsewhere.
    return config.model_copy(
        update={"server": server.model_copy(update={"name": model_name(server), **paths})}
    )


@contextmanager
def started_here(config: Config, logs: Path) -> Iterator[Running]:
    """The servers as children of this process.

    Raises:
        ConfigError: one does not come up, or cannot run beside the others.
    """
    base_urls: dict[Capability, tuple[str, ...]] = {}
    servers: list[Server] = []
    with ExitStack() as stack:
        for group in needed(config):
            if group.settings.gpus and group.settings.replicas > 1:
                raise ConfigError(
                    "server.replicas: the local runner cannot share GPUs out; take one, or --runner ray"
                )
            try:
                started = [
                    stack.enter_context(group.start(HERE, logs, replica))
                    for replica in range(group.settings.replicas)
                ]
            except ServerError as error:
                raise refused(error) from error
            servers += started
            base_urls |= dict.fromkeys(group.serves, tuple(server.base_url for server in started))

        def check() -> None:
            for server in servers:
                server.check()

        yield Running(base_urls=base_urls, check=check)


def refused(error: ServerError) -> ConfigError:
    """The error of a server that does not come up, with the way out where it is known."""
    hint = ""
    if "No module named 'vllm" in str(error):
        hint = "\n`make env-vllm` makes an environment that has it; set server.python=.venv-vllm/bin/python"
    return ConfigError(f"server: {error}{hint}")
