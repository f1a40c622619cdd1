"""Films as jobs: folders with a small state, a bounded queue, and threads that make them.

Everything that matters lies in the folders, so that a new process goes on where a killed one was::

    JOBS/0f3a.../job.json       owner, request, status
    JOBS/0f3a.../first.png      picture of the first step, where one was given
    JOBS/0f3a.../film/          see generation.film.make
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from generation.film.make import FilmCancelled
from generation.film.plan import FilmBusyError, FilmError, FirstStep, Plan, Request
from generation.film.stills import read_picture, write_png

Status = Literal["queued", "running", "cancelling", "cancelled", "done", "failed"]
UNFINISHED = ("queued", "running", "cancelling")
FILE = "job.json"
BUSY_WAIT_S = 1.0
RETRY_AFTER_S = 10
logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """As many jobs wait as may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A film that somebody asked for.

    Attributes:
        owner: digest of the key that made it; nobody else sees it.
        created_s: seconds since the epoch.
        error: what went wrong, for the owner to read.
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
    error: str | None = None


Make = Callable[[Request, Path, Callable[[], bool]], object]
"""Makes the film of a request in a folder, asking whether it is cancelled; see ``make_film``."""


class Jobs:
    """The jobs of one folder, and the threads that make them.

    Args:
        folder: made if it is not there; unfinished jobs in it go on at :meth:`start`.
        make: makes one film.
        max_running: films at once.
        max_queued: jobs that may wait.
    """

    def __init__(self, folder: Path, make: Make, *, max_running: int, max_queued: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._make, self._room = folder, make, max_running + max_queued
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(max_running, thread_name_prefix="film")
        # A folder without a state was being made when its process died; nobody knows of it.
        found = (_read(path) for path in folder.glob(f"*/{FILE}"))
        self._jobs = {job.id: job for job in sorted(found, key=lambda job: job.created_s)}

    def start(self) -> None:
        """Go on with the unfinished jobs, oldest first."""
        for job in list(self._jobs.values()):
            if job.status in UNFINISHED:
                self._threads.submit(self._run, job.id)

    def stop(self) -> None:
        """Let go of all films; whoever starts next goes on with them."""
        self._stopped.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def submit(self, owner: str, request: Request) -> Job:
        """Put a job into the queue; it is on disk when this returns.

        Raises:
            QueueFullError: try later.
        """
        first = request.first
        with self._lock:
            if sum(job.status in UNFINISHED for job in self._jobs.values()) >= self._room:
                raise QueueFullError
            job = Job(
                id=uuid.uuid4().hex, owner=owner, goal=request.goal, seed=request.seed or 0,
                steps=request.steps, first_text=first.text if first else None,
                has_picture=first is not None and first.picture is not None, created_s=time.time(),
            )  # fmt: skip
            folder = self._folder / job.id
            folder.mkdir()
            if first is not None and first.picture is not None:
                write_png(folder / "first.png", first.picture, job.id)
            self._keep(job)
        self._threads.submit(self._run, job.id)
        return job

    def find(self, owner: str, job_id: str) -> Job | None:
        """A job of this owner; None if there is none."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner == owner else None

    def cancel(self, job: Job) -> Job:
        """Ask a job to stop. What has ended stays as it is."""
        with self._lock:
            job = self._jobs[job.id]
            if job.status in UNFINISHED:
                job = replace(job, status="cancelled" if job.status == "queued" else "cancelling")
                self._keep(job)
            return job

    def film(self, job: Job) -> Path:
        """The folder of a job's film."""
        return self._folder / job.id / "film"

    def plan(self, job: Job) -> Plan | None:
        """How far it is; None before it begins."""
        return Plan.load(self.film(job))

    def _run(self, job_id: str) -> None:
        if not self._enter(job_id):
            return
        while not self._stopped.is_set():
            try:
                self._make(self._request(job_id), self.film(self._jobs[job_id]), self._cancelled(job_id))
                self._end(job_id, "done")
            except FilmBusyError:
                # The process before us has not gone yet.
                time.sleep(BUSY_WAIT_S)
                continue
            except FilmCancelled:
                if not self._stopped.is_set():
                    self._end(job_id, "cancelled")
            except FilmError as error:
                self._end(job_id, "failed", str(error))
            except Exception:
                if not self._stopped.is_set():
                    logger.exception("job %s", job_id)
                    self._end(job_id, "failed", "internal error; the service's log says more")
            return

    def _enter(self, job_id: str) -> bool:
        with self._lock:
            job = self._jobs[job_id]
            if job.status == "queued":
                self._keep(replace(job, status="running"))
            return job.status in UNFINISHED

    def _end(self, job_id: str, status: Status, error: str | None = None) -> None:
        with self._lock:
            self._keep(replace(self._jobs[job_id], status=status, error=error))

    def _cancelled(self, job_id: str) -> Callable[[], bool]:
        return lambda: self._stopped.is_set() or self._jobs[job_id].status == "cancelling"

    def _request(self, job_id: str) -> Request:
        job, first = self._jobs[job_id], None
        if job.first_text is not None:
            data = (self._folder / job_id / "first.png").read_bytes() if job.has_picture else None
            first = FirstStep(text=job.first_text, picture=None if data is None else read_picture(data))
        return Request(goal=job.goal, seed=job.seed, steps=job.steps, first=first)

    def _keep(self, job: Job) -> None:
        path = self._folder / job.id / FILE
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(job), ensure_ascii=False), encoding="utf-8")
        part.replace(path)
        self._jobs[job.id] = job


def _read(path: Path) -> Job:
    return Job(**json.loads(path.read_text(encoding="utf-8")))
