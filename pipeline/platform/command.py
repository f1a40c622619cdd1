"""What all commands have in common: exit codes, and setting single values."""

from __future__ import annotations

import argparse
from pathlib import Path

DONE, FAILED, BAD_USAGE, OVER_BUDGET = 0, 1, 2, 3


def add_set_option(parser: argparse.ArgumentParser, what: str) -> None:
    """``--set a.b=value``, as ``settings``; ``what`` is the tree that it sets a value of."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", dest="settings",
        help=f"one value of the {what}; may be repeated",
    )  # fmt: skip


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--config FILE`` and ``--set``, for the curation's configuration."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file")
    add_set_option(parser, "configuration")


def positive(text: str) -> int:
    """A whole number from 1 on; a type of options."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


class UsageError(ValueError):
    """Options that do not go together; the text says which."""
