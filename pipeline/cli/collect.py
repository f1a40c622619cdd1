"""Have a strong model caption clips of DATASET, as EXAMPLES for `train captioner`.

Asks the model for pictures that the configuration names (vision.base_url and vision.model, or a server
that serves it), as `curate` would. Without one the dataset's own captions are taken, and nothing is asked.

budget.max_usd, max_tokens and max_requests bound what EXAMPLES may cost in all. The same command
continues where it stopped; answered requests are not sent again. Exit codes: 0 done; 1 stopped, failed
or interrupted; 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.platform.command import (
    DONE,
    FAILED,
    Commands,
    add_command,
    add_config_options,
    folder_to_write,
    local_folder,
    positive,
)

if TYPE_CHECKING:
    from pipeline.captions.collect import Collected


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "collect", __doc__, _collect)
    parser.add_argument("dataset", metavar="DATASET", type=local_folder, help="an OUTPUT of curate")
    parser.add_argument(
        "examples", metavar="EXAMPLES", type=folder_to_write, help="a folder, new or one of ours"
    )
    parser.add_argument(
        "--clips", type=positive, metavar="N", help="how many, drawn at random; default: all"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (%(default)s)")
    add_config_options(parser)


def _collect(parsed: argparse.Namespace) -> int:
    from pipeline.curation.config import Config
    from pipeline.platform.config import load

    config = load(parsed.config, parsed.settings, Config).config
    from pipeline.captions.collect import collect

    result = collect(parsed.dataset, parsed.examples, config, clips=parsed.clips, seed=parsed.seed)
    _tell(result, parsed.examples)
    if result.stopped:
        print(
            f"videoauteur: stopped: {result.stopped}. What was answered is kept; the same command goes on, "
            "with a larger budget.* if that is what is spent.",
            file=sys.stderr,
        )
        return FAILED
    return DONE


def _tell(result: Collected, examples: Path) -> None:
    print(f"{examples}: {result.examples} examples")
    for why, count in result.problems.most_common():
        print(f"  without an example: {count} clips, {why}")
    for total in result.totals:
        print(
            f"  {total.model}: {total.requests} requests, {total.input_tokens} tokens read, "
            f"{total.output_tokens} written, ${total.usd:.4f}"
            + (f", at most ${total.at_most_usd:.4f}" if total.unknown else "")
            + (f"; {total.remembered} answers were there already" if total.remembered else "")
        )
