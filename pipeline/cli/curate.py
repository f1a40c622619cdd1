"""Curate INPUT into OUTPUT.

Shards: give each of N machines an OUTPUT of its own, --shard I/N and the same --memo; afterwards the
command without --shard writes the tables of the whole, with nothing left to measure.

Exit codes: 0 done; 1 failed or interrupted; 2 bad usage or configuration; 3 done, but more videos failed
than run.error_budget allows, or the budget is spent.
"""

from __future__ import annotations

import argparse
import sys

from pipeline.cli.export import write_media
from pipeline.platform.command import (
    DONE,
    FAILED,
    OVER_BUDGET,
    Commands,
    add_command,
    add_config_options,
    positive,
)
from pipeline.platform.storage import place


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "curate", __doc__, _curate)
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a folder, a video or a .txt list of paths; a bucket's URL or a list of URLs",
    )
    parser.add_argument(
        "output", metavar="OUTPUT", type=place, help="a folder or s3://BUCKET/FOLDER, new or one of ours"
    )
    parser.add_argument("--runner", choices=("ray", "local"), help="short for --set run.runner=...")
    parser.add_argument(
        "--memo", type=place, metavar="PLACE", help="a folder or s3://BUCKET/FOLDER; default: OUTPUT/_memo"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="Ray cluster to join; short for --set run.ray_address=..."
    )
    parser.add_argument("--shard", type=_shard, metavar="I/N", help="only the I-th of N parts; see below")
    parser.add_argument("--sample", type=positive, metavar="N", help="only N files, drawn by name")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N files")
    add_config_options(parser)


def _curate(parsed: argparse.Namespace) -> int:
    from pipeline.curation.config import Config
    from pipeline.platform.config import load

    settings = [
        *parsed.settings,
        *([f"run.runner={parsed.runner}"] if parsed.runner else []),
        *([f"run.ray_address={parsed.address}"] if parsed.address else []),
    ]
    loaded = load(parsed.config, settings, Config)
    from pipeline.curation.job import curate
    from pipeline.curation.selection import Selection
    from pipeline.report.text import as_text

    selection = Selection(shard=parsed.shard, sample=parsed.sample, limit=parsed.limit)
    outcome = curate(parsed.input, parsed.output, loaded, memo=parsed.memo, selection=selection)
    print(as_text(outcome.summary, parsed.output))
    if outcome.unchanged:
        print("nothing to do  OUTPUT was made from these files and settings; figures are of that run")
    media = loaded.config.media
    if media.write and write_media(parsed.output, media.height_px, media.fps) != DONE:
        return FAILED
    if outcome.spent:
        print(
            f"videoauteur: stopped: {outcome.spent}. What was finished is in the tables; the same command "
            "with a larger budget goes on from there.",
            file=sys.stderr,
        )
        return OVER_BUDGET
    if outcome.over_budget:
        print(
            "videoauteur: more videos failed than run.error_budget allows; see rejects with reason "
            "bug, worker_crashed or retries_exhausted",
            file=sys.stderr,
        )
        return OVER_BUDGET
    return DONE


def _shard(text: str) -> tuple[int, int]:
    """Read ``I/N``, with I from 1 to N; a type of options."""
    number, slash, shards = text.partition("/")
    if not slash or not number.isdecimal() or not shards.isdecimal() or not 0 < int(number) <= int(shards):
        raise argparse.ArgumentTypeError(f"{text}: expected I/N with I from 1 to N, such as 1/4")
    return int(number), int(shards)
