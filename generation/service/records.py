"""Values that describe a job of the service, and the reading of stored ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from generation.film.make import FilmEvent
from generation.film.plan import Plan, Request

Status = Literal["queued", "running", "cancelling", "cancelled", "done", "failed"]
UNFINISHED = ("queued", "running", "cancelling")
logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """No room for another unfinished job; the text says whose bound was reached."""


class NotNowError(Exception):
    """The job's status does not allow the operation; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A film that a caller asked for.

    Attributes:
        owner: digest of the key that made it; other keys do not see it.
        created_s: seconds since the epoch; likewise ``ended_s``, None while it is unfinished.
        edit: number and new action of the step that was edited last.
        error: reason of a failure, for the owner to read.
    """

    id: str
    owner: str
    goal: str
    seed: int
    steps: int | None
    first_text: str | None
    has_picture: bool
    created_s: float
    status: Status = "queued"
    edit: tuple[int, str] | None = None
    ended_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One film to make, or to change.

    Attributes:
        out: the film's folder.
        cancelled: asked between pieces of work, and while one is waited for.
    """

    request: Request
    out: Path
    on_event: Callable[[FilmEvent], None]
    cancelled: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """News of a job: of one step, or of the whole if ``step`` is 0."""

    job: Job
    plan: Plan | None
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on jobs.

    Attributes:
        max_running: films made at once.
        max_queued: jobs that wait.
        max_per_owner: unfinished jobs of one key.
        retention_s: age after its end at which a job is removed; None keeps it.
    """

    max_running: int
    max_queued: int
    max_per_owner: int
    retention_s: float | None = None


def read_job(path: Path) -> Job | None:
    """Return a stored job; None, with a line in the log, if the file cannot be used."""
    try:
        return parse_job(path.read_bytes(), path.parent.name)
    except OSError as error:
        logger.error("%s cannot be read and is skipped: %s", path, error)
        return None


def parse_job(text: bytes, job_id: str) -> Job | None:
    """Return the job of a state; None, with a line in the log, if it is damaged."""
    try:
        fields: dict[str, Any] = json.loads(text)
        if fields["edit"] is not None:
            fields["edit"] = (int(fields["edit"][0]), str(fields["edit"][1]))
        job = Job(**fields)
        if job.id != job_id or job.status not in get_args(Status):
            raise ValueError("it is not the state of this folder")
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        logger.error("the state of job %s is damaged and skipped: %s", job_id, error)
        return None
    return job
