"""``videoauteur evaluate``: figures of what was made, in one table."""

from __future__ import annotations

from pipeline.cli import evaluate_captions
from pipeline.platform.command import Commands


def add(commands: Commands) -> Commands:
    """Register the command; return the parsers below it, for other kinds of figures."""
    parser = commands.add_parser("evaluate", help="Measure captions, films and models.")
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    evaluate_captions.add(kinds)
    return kinds
