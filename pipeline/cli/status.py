"""``videoauteur status``: how a run stands."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from pipeline.platform.command import DONE, Commands
from pipeline.platform.storage import place


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "status",
        help="say how a run stands, what is slow and when it will end",
        epilog="Reads the files in OUTPUT only, so it works on any machine that sees OUTPUT.",
    )
    parser.add_argument("output", metavar="OUTPUT", type=place, help="of `videoauteur curate`, or its URL")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_status)


def _status(parsed: argparse.Namespace) -> int:
    from pipeline.report.status import as_text, read_status

    status = read_status(parsed.output)
    print(json.dumps(asdict(status)) if parsed.json else as_text(status))
    return DONE
