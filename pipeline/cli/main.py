"""The command line: ``videoauteur`` and ``python -m pipeline`` are the same program.

A command is a module with ``add``, which registers it. Modules load what is heavy when the command runs,
so that ``--help`` and a wrong option answer at once.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from pipeline import __version__
from pipeline.cli import (
    check,
    clean,
    collect,
    config,
    curate,
    evaluate,
    export,
    inspect,
    plan,
    push,
    status,
)
from pipeline.platform.command import ended
from pipeline.platform.packages import check_packages


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    check_packages()
    parsed = _parser().parse_args(arguments)
    return ended(parsed.run, parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="videoauteur",
        description="Turn raw how-to videos into a narrative dataset in Parquet, and that into films.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (curate, status, inspect, plan, check, clean, push, config, collect):
        command.add(commands)
    evaluations, exports = evaluate.add(commands), export.add(commands)
    # The one upward edge: by name and here only, so that this package can be used without that one.
    generation = importlib.import_module("generation.cli.commands")
    generation.add_commands(commands, evaluations=evaluations, exports=exports)
    return parser
