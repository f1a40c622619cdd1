"""The commands of this package. Importing them costs nothing: what is heavy is imported when one runs."""

from __future__ import annotations

import argparse

from generation.cli import collect as cli_collect
from generation.cli import evaluate as cli_evaluate
from generation.cli import generate as cli_generate
from generation.cli import serve as cli_serve
from generation.cli import train as cli_train


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``collect``, ``train``, ``generate``, ``evaluate`` and ``serve``."""
    for module in (cli_collect, cli_train, cli_generate, cli_evaluate, cli_serve):
        module.add(commands)
