"""The commands of this package. Importing them costs nothing: what is heavy is imported when one runs."""

from __future__ import annotations

from generation.cli import evaluate, export, generate, serve, train
from pipeline.platform.command import Commands


def add_commands(commands: Commands, kinds: Commands) -> None:
    """Register ``train``, ``generate``, ``serve``, ``export`` and ``evaluate generation``."""
    for module in (train, generate, serve, export):
        module.add(commands)
    evaluate.add(kinds)
