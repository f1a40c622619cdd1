"""The commands of this package. Importing them costs nothing: what is heavy is imported when one runs."""

from __future__ import annotations

from generation.cli import evaluate, export, generate, serve, train
from pipeline.platform.command import Commands


def add_commands(commands: Commands, *, evaluations: Commands, exports: Commands) -> None:
    """Register ``train``, ``generate``, ``serve``, ``evaluate generation`` and ``export model``."""
    for module in (train, generate, serve):
        module.add(commands)
    evaluate.add(evaluations)
    export.add(exports)
