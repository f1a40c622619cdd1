"""The command line: ``videoauteur`` and ``python -m pipeline`` are the same program."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import __version__
from pipeline.curation.config import Config
from pipeline.platform.command import BAD_USAGE, DONE, FAILED, OVER_BUDGET, add_config_options
from pipeline.platform.config import ConfigError, describe, load
from pipeline.platform.packages import check_packages


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    check_packages()
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except ConfigError as error:
        print(f"videoauteur: configuration\n{error}", file=sys.stderr)
        return BAD_USAGE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="videoauteur",
        description="Turn raw how-to videos into a narrative dataset in Parquet, and that into films.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    curate = commands.add_parser(
        "curate",
        help="curate INPUT into OUTPUT",
        epilog="Exit codes: 0 done; 1 failed or interrupted; 2 bad usage or configuration; "
        "3 done, but more videos failed than run.error_budget allows, or the budget is spent.",
    )
    curate.add_argument("input", metavar="INPUT", help="a folder, a video, or a .txt list of paths")
    curate.add_argument("output", metavar="OUTPUT", type=Path, help="a folder, new or one of ours")
    curate.add_argument("--runner", choices=("ray", "local"), help="short for --set run.runner=...")
    curate.add_argument("--memo", type=Path, metavar="FOLDER", help="default: OUTPUT/_memo")
    add_config_options(curate)
    curate.set_defaults(run=_curate)

    plan = commands.add_parser(
        "plan",
        help="say what curating INPUT will ask of the models, and what it will cost",
        epilog="Exit codes: 0 done; 2 bad usage or configuration.",
    )
    plan.add_argument("input", metavar="INPUT", help="a folder, a video, or a .txt list of paths")
    plan.add_argument(
        "--memo", type=Path, metavar="FOLDER", help="of an earlier run: what it holds is free"
    )
    add_config_options(plan)
    plan.set_defaults(run=_plan)

    config = commands.add_parser("config", help="print the effective configuration")
    add_config_options(config)
    config.set_defaults(run=_config)

    # The one upward edge: by name and here only, so that this package can be used without that one.
    importlib.import_module("generation.cli.commands").add_commands(commands)
    return parser


def _config(parsed: argparse.Namespace) -> int:
    print(describe(load(parsed.config, parsed.settings, Config)), end="")
    return DONE


def _plan(parsed: argparse.Namespace) -> int:
    loaded = load(parsed.config, parsed.settings, Config)
    from pipeline.curation.ingest import InputError
    from pipeline.curation.plan import as_text, plan

    try:
        print(as_text(plan(parsed.input, loaded.config, memo=parsed.memo)))
    except InputError as error:
        print(f"videoauteur: {error}", file=sys.stderr)
        return BAD_USAGE
    return DONE


def _curate(parsed: argparse.Namespace) -> int:
    settings = [*parsed.settings, *([f"run.runner={parsed.runner}"] if parsed.runner else [])]
    loaded = load(parsed.config, settings, Config)
    # Here, so that --help and a wrong option answer at once.
    from models.errors import MissingWeightsError
    from models.server import ServerError
    from pipeline.curation.ingest import InputError
    from pipeline.curation.job import OutputError, curate
    from pipeline.report.summary import as_text

    # A cluster ends a job with SIGTERM; it deserves the same clean stop as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcome = curate(parsed.input, parsed.output, loaded, memo=parsed.memo)
    except (InputError, OutputError) as error:
        print(f"videoauteur: {error}", file=sys.stderr)
        return BAD_USAGE
    except (MissingWeightsError, ServerError) as error:
        print(f"videoauteur: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "videoauteur: interrupted. What was finished is kept; the same command goes on from there.",
            file=sys.stderr,
        )
        return FAILED
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
