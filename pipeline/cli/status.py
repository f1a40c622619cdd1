"""Print how a run stands, which stage is slow and when the run will end.

Reads the files in OUTPUT only, so it works on any machine that sees OUTPUT.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from pipeline.platform.command import DONE, Commands, add_command
from pipeline.platform.storage import place


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "status", __doc__, _status)
    parser.add_argument("output", metavar="OUTPUT", type=place, help="of `videoauteur curate`, or its URL")
    parser.add_argument("--json", action="store_true", help="for programs")


def _status(parsed: argparse.Namespace) -> int:
    from pipeline.report.status import as_text, read_status

    status = read_status(parsed.output)
    print(json.dumps(asdict(status)) if parsed.json else as_text(status))
    return DONE
