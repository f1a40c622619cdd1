"""Files of buckets on the disk of this node: each object is fetched once, however many processes open it.

The cache is bounded by its size: the file that was opened longest ago goes first. A file that a process
holds open stays, so that many large videos at work at once can exceed the bound. A node's processes share
the cache by file locks; a killed one leaves at most a part of a file, which is removed later.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipeline.platform.storage import Object, is_url, located
from stages.view import path_of

FOLDER_VARIABLE = "VIDEOAUTEUR_CACHE"
CACHE_BYTES = 50_000_000_000
"""Bound of the cache where none is configured."""
PART = ".part"


def cache_folder() -> Path:
    """Return this node's folder for files of buckets: ``VIDEOAUTEUR_CACHE``, or one in the user's cache."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).absolute() if given else Path.home() / ".cache" / "videoauteur"


def folder_of(url: str, kind: str) -> Path:
    """Return the folder of this node for what belongs to a URL; ``kind`` says what that is."""
    return cache_folder() / kind / hashlib.sha256(url.encode()).hexdigest()[:24]


@contextmanager
def local_file(uri: str) -> Iterator[Path]:
    """Yield the path of a file, or of this node's copy of an object as it is now.

    Raises:
        FileNotFoundError: the object was removed.
        models.errors.ReportedError: the store refuses or does not answer.
    """
    if not is_url(uri):
        yield path_of(uri)
        return
    with FileCache(cache_folder(), CACHE_BYTES).opened(uri, _identity(uri)) as copy:
        yield copy.path


@lru_cache(maxsize=100_000)
def _identity(uri: str) -> str:
    store, key = located(uri)
    found = store.head(key)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such object", uri)
    return found.identity


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """Local file with the bytes of an object.

    Attributes:
        sha256: of its bytes, in hex.
    """

    path: Path
    sha256: str


class FileCache:
    """Local copies of objects.

    Args:
        folder: on a disk of this node, shared by its processes.
        max_bytes: size of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._files, self._locks = folder / "files", folder / "locks"
        self._max_bytes = max_bytes

    @contextmanager
    def opened(self, uri: str, identity: str) -> Iterator[CachedFile]:
        """Yield the local file of an object; it stays until the context is left.

        Args:
            identity: of the object that is meant; see :attr:`pipeline.platform.storage.Object.identity`.

        Raises:
            FileNotFoundError: the object was removed.
            pipeline.platform.storage.ChangedError: it was written again.
            models.errors.TransientError: the store does not answer.
            OSError: the disk is full.
        """
        name = hashlib.sha256(f"{uri}\n{identity}".encode()).hexdigest()
        held = None
        while held is None:
            path = self._path(name) or self._fetched(name, uri, identity)
            held = _held(path)
        with held:
            os.utime(path)
            yield CachedFile(path=path, sha256=path.stem)

    def _path(self, name: str) -> Path | None:
        """Return the file of an entry, if it is there."""
        with suppress(FileNotFoundError):
            for path in self._entry(name).iterdir():
                if path.name != PART:
                    return path
        return None

    def _entry(self, name: str) -> Path:
        return self._files / name[:2] / name

    def _fetched(self, name: str, uri: str, identity: str) -> Path:
        """Download an object, unless another process has just done it."""
        store, key = located(uri)
        found = Object.of_identity(key, identity)
        entry = self._entry(name)
        # Locks are shared by few names, so that their number stays bounded.
        with self._locked(name[:3]):
            path = self._path(name)
            if path is not None:
                return path
            part = entry / PART
            with self._locked("room"):
                self._make_room(found.bytes)
                entry.mkdir(parents=True, exist_ok=True)
                file = part.open("wb")
                fcntl.flock(file, fcntl.LOCK_SH)
                # Its room is taken before the next process looks how much there is.
                file.truncate(found.bytes)
            with file:
                digest = store.download(found, file)
            path = entry / f"{digest}{PurePosixPath(key).suffix[:16]}"
            part.replace(path)
            return path

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / name).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int) -> None:
        """Remove files that nobody holds, the longest unused first, until ``size`` more bytes fit."""
        found = []
        for path in self._files.glob("*/*/*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size, path))
        there = sum(bytes_ for _, bytes_, _ in found)
        for _, bytes_, path in sorted(found):
            if there + size <= self._max_bytes:
                return
            if _removed(path):
                there -= bytes_


def _held(path: Path) -> BinaryIO | None:
    """Open a file so that no process removes it; None if one did just before."""
    with suppress(FileNotFoundError):
        file = path.open("rb")
        fcntl.flock(file, fcntl.LOCK_SH)
        if path.exists():
            return file
        file.close()
    return None


def _removed(path: Path) -> bool:
    """Remove a file if no process holds it; return whether it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    with suppress(OSError):
        path.parent.rmdir()
    return True
