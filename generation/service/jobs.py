"""Films as jobs: folders with a small state, a bounded queue, and threads that make them.

The folders hold everything, so a new process continues where a killed one stopped::

    JOBS/0f3a.../job.json       owner, request, status
    JOBS/0f3a.../first.png      picture of the first step, if one was given
    JOBS/0f3a.../film/          see generation.film.make

With an object store for results they are a cache: the state of each job and the files of finished films are
in the store, and a process on another machine continues from there.
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
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from generation.film.make import FilmCancelled, FilmEvent
from generation.film.plan import FilmBusyError, FilmError, FirstStep, Plan, Request
from generation.film.stills import read_picture, write_png
from generation.service.records import (
    UNFINISHED,
    Change,
    Job,
    Limits,
    NotNowError,
    QueueFullError,
    Status,
    Work,
    parse_job,
    read_job,
)
from generation.service.results import STATE, Results
from models.errors import ReportedError, TransientError
from models.files import write_whole
from pipeline.platform import metrics
from pipeline.platform.log import Level, log
from pipeline.platform.storage import Object

FOLDER = re.compile(r"[0-9a-f]{32}")
BUSY_WAIT_S = 1.0
SWEEP_EVERY_S = 30.0
EMPTIED_AFTER_S = 60.0
"""Time after its end at which a stored film leaves the folder: answers that began before have ended."""
PLAN = "plan.json"
ABANDONED_S = 3600.0
"""Age at which a folder without a state was left by a killed process, not just made by a living one."""
logger = logging.getLogger(__name__)


class Jobs:
    """The jobs of one folder, and the threads that make them.

    Args:
        folder: created if it is missing; its unfinished jobs continue at :meth:`start`.
        make: makes one film.
        results: object store for the jobs and their films; taken for this process until :meth:`stop`.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[Work], object],
        limits: Limits,
        results: Results | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._make, self._limits, self.results = folder, make, limits, results
        self._stored: set[str] = set()
        self._storing = threading.Lock()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(limits.max_running, thread_name_prefix="film")
        self._watchers: dict[str, list[Callable[[Change], None]]] = defaultdict(list)
        if results is not None:
            results.claim()
            self._take_over(results)
        found = (read_job(path) for path in folder.glob(f"*/{STATE}"))
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
        if self.results is not None:
            self.results.release()

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
            NotNowError: the job is unfinished or removed, or its plan is unfinished.
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
        """Stop a job. One that has ended stays as it is.

        Raises:
            NotNowError: it has been removed in the meantime.
        """
        with self._lock:
            job = self._present(job.id)
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
            ReportedError: the object store does not answer; the job stays.
        """
        with self._lock:
            job = self._jobs.get(job.id, job)
            if job.status in UNFINISHED:
                raise NotNowError(f"the narrative is {job.status}: cancel it first")
            self._jobs.pop(job.id, None)
        if self.results is not None:
            self._remove_stored(job)
        # Without its state the folder is no job: a kill from here on leaves nothing that comes back.
        (self._folder / job.id / STATE).unlink(missing_ok=True)
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
        plan = Plan.load(self.film(job))
        if plan is None and self.results is not None and job.id in self._stored:
            self.results.restore(job.id, self._folder / job.id, only=f"film/{PLAN}")
            plan = Plan.load(self.film(job))
        return plan

    def file(self, job: Job, name: str) -> Path | Object | None:
        """Return a file of a film, in its folder or in the object store; None if there is none.

        Raises:
            ReportedError: the store does not answer.
        """
        path = self.film(job) / name
        # What is in the store may be removed from the folder at any time.
        if self.results is None or (job.id not in self._stored and path.is_file()):
            return path if path.is_file() else None
        return self.results.find(job.id, f"film/{name}")

    # The work -----------------------------------------------------------------------------------------

    def _enqueue(self, job: Job, *, instead_of: tuple[str, ...] = ()) -> None:
        with self._lock:
            if instead_of and self._present(job.id).status in instead_of:
                raise NotNowError("the narrative has just been changed by another request")
            self._check_room(job.owner)
            self._save(job)
        self._stored.discard(job.id)
        self._store(job.id)
        self._threads.submit(self._run, job.id)
        self._publish(job.id, 0)

    def _present(self, job_id: str) -> Job:
        """Return the current state of a job. Call it under the lock: another thread may remove the job."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotNowError("the narrative has been removed")
        return job

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
                if self.results is not None:
                    self.results.restore(job_id, self._folder / job_id)
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
            except TransientError as error:
                log("store_failed", level="error", job=job_id, error=str(error))
                self._end(job_id, "failed", "the results could not be reached; edit the step again")
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
        self._store(job_id)
        metrics.add("videoauteur_service_ended", status=status)
        self._publish(job_id, 0)

    def _work(self, job_id: str, started_s: float) -> Work:
        job, first = self._jobs[job_id], None
        if job.first_text is not None:
            data = (self._folder / job_id / "first.png").read_bytes() if job.has_picture else None
            first = FirstStep(text=job.first_text, picture=None if data is None else read_picture(data))

        def event(event: FilmEvent) -> None:
            since_s = time.monotonic() - started_s
            if not event.kept:
                log("piece", job=job_id, piece=event.kind, step=event.step, seconds=round(since_s, 3))
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
        path = self._folder / job.id / STATE
        write_whole(path, json.dumps(asdict(job), ensure_ascii=False), durable=True)
        self._jobs[job.id] = job
        self._count()
        level: Level = "error" if job.status == "failed" else "info"
        log("job", level=level, job=job.id, status=job.status, error=job.error)

    # The object store ---------------------------------------------------------------------------------

    def _take_over(self, results: Results) -> None:
        """Write the states in the store into the folder, and drop what the folder has of other states."""
        for job_id, text in results.states():
            if not FOLDER.fullmatch(job_id):
                continue
            path = self._folder / job_id / STATE
            stored = parse_job(text, job_id)
            there = read_job(path) if path.is_file() else None
            if stored is None:
                continue
            if stored.status not in UNFINISHED:
                self._stored.add(job_id)
            # Of an unfinished film the folder has more than the store.
            same = there is not None and (there.edit, there.status in UNFINISHED) == (stored.edit, True)
            if there != stored and not (same and stored.status in UNFINISHED):
                shutil.rmtree(path.parent, ignore_errors=True)
                write_whole(path, text, durable=True)

    def _store(self, job_id: str) -> None:
        """Store a job as it is now; one that has ended and cannot be stored is tried again by the sweep."""
        if self.results is None:
            return
        job, folder = self._jobs[job_id], self._folder / job_id
        try:
            if job.status in UNFINISHED:
                self.results.save(job_id, folder, files=job.edit is None)
                if job_id not in self._jobs:
                    self.results.remove(job_id)
                return
            # One at a time: the sweep stores, removes and empties too.
            with self._storing:
                if self._jobs.get(job_id) is job and job_id not in self._stored:
                    self.results.save(job_id, folder, files=True)
                    # It may have been edited meanwhile.
                    if self._jobs.get(job_id) is job:
                        self._stored.add(job_id)
        except (ReportedError, OSError) as error:
            log("not_stored", level="error", job=job_id, error=str(error))

    def _sweep_stored(self) -> None:
        """Store what could not be stored, and empty the folders of films that are."""
        for job in list(self._jobs.values()):
            ended = job.status not in UNFINISHED
            if ended and job.id not in self._stored:
                self._store(job.id)
            elif ended and time.time() - (job.ended_s or 0.0) > EMPTIED_AFTER_S:
                with self._lock:
                    if self._jobs.get(job.id) is job:
                        _emptied(self.film(job))

    def _remove_stored(self, job: Job) -> None:
        assert self.results is not None
        try:
            with self._storing:
                self.results.remove(job.id)
        except ReportedError:
            self._jobs[job.id] = job
            raise

    # Retention ----------------------------------------------------------------------------------------

    def _sweep_forever(self) -> None:
        while not self._stopped.wait(min(SWEEP_EVERY_S, self._limits.retention_s or SWEEP_EVERY_S)):
            try:
                self.sweep()
            except (OSError, ReportedError):
                logger.exception("old jobs could not be removed")

    def sweep(self) -> None:
        """Remove jobs past their retention, and folders that a killed process left incomplete."""
        now_s = time.time()
        kept_s = self._limits.retention_s
        for job in list(self._jobs.values()):
            if kept_s is not None and job.ended_s is not None and now_s - job.ended_s > kept_s:
                self.remove(job)
        if self.results is not None:
            self._sweep_stored()
        for folder in self._folder.iterdir():
            no_job = FOLDER.fullmatch(folder.name) and not (folder / STATE).exists()
            if no_job and now_s - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
        for job_id in [job_id for job_id, watchers in self._watchers.items() if not watchers]:
            del self._watchers[job_id]


def _emptied(film: Path) -> None:
    """Remove what a film's folder holds beside the plan: it is in the object store."""
    for path in film.iterdir() if film.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != PLAN:
            path.unlink(missing_ok=True)
