"""The store of results: no result is computed twice, no answer is paid for twice.

Append-only segments, one for each writing process, in one folder that runs may share. A record is one
line: key, checksum, JSON. A line that a kill tore is skipped. The index lives in memory
(:mod:`pipeline.platform.memo_index`) and is brought up to date from the segments when a key is missed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from models.errors import UsageError
from models.files import is_locked, whole_file
from pipeline.platform.memo_index import MemoIndex, Place

CHECKSUM = b" %08x "
"""Text between the key and the JSON of a record, always as long."""
CHECKSUM_BYTES = len(CHECKSUM % 0)
STALE_S = 1.0
"""Age of the index from which on a missed key has it brought up to date in any case."""


class Memo:
    """Keys to JSON texts; see :class:`models.language.AnswerStore`.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._index = MemoIndex()
        self._read_to: dict[str, int] = {}
        self._refreshed_s = float("-inf")
        self._segment: BinaryIO | None = None
        self._own = ""
        """Name of the file of ``_segment``."""
        self._readers: dict[str, BinaryIO] = {}

    def get(self, key: str, *, fresh: bool = True) -> str | None:
        """Return the value, or None.

        Args:
            fresh: find what other processes wrote until now; else their last second may be missing, which
                saves the many lookups of keys that no process has stored.
        """
        place = self._index.get(key)
        if place is None and (fresh or time.monotonic() - self._refreshed_s > STALE_S):
            self._refresh()
            place = self._index.get(key)
        if place is None:
            return None
        if place.segment not in self._readers:
            self._readers[place.segment] = (self._folder / place.segment).open("rb")
        reader = self._readers[place.segment]
        reader.seek(place.offset)
        record, head = reader.read(place.length), f"{key} ".encode()
        if not record.startswith(head):
            return None
        return record[len(head) - 1 + CHECKSUM_BYTES :].decode()

    def put(self, key: str, value: str, *, durable: bool = True) -> None:
        """Append a record; a killed process does not lose it.

        Args:
            durable: it is on the disk when this returns, so that it outlives a power failure too; for
                answers that were paid for. A result that can be computed again need not wait for the disk.

        Raises:
            ValueError: the key or the value does not fit on a line.
        """
        if " " in key or "\n" in key or "\n" in value:
            raise ValueError("a record is one line")
        if self._segment is None:
            self._own = f"{uuid.uuid4().hex}.seg"
            self._segment = self._new_segment(self._folder / self._own)
        data = value.encode()
        line = b"".join((key.encode(), CHECKSUM % zlib.crc32(data), data, b"\n"))
        try:
            self._segment.write(line)
            self._segment.flush()
            if durable:
                os.fsync(self._segment.fileno())
            else:
                self._note_own(key, self._segment.tell(), len(line))
        except OSError:
            # The line may be torn; the next one goes to a segment of its own.
            with contextlib.suppress(OSError):
                self._segment.close()
            self._segment = None
            raise

    @property
    def folder(self) -> Path:
        """Return the folder of the segments that this process reads."""
        return self._folder

    def prune(self, wanted: Callable[[str], bool], *, dry_run: bool) -> Pruned:
        """Drop records whose keys are not wanted; see :func:`prune`."""
        return prune(self._folder, wanted, dry_run=dry_run)

    def seal(self) -> None:
        """Let other machines see what was put; nothing to do where they share the folder."""

    def compact(self) -> None:
        """Join what is stored in many small pieces; there are none in a folder."""

    def close(self) -> None:
        """Close all files."""
        for file in (*self._readers.values(), *([self._segment] if self._segment else [])):
            file.close()
        self._readers.clear()
        self._segment = None

    def _new_segment(self, path: Path) -> BinaryIO:
        # Private to one user, as the packed frames are: transcripts and answers stand in it.
        segment = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        with contextlib.suppress(OSError):
            # Held as long as this process lives, so that it is not pruned; some file systems have no locks.
            fcntl.flock(segment, fcntl.LOCK_EX)
        return segment

    def _note_own(self, key: str, end: int, length: int) -> None:
        """Add the last record of this process's segment to the index, which saves reading it back.

        Answers are read back: two processes that got an answer at once then agree on the first.

        Args:
            end: length of the segment with the record.
        """
        if self._read_to.get(self._own, 0) == end - length:
            self._index.add(key, Place(self._own, end - length, length - 1))
            self._read_to[self._own] = end

    def _refresh(self) -> None:
        self._refreshed_s = time.monotonic()
        with os.scandir(self._folder) as entries:
            grown = sorted(
                entry.name
                for entry in entries
                # Hidden ones are not whole yet.
                if entry.name.endswith(".seg")
                and not entry.name.startswith(".")
                and entry.is_file()
                and entry.stat().st_size > self._read_to.get(entry.name, 0)
            )
        for name in grown:
            with (self._folder / name).open("rb") as file:
                offset = self._read_to.get(name, 0)
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._note(name, offset, line)
                    offset += len(line)
                self._read_to[name] = offset

    def _note(self, name: str, offset: int, line: bytes) -> None:
        key = _key_of(line)
        if key is not None:
            # The first answer stands, so that every reader sees the same one.
            self._index.add(key.decode(errors="replace"), Place(name, offset, len(line) - 1))


@dataclass(slots=True, kw_only=True)
class Pruned:
    """Records of a memo, as (number, bytes).

    Attributes:
        dropped: by the kind of record, which is what its key begins with.
    """

    kept: tuple[int, int] = (0, 0)
    dropped: dict[str, tuple[int, int]] = field(default_factory=dict)


def prune(folder: Path, wanted: Callable[[str], bool], *, dry_run: bool) -> Pruned:
    """Write the wanted records of a memo into one new segment, which takes the place of the others.

    A killed pruning leaves records twice, which is harmless.

    Args:
        dry_run: only count.

    Raises:
        UsageError: a process is writing to the memo, or that cannot be told.
    """
    segments = sorted(path for path in folder.glob("*.seg") if not path.name.startswith("."))
    if not dry_run and any(is_locked(path) for path in segments):
        raise UsageError(
            f"{folder}: a run is writing to this memo; wait for its end. A memo on a file system without "
            "locks cannot be cleaned"
        )
    found = Pruned()
    lines = _wanted_lines(segments, wanted, found)
    if dry_run:
        for _ in lines:
            pass
        return found
    with whole_file(folder / f"{uuid.uuid4().hex}.seg", durable=True) as part, part.open("wb") as out:
        part.chmod(0o600)
        out.writelines(lines)
    for path in segments:
        path.unlink(missing_ok=True)
    return found


def _wanted_lines(
    segments: Iterable[Path], wanted: Callable[[str], bool], found: Pruned
) -> Iterator[bytes]:
    """Yield the lines of wanted records, each key once, and count all into ``found``."""
    seen: set[bytes] = set()
    for path in segments:
        with path.open("rb") as file:
            for line in file:
                key = _key_of(line)
                if key is not None and key not in seen and wanted(key.decode(errors="replace")):
                    seen.add(key)
                    found.kept = found.kept[0] + 1, found.kept[1] + len(line)
                    yield line
                else:
                    kind = "torn" if key is None else key.decode(errors="replace").rpartition("-")[0]
                    number, size = found.dropped.get(kind, (0, 0))
                    found.dropped[kind] = number + 1, size + len(line)


def _key_of(line: bytes) -> bytes | None:
    """Return the key of a whole record; None for a torn or damaged line."""
    at = line.find(b" ")
    end = at + CHECKSUM_BYTES
    # The data, which is most of the line, is not copied.
    whole = line.endswith(b"\n") and line[at:end] == CHECKSUM % zlib.crc32(memoryview(line)[end:-1])
    return line[:at] if whole else None
