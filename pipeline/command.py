"""What all commands have in common: exit codes, and setting single values."""

from __future__ import annotations

import argparse

DONE, FAILED, BAD_USAGE, OVER_BUDGET = 0, 1, 2, 3


def add_set_option(parser: argparse.ArgumentParser, what: str) -> None:
    """``--set a.b=value``, as ``settings``; ``what`` is the tree that it sets a value of."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", dest="settings",
        help=f"one value of the {what}; may be repeated",
    )  # fmt: skip


class UsageError(ValueError):
    """Options that do not go together; the text says which."""
