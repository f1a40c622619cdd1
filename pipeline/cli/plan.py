"""Estimate the requests to models that curating INPUT makes, and their cost.

Exit codes: 0 done; 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse

from pipeline.platform.command import DONE, Commands, add_command, add_config_options
from pipeline.platform.storage import place


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "plan", __doc__, _plan)
    parser.add_argument("input", metavar="INPUT", help="as for `curate`")
    parser.add_argument(
        "--memo", type=place, metavar="PLACE", help="of an earlier run: what it holds is free"
    )
    add_config_options(parser)


def _plan(parsed: argparse.Namespace) -> int:
    from pipeline.curation.config import Config
    from pipeline.curation.plan import as_text, plan
    from pipeline.platform.config import load

    loaded = load(parsed.config, parsed.settings, Config)
    print(as_text(plan(parsed.input, loaded.config, memo=parsed.memo)))
    return DONE
