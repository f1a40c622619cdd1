"""Parts that all commands share: exit codes, options, and how they end."""

from __future__ import annotations

import argparse
import errno
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from models.errors import ReportedError, unwritable
from models.redaction import Redactor

DONE, FAILED, BAD_USAGE, OVER_BUDGET = 0, 1, 2, 3
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Numbers of system errors that the user has to mend: the disk is full, or may not be written."""
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Parser that commands are added to."""


def add_command(
    commands: Commands, name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Register a command and return its parser.

    Args:
        text: documentation of the command's module, which is its help: the first paragraph in the list of
            commands, all of it in its own.
        run: the command; returns its exit code.
    """
    summary, _, details = inspect.cleandoc(text).partition("\n\n")
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_set_option(parser: argparse.ArgumentParser, what: str) -> None:
    """``--set a.b=value``, as ``settings``; ``what`` is the tree that it sets a value of."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", dest="settings",
        help=f"one value of the {what}; may be repeated",
    )  # fmt: skip


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--config FILE`` and ``--set``, for the curation's configuration."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file")
    add_set_option(parser, "configuration")


def positive(text: str) -> int:
    """A whole number from 1 on; a type of options."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def local_folder(text: str) -> Path:
    """A folder on this machine, for commands that take no bucket; a type of options."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text} lies in a bucket; copy it into a folder and name that")
    return Path(text)


def folder_to_write(text: str) -> Path:
    """A folder on this machine that is there or can be made; a type of options."""
    path = local_folder(text)
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there} is a file; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{there} cannot be written; make it writable, or name another")
    return path


def _interrupt(*_: object) -> None:
    for number in INTERRUPTIONS:
        signal.signal(number, _leave)
    raise KeyboardInterrupt


def _leave(*_: object) -> None:
    os.write(2, b"videoauteur: interrupted again. Finished work is kept.\n")
    os._exit(FAILED)


def _reported(error: ReportedError) -> int:
    # A server may have sent the key back, and the error of a program names its arguments.
    print(f"videoauteur: {Redactor().text(str(error))}", file=sys.stderr)
    return error.exit_code


def ended(run: Callable[[argparse.Namespace], int], parsed: argparse.Namespace) -> int:
    """Run a command and return its exit code; errors that are meant for the user are printed.

    SIGTERM, by which clusters end a job, interrupts as Ctrl-C does. A second interruption ends the process
    at once: a thread that reads from a dead network drive cannot be waited for.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTIONS if main}
    try:
        return run(parsed)
    except ReportedError as error:
        return _reported(error)
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is None:
            raise
        return _reported(unwritable(Path(os.fsdecode(error.filename)), error))
    except KeyboardInterrupt:
        print(
            "videoauteur: interrupted. Finished work is kept; run the same command again to continue.",
            file=sys.stderr,
        )
        return FAILED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
