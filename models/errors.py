"""Errors that a command reports in words, and those that adapters raise."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar, Literal


class ReportedError(Exception):
    """Error that a command reports in words, without a traceback.

    Attributes:
        exit_code: of the command: 1 failed, 2 bad usage or configuration.
    """

    exit_code: ClassVar[int] = 1


class UsageError(ReportedError, ValueError):
    """Error in options, configuration or input; the text names the option or file and the way out."""

    exit_code: ClassVar[int] = 2


class TransientError(ReportedError):
    """Failure outside of this program that may pass; worth another try."""


class EndpointError(UsageError):
    """Refusal by an endpoint of requests as it is configured; it will refuse those of every video."""


class BudgetError(ReportedError):
    """Budget of the run that does not allow another request; no video can go on."""


class StoreError(ReportedError):
    """Memo, ledger, scratch folder or dataset that cannot be written; no video can go on."""


def unwritable(folder: Path, error: OSError) -> StoreError:
    """Return the error of a folder that cannot be written, with the way out."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    way_out = "make room" if full else "make it writable, or name another folder"
    return StoreError(
        f"{folder}: {error.strerror or error}; {way_out}, and give the same command again: "
        "what is finished is kept"
    )


class MissingWeightsError(ReportedError, RuntimeError):
    """Package of model weights that is not installed, or whose file is not the pinned one."""


MediaProblem = Literal[
    "unreadable", "empty_file", "not_a_video", "corrupt", "too_large", "too_long", "bad_timestamps"
]
"""Kinds of unusable media files; also the reasons of the rejects that they become."""


class MediaError(Exception):
    """File that cannot be used as video.

    Attributes:
        detail: message of the demuxer or decoder, or the bound that the file exceeds.
        problem: what kind of problem it is.
    """

    def __init__(self, detail: str, problem: MediaProblem = "corrupt") -> None:
        super().__init__(detail)
        self.detail = detail
        self.problem = problem
