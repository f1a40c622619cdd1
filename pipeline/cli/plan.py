"""``videoauteur plan``: the requests, tokens and money of a run, beforehand."""

from __future__ import annotations

import argparse

from pipeline.platform.command import DONE, Commands, add_config_options
from pipeline.platform.storage import place


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "plan",
        help="estimate what curating INPUT will ask of the models, and what it will cost",
        epilog="Exit codes: 0 done; 2 bad usage or configuration.",
    )
    parser.add_argument("input", metavar="INPUT", help="as for `curate`")
    parser.add_argument(
        "--memo", type=place, metavar="PLACE", help="of an earlier run: what it holds is free"
    )
    add_config_options(parser)
    parser.set_defaults(run=_plan)


def _plan(parsed: argparse.Namespace) -> int:
    from pipeline.curation.config import Config
    from pipeline.curation.plan import as_text, plan
    from pipeline.platform.config import load

    loaded = load(parsed.config, parsed.settings, Config)
    print(as_text(plan(parsed.input, loaded.config, memo=parsed.memo)))
    return DONE
