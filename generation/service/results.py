"""Jobs and finished films in an object store, so that another machine can show and continue them.

The layout; the state is written last::

    RESULTS/jobs/ID.json        the state of the job, as in its job.json
    RESULTS/films/ID/...        the files of its folder: plan, key frames, clips, film, first picture
    RESULTS/_lease              the service that uses the place: it continues all that is unfinished there
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.errors import ReportedError
from models.files import whole_file
from pipeline.platform.lease import Lease
from pipeline.platform.storage import Object, Store

STATE = "job.json"
READ_AT_ONCE = 16


class Results:
    """The jobs below one URL; may be used by several threads.

    Args:
        url: of a folder in a bucket.

    Raises:
        models.errors.UsageError: it is not one of a known store.
    """

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self._lease = Lease(self.store, f"--results {self.store.url}", "service")

    @property
    def lost(self) -> bool:
        """Return whether another service has taken the place."""
        return self._lease.lost

    def claim(self) -> None:
        """Take the place for this process, if need be from a service that died.

        Raises:
            models.errors.UsageError: another service uses it.
            models.errors.ReportedError: the store refuses, or does not answer.
        """
        # Of a bucket that is not there an object looks merely absent; a listing is refused.
        next(self.store.list("jobs"), None)
        self._lease.claim()

    def release(self) -> None:
        """Give the place back; nothing is written there any more."""
        # A store that is away keeps the lease until it is silent.
        with contextlib.suppress(ReportedError):
            self._lease.release()

    def states(self) -> Iterator[tuple[str, bytes]]:
        """Yield the id and the content of ``job.json`` of each job.

        Raises:
            models.errors.ReportedError: the store refuses, or does not answer; likewise the methods below.
        """
        keys = [found.key for found in self.store.list("jobs")]
        with ThreadPoolExecutor(READ_AT_ONCE) as threads:
            for key, text in zip(keys, threads.map(self.store.get, keys), strict=True):
                yield key.removeprefix("jobs/").removesuffix(".json"), text

    def save(self, job_id: str, folder: Path, *, files: bool) -> None:
        """Store a job: the files of its folder if they are meant too, then its state.

        Files of an earlier film that a finished one lacks are removed.
        """
        if files:
            paths = [path for path in folder.rglob("*") if _is_result(path)]
            found = {f"films/{job_id}/{path.relative_to(folder).as_posix()}": path for path in paths}
            for key, path in found.items():
                self.store.put(key, path)
            if f"films/{job_id}/film/film.mp4" in found:
                self.store.delete([each.key for each in self._files(job_id) if each.key not in found])
        self.store.put(f"jobs/{job_id}.json", folder / STATE)

    def restore(self, job_id: str, folder: Path, only: str = "") -> None:
        """Fetch the files of a job that its folder lacks.

        Args:
            only: name of a single file; all of them if empty.
        """
        for found in self._files(job_id):
            name = found.key.removeprefix(f"films/{job_id}/")
            path = folder / name
            if only in ("", name) and path.resolve().is_relative_to(folder.resolve()) and not path.exists():
                with whole_file(path) as part, part.open("wb") as file:
                    self.store.download(found, file)

    def find(self, job_id: str, name: str) -> Object | None:
        """Return a file of a job; None if there is none."""
        return self.store.head(f"films/{job_id}/{name}")

    def remove(self, job_id: str) -> None:
        """Delete a job, its state first: a kill in between leaves no half of one."""
        self.store.delete([f"jobs/{job_id}.json"])
        self.store.delete(each.key for each in self._files(job_id))

    def _files(self, job_id: str) -> list[Object]:
        return list(self.store.list(f"films/{job_id}"))


def _is_result(path: Path) -> bool:
    """Return whether a file belongs to a film: locks and parts have a dot first, the state is separate."""
    return path.is_file() and path.name != STATE and not path.name.startswith(".")
