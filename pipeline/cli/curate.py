"""``videoauteur curate``: from raw videos to the finished dataset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.platform.command import DONE, OVER_BUDGET, Commands, add_config_options


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "curate",
        help="curate INPUT into OUTPUT",
        epilog="Exit codes: 0 done; 1 failed or interrupted; 2 bad usage or configuration; "
        "3 done, but more videos failed than run.error_budget allows, or the budget is spent.",
    )
    parser.add_argument("input", metavar="INPUT", help="a folder, a video, or a .txt list of paths")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="a folder, new or one of ours")
    parser.add_argument("--runner", choices=("ray", "local"), help="short for --set run.runner=...")
    parser.add_argument("--memo", type=Path, metavar="FOLDER", help="default: OUTPUT/_memo")
    add_config_options(parser)
    parser.set_defaults(run=_curate)


def _curate(parsed: argparse.Namespace) -> int:
    from pipeline.curation.config import Config
    from pipeline.platform.config import load

    settings = [*parsed.settings, *([f"run.runner={parsed.runner}"] if parsed.runner else [])]
    loaded = load(parsed.config, settings, Config)
    from pipeline.curation.job import curate
    from pipeline.report.summary import as_text

    outcome = curate(parsed.input, parsed.output, loaded, memo=parsed.memo)
    print(as_text(outcome.summary, parsed.output))
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
