"""Verify checksums, schema, keys, references, intervals and counts of OUTPUT.

Exit codes: 0 sound; 1 problems, which are listed; 2 not a dataset.
"""

from __future__ import annotations

import argparse

from pipeline.platform.command import DONE, FAILED, Commands, add_command
from pipeline.platform.storage import place


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "check", __doc__, _check)
    parser.add_argument(
        "output", metavar="OUTPUT", type=place, help="of `videoauteur curate`, or its URL in a bucket"
    )


def _check(parsed: argparse.Namespace) -> int:
    from pipeline.dataset.check import check_dataset

    report = check_dataset(parsed.output)
    for problem in report.problems:
        print(problem)
    rows = ", ".join(f"{count} {name}" for name, count in report.rows.items())
    verdict = "damaged" if report.problems else "sound"
    if not report.has_checksums:
        verdict += "; no manifest.json in it, so no checksum was verified"
    print(f"{parsed.output}: {rows}; {verdict}")
    return FAILED if report.problems else DONE
