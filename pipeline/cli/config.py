"""``videoauteur config``: print the effective configuration."""

from __future__ import annotations

import argparse

from pipeline.platform.command import DONE, Commands, add_config_options


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser("config", help="print the effective configuration")
    add_config_options(parser)
    parser.set_defaults(run=_config)


def _config(parsed: argparse.Namespace) -> int:
    from pipeline.curation.config import Config
    from pipeline.platform.config import describe, load

    print(describe(load(parsed.config, parsed.settings, Config)), end="")
    return DONE
