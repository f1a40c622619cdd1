"""Films as jobs: folders with a small state, a bounded queue, and threads that make them.

The folders hold everything, so a new process continues where a killed one stopped::

    JOBS/0f3a.../job.json       owner, request, status
    JOBS/0f3a.../first.png      picture of the first step, if one was given
    JOBS/0f3a.../film/          see generation.film.make
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from generation.film.make import FilmCancelled, FilmEvent
from generation.film.plan import FilmBusyError, FilmError, FirstStep, Plan, Request
from generation.film.stills import read_picture, write_png
from models.files import write_whole
from pipeline.platform import metrics

Status = Literal["queued", "running", "cancelling", "cancelled", "done", "failed"]
UNFINISHED = ("queued", "running", "cancelling")
FILE = "job.json"
FOLDER = re.compile(r"[0-9a-f]{32}")
BUSY_WAIT_S = 1.0
SWEEP_EVERY_S = 30.0
ABANDONED_S = 3600.0
"""Age at which a folder without a state was left by a killed process, not just made by a living one."""
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


class Jobs:
    """The jobs of one folder, and the threads that make them.

    Args:
        folder: created if it is missing; its unfinished jobs continue at :meth:`start`.
        make: makes one film.
    """

    def __init__(self, folder: Path, make: Callable[[Work], object], limits: Limits) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._make, self._limits = folder, make, limits
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(limits.max_running, thread_name_prefix="film")
        self._watchers: dict[str, list[Callable[[Change], None]]] = defaultdict(list)
        found = (_read(path) for path in folder.glob(f"*/{FILE}"))
        known = sorted((job for job in found if job is not None), key=lambda job: job.created_s)
        self._jobs = {job.id: job for job in known}

    def start(self) -> None:
        """Continue the unfinished jobs, oldest first, and remove old ones from now on."""
        for job in list(self._jobs.values()):
            if job.status in UNFINISHED:
                self._threads.submit(self._run, job.id)
        self._count()
        threading.Thread(target=self._sweep_forever, name="sweep", daemon=True).start()

    def stop(self) -> None:
        """Abandon all films; the next process continues them."""
        self._stopped.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # What callers ask ---------------------------------------------------------------------------------

    def check_room(self, owner: str) -> None:
        """Check that a job of this owner would be taken now.

        Raises:
            QueueFullError: it would not.
        """
        with self._lock:
            self._check_room(owner)

    def submit(self, owner: str, request: Request) -> Job:
        """Add a job to the queue; it is on disk when this returns.

        Raises:
            QueueFullError: try later.
        """
        first = request.first
        job = Job(
            id=uuid.uuid4().hex, owner=owner, goal=request.goal, seed=request.seed or 0,
            steps=request.steps, first_text=first.text if first else None,
            has_picture=first is not None and first.picture is not None, created_s=time.time(),
        )  # fmt: skip
        folder = self._folder / job.id
        folder.mkdir()
        if first is not None and first.picture is not None:
            write_png(folder / "first.png", first.picture, job.id)
        try:
            self._enqueue(job)
        except QueueFullError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def edit(self, job: Job, step: int, action: str) -> Job:
        """Queue the change of a step of a job that has ended.

        Raises:
            NotNowError: the job is unfinished, or its plan is.
            FilmError: there is no such step.
            QueueFullError: try later.
        """
        plan = self.plan(job)
        if job.status in UNFINISHED:
            raise NotNowError(f"the narrative is {job.status}: edit it when it has ended")
        if plan is None or not plan.complete:
            raise NotNowError("the narrative is not planned to its end and cannot be edited")
        if not 1 <= step <= len(plan.steps):
            raise FilmError(f"there is no step {step}: the narrative has {len(plan.steps)}")
        job = replace(job, status="queued", edit=(step, action), ended_s=None, error=None)
        self._enqueue(job, instead_of=UNFINISHED)
        return job

    def find(self, owner: str, job_id: str) -> Job | None:
        """Return a job of this owner; None if there is none."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner == owner else None

    def owned(self, owner: str) -> list[Job]:
        """Return all jobs of this owner, newest first."""
        jobs = [job for job in list(self._jobs.values()) if job.owner == owner]
        return sorted(jobs, key=lambda job: job.created_s, reverse=True)

    def cancel(self, job: Job) -> Job:
        """Stop a job. One that has ended stays as it is."""
        with self._lock:
            job = self._jobs[job.id]
            if job.status == "queued":
                job = replace(job, status="cancelled", ended_s=time.time())
                self._save(job)
            elif job.status == "running":
                job = replace(job, status="cancelling")
                self._save(job)
        self._publish(job.id, 0)
        return job

    def remove(self, job: Job) -> None:
        """Delete a job that has ended, with its files.

        Raises:
            NotNowError: it is unfinished.
        """
        with self._lock:
            job = self._jobs.get(job.id, job)
            if job.status in UNFINISHED:
                raise NotNowError(f"the narrative is {job.status}: cancel it first")
            self._jobs.pop(job.id, None)
            # Without its state the folder is no job: a kill from here on leaves nothing that comes back.
            (self._folder / job.id / FILE).unlink(missing_ok=True)
        shutil.rmtree(self._folder / job.id, ignore_errors=True)
        self._count()

    @contextmanager
    def watched(self, job: Job, news: Callable[[Change], None]) -> Iterator[None]:
        """Call ``news`` at every change of a job, from other threads."""
        watchers = self._watchers[job.id]
        watchers.append(news)
        try:
            yield
        finally:
            watchers.remove(news)

    def film(self, job: Job) -> Path:
        """Return the folder of a job's film."""
        return self._folder / job.id / "film"

    def plan(self, job: Job) -> Plan | None:
        """Return the plan as far as it is made; None before it begins."""
        return Plan.load(self.film(job))

    # The work -----------------------------------------------------------------------------------------

    def _enqueue(self, job: Job, *, instead_of: tuple[str, ...] = ()) -> None:
        with self._lock:
            if instead_of and self._jobs[job.id].status in instead_of:
                raise NotNowError("the narrative has just been changed by another request")
            self._check_room(job.owner)
            self._save(job)
        self._threads.submit(self._run, job.id)
        self._publish(job.id, 0)

    def _check_room(self, owner: str) -> None:
        owners = [job.owner for job in self._jobs.values() if job.status in UNFINISHED]
        if len(owners) >= self._limits.max_running + self._limits.max_queued:
            raise QueueFullError("the queue is full, try later")
        if owners.count(owner) >= self._limits.max_per_owner:
            raise QueueFullError(f"{owners.count(owner)} of your narratives are unfinished, try later")

    def _run(self, job_id: str) -> None:
        if not self._enter(job_id):
            return
        started_s = time.monotonic()
        while not self._stopped.is_set():
            try:
                self._make(self._work(job_id, started_s))
                self._end(job_id, "done")
            except FilmBusyError:
                # The process before this one has not ended yet.
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
            job = self._jobs.get(job_id)
            if job is None or job.status not in UNFINISHED:
                return False
            if job.status == "queued":
                self._save(replace(job, status="running"))
        self._publish(job_id, 0)
        return True

    def _end(self, job_id: str, status: Status, error: str | None = None) -> None:
        with self._lock:
            self._save(replace(self._jobs[job_id], status=status, error=error, ended_s=time.time()))
        metrics.add("videoauteur_service_ended", status=status)
        self._publish(job_id, 0)

    def _work(self, job_id: str, started_s: float) -> Work:
        job, first = self._jobs[job_id], None
        if job.first_text is not None:
            data = (self._folder / job_id / "first.png").read_bytes() if job.has_picture else None
            first = FirstStep(text=job.first_text, picture=None if data is None else read_picture(data))

        def event(event: FilmEvent) -> None:
            since_s = time.monotonic() - started_s
            if event.kind == "keyframe" and not event.kept:
                metrics.observe("videoauteur_service_step_seconds", since_s)
            if event.kind == "film":
                metrics.observe("videoauteur_service_film_seconds", since_s)
            else:
                self._publish(job_id, event.step)

        return Work(
            request=Request(
                goal=job.goal, seed=job.seed, steps=job.steps, first=first, edit=job.edit
            ),
            out=self.film(job), on_event=event,
            cancelled=lambda: self._stopped.is_set() or self._jobs[job_id].status == "cancelling",
        )  # fmt: skip

    def _publish(self, job_id: str, step: int) -> None:
        self._count()
        job = self._jobs.get(job_id)
        if job is None or not self._watchers.get(job_id):
            return
        change = Change(job=job, plan=self.plan(job), step=step)
        for news in list(self._watchers[job_id]):
            news(change)

    def _count(self) -> None:
        counts = Counter(job.status for job in list(self._jobs.values()))
        for status in get_args(Status):
            metrics.put("videoauteur_service_jobs", counts[status], status=status)

    def _save(self, job: Job) -> None:
        path = self._folder / job.id / FILE
        write_whole(path, json.dumps(asdict(job), ensure_ascii=False), durable=True)
        self._jobs[job.id] = job

    # Retention ----------------------------------------------------------------------------------------

    def _sweep_forever(self) -> None:
        while not self._stopped.wait(min(SWEEP_EVERY_S, self._limits.retention_s or SWEEP_EVERY_S)):
            try:
                self.sweep()
            except OSError:
                logger.exception("old jobs could not be removed")

    def sweep(self) -> None:
        """Remove jobs past their retention, and folders that a killed process left incomplete."""
        now_s = time.time()
        kept_s = self._limits.retention_s
        for job in list(self._jobs.values()):
            if kept_s is not None and job.ended_s is not None and now_s - job.ended_s > kept_s:
                self.remove(job)
        for folder in self._folder.iterdir():
            no_job = FOLDER.fullmatch(folder.name) and not (folder / FILE).exists()
            if no_job and now_s - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
        for job_id in [job_id for job_id, watchers in self._watchers.items() if not watchers]:
            del self._watchers[job_id]


def _read(path: Path) -> Job | None:
    """Return a stored job; None, with a line in the log, if the file is damaged."""
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if fields["edit"] is not None:
            fields["edit"] = (int(fields["edit"][0]), str(fields["edit"][1]))
        job = Job(**fields)
        if job.id != path.parent.name or job.status not in get_args(Status):
            raise ValueError("it is not the state of this folder")
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        logger.error("%s is damaged and skipped: %s", path, error)
        return None
    return job
