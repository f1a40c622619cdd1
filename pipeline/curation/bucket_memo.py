"""Memo in a bucket, which knows neither append nor rename.

Each process writes its records to a journal on its own disk, where they outlive the process, and uploads
them in sealed pieces: objects that never change, whose names say the journal and the place in it. Pieces
are sealed when a worker hands a video on, every few seconds before, and for a killed process by the next
one on its node. A node that is lost takes with it what was not sealed yet.

::

    MEMO/
      9f0c...e1.000000000000.seg     bytes 0 and on of the journal 9f0c...e1.seg
      9f0c...e1.000000004096.seg     what was added since
      all-51ab...07.seg              many pieces, joined; the name is a digest of the content

A node mirrors the objects into a folder that is a local memo (:class:`pipeline.platform.memo.Memo`) by
itself, so that its processes share one copy. A record that stands in two segments counts once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models.files import is_locked, sha256_of, write_whole
from pipeline.curation.store import GuardedMemo
from pipeline.platform.cache import folder_of
from pipeline.platform.memo import Pruned
from pipeline.platform.storage import Object, Store, is_url

SEAL_S = 5.0
"""Records wait at most so long for the next one before they are sealed."""
TAKE_S = 60.0
"""A key that is missing is looked for in the bucket again after this time."""
SMALL_BYTES, LARGE_BYTES = 8 << 20, 64 << 20
"""Pieces smaller than the one are joined to segments of about the other size."""
MOST_PIECES = 100
"""Small pieces that are left as they are."""
THREADS = 16
JOURNAL = re.compile(r"([0-9a-f]{32})\.seg")
PIECE = re.compile(r"([0-9a-f]{32})\.(\d{12})\.seg")


def open_memo(place: Path | str) -> GuardedMemo:
    """Open a memo in a local folder or a bucket.

    Raises:
        models.errors.StoreError: it cannot be written.
        models.errors.TransientError: the bucket does not answer.
    """
    return BucketMemo(str(place)) if is_url(place) else GuardedMemo(Path(place))


class BucketMemo(GuardedMemo):
    """Memo of a worker, in a bucket.

    Args:
        url: of the folder in the bucket.
    """

    def __init__(self, url: str) -> None:
        self._store = Store(url)
        super().__init__(folder_of(url, "memos"))
        self._folder.chmod(0o700)
        self._sealed: dict[Path, int] = {}
        """Journals of this process, and how many bytes of each are in the bucket."""
        self._sealed_at = self._taken_at = time.monotonic()
        with self._locked("mirror"):
            there = self._listed()
            self._take(there)
        with self._locked("journals"):
            self._seal_orphans(there)

    def get(self, key: str, *, fresh: bool = True) -> str | None:
        """See :meth:`pipeline.platform.memo.Memo.get`."""
        found = super().get(key, fresh=fresh)
        if found is None and time.monotonic() - self._taken_at > TAKE_S:
            with self._locked("mirror"):
                self._take(self._listed())
            found = super().get(key, fresh=True)
        return found

    def put(self, key: str, value: str, *, durable: bool = True) -> None:
        """Append a record to the journal; it is in the bucket after :meth:`seal`."""
        super().put(key, value, durable=durable)
        if time.monotonic() - self._sealed_at > SEAL_S:
            self.seal()

    def seal(self) -> None:
        """Upload the records that are not in the bucket yet."""
        for path, sealed in self._sealed.items():
            self._sealed[path] = self._upload(path, sealed)
        self._sealed_at = time.monotonic()

    def compact(self) -> None:
        """Join small pieces, if there are many; their records stay visible all the time."""
        small = [found for found in self._listed().values() if found.bytes < SMALL_BYTES]
        if len(small) <= MOST_PIECES:
            return
        batch: list[tuple[str, bytes]] = []
        for found in small:
            with contextlib.suppress(FileNotFoundError):
                batch.append((found.key, self._content(found)))
            if sum(len(content) for _, content in batch) >= LARGE_BYTES:
                self._join(batch)
                batch = []
        self._join(batch)

    def prune(self, wanted: Callable[[str], bool], *, dry_run: bool) -> Pruned:
        """Drop records whose keys are not wanted: one segment takes the place of those that are there now.

        What runs on other nodes seal meanwhile stays, and they keep their own copies of what they read.
        """
        with self._locked("mirror"):
            there = self._listed()
            self._take(there)
        # The mirror holds all that is in the bucket.
        found = super().prune(wanted, dry_run=dry_run)
        if not dry_run:
            (segment,) = self._folder.glob("*.seg")
            name = f"all-{sha256_of(segment)[:32]}.seg"
            self._store.put(name, segment)
            self._store.delete(key for key in there if key != name)
            segment.rename(self._folder / name)
        return found

    def close(self) -> None:
        """Seal what was put, and close all files."""
        try:
            self.seal()
            for path in self._sealed:
                _done(path).touch()
        finally:
            super().close()

    def _new_segment(self, path: Path) -> BinaryIO:
        # Held as long as this process lives: others seal the journals of the dead.
        with self._locked("journals"):
            segment = super()._new_segment(path)
        self._sealed[path] = 0
        return segment

    def _listed(self) -> dict[str, Object]:
        self._taken_at = time.monotonic()
        return {found.key: found for found in self._store.list() if found.key.endswith(".seg")}

    def _take(self, there: Mapping[str, Object]) -> None:
        """Download objects that this node has not yet."""
        new = [found for found in there.values() if not self._has(found)]
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(self._mirror, new))

    def _mirror(self, found: Object) -> None:
        # Another run may have joined it to a larger one meanwhile.
        with contextlib.suppress(FileNotFoundError):
            write_whole(self._folder / found.key, self._store.get(found.key))

    def _has(self, found: Object) -> bool:
        piece = PIECE.fullmatch(found.key)
        return (self._folder / found.key).exists() or bool(
            piece and (self._folder / f"{piece[1]}.seg").exists()
        )

    def _seal_orphans(self, there: Mapping[str, Object]) -> None:
        """Upload what processes of this node left that were killed."""
        for path in self._folder.glob("*.seg"):
            name = JOURNAL.fullmatch(path.name)
            if name is None or _done(path).exists() or is_locked(path):
                continue
            pieces = [(PIECE.fullmatch(key), found.bytes) for key, found in there.items()]
            ends = [int(piece[2]) + size for piece, size in pieces if piece and piece[1] == name[1]]
            self._upload(path, max(ends, default=0))
            _done(path).touch()

    def _upload(self, path: Path, sealed: int) -> int:
        """Upload the whole lines of a journal behind what is sealed; return where they end."""
        with path.open("rb") as journal:
            journal.seek(sealed)
            content = journal.read()
        content = content[: content.rfind(b"\n") + 1]
        if content:
            self._store.put(f"{path.stem}.{sealed:012d}.seg", content)
        return sealed + len(content)

    def _content(self, found: Object) -> bytes:
        path = self._folder / found.key
        return path.read_bytes() if path.exists() else self._store.get(found.key)

    def _join(self, batch: list[tuple[str, bytes]]) -> None:
        if len(batch) < 2:
            return
        content = b"".join(content for _, content in batch)
        name = f"all-{hashlib.sha256(content).hexdigest()[:32]}.seg"
        self._store.put(name, content)
        self._store.delete(key for key, _ in batch)
        # Its records are known here under the names of the pieces.
        write_whole(self._folder / name, content)

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """Keep the other processes of this node from doing the same."""
        with (self._folder / f"{what}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _done(path: Path) -> Path:
    """Return the mark of a journal that is in the bucket as a whole."""
    return path.with_suffix(".done")
