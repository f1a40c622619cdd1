"""The commands of this package. Importing them costs nothing: what is heavy is imported when one runs."""

from __future__ import annotations

import argparse

from generation import cli_collect, cli_evaluate, cli_generate, cli_serve, cli_train


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``collect``, ``train``, ``generate``, ``evaluate`` and ``serve``."""
    for module in (cli_collect, cli_train, cli_generate, cli_evaluate, cli_serve):
        module.add(commands)
