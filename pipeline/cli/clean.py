"""Drop results that no OUTPUT needs from the memo, and stale frames.

Name all OUTPUTs that share the memo. Paid answers stay. Exit codes: 0 done; 2 bad usage.
"""

from __future__ import annotations

import argparse

from pipeline.platform.command import DONE, Commands, add_command
from pipeline.platform.storage import place


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "clean", __doc__, _clean)
    parser.add_argument(
        "outputs", metavar="OUTPUT", type=place, nargs="+", help="of `videoauteur curate`, or its URL"
    )
    parser.add_argument(
        "--memo", type=place, metavar="PLACE", help="a folder or s3://BUCKET/FOLDER; default: OUTPUT/_memo"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be")


def _clean(parsed: argparse.Namespace) -> int:
    from pipeline.curation.clean import clean

    result = clean(parsed.outputs, memo=parsed.memo, dry_run=parsed.dry_run)
    would = "would be " if parsed.dry_run else ""
    for stage, number in result.missing.items():
        print(
            f"{number} videos would be processed from {stage} on: no result of their content and settings"
        )
    for kind, (number, size) in sorted(result.dropped.items()):
        print(f"{would}dropped: {number} records of {kind}, {size / 1e6:.1f} MB")
    print(f"{would}dropped: {result.frames_bytes / 1e6:.1f} MB of packed frames that no video needs")
    print(f"{would}kept: {result.kept[0]} records, {result.kept[1] / 1e6:.1f} MB")
    return DONE
