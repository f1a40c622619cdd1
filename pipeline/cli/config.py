"""Print the effective configuration."""

from __future__ import annotations

import argparse

from pipeline.platform.command import DONE, Commands, add_command, add_config_options


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "config", __doc__, _config)
    add_config_options(parser)


def _config(parsed: argparse.Namespace) -> int:
    from pipeline.curation.config import Config
    from pipeline.platform.config import describe, load

    print(describe(load(parsed.config, parsed.settings, Config)), end="")
    return DONE
