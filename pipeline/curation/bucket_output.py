"""OUTPUT in a bucket: claimed by one run, built on a disk of its node, published as a whole.

The run works in a local folder as it does for any OUTPUT; frames and other scratch never leave it. At the
end the version is published (:mod:`pipeline.dataset.push`). Beside it the bucket holds::

    _memo/      results of stages and paid answers, if no other memo is named
    _run/       state of the run at work or of the last one, for `videoauteur status`
    _ledger/    account of the requests to models
    _lease      who is at work, renewed every few seconds
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Self

from models.errors import ReportedError, UsageError
from pipeline.dataset import RUN_STATE, SCRATCH
from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.push import publish
from pipeline.dataset.reading import open_dataset
from pipeline.platform.cache import folder_of
from pipeline.platform.lease import LEASE, Lease
from pipeline.platform.storage import Object, Store

LEDGER, MEMO = "_ledger", "_memo"
STATE_FILES = ("run.json", "status.json")


class BucketOutput:
    """Claim of an OUTPUT in a bucket, for as long as the context lasts.

    Two runs that take the same lease can at most both work: the manifest is put on condition that it is
    still the one that was there at the start, so that only one of them publishes.

    Attributes:
        folder: where the run works.
    """

    def __init__(self, url: str) -> None:
        self._store = Store(url)
        self.folder = folder_of(url, "outputs")
        self._lease = Lease(self._store, f"OUTPUT {self._store.url}", "run")
        self._sent: dict[str, int] = {}
        self._seen: Object | None = None

    def __enter__(self) -> Self:
        self._check_ours()
        self._lease.claim(on_beat=self._send_state)
        try:
            self._seen = self._store.head(MANIFEST)
            self._fetch_ledger()
        except BaseException:
            self._lease.release()
            raise
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._lease.stop()
        # The error of the run counts, not that the store is away.
        with contextlib.suppress(ReportedError) if error else contextlib.nullcontext():
            self._send_state()
            self._send_ledger()
            self._lease.release()

    def publish(self) -> None:
        """Make the version that the run has written the current one of the bucket.

        Raises:
            StoreError: another run has published meanwhile.
        """
        dataset = open_dataset(self.folder)
        assert dataset.manifest is not None
        publish(self._store, dataset.folder, dataset.manifest, seen=self._seen)

    def _check_ours(self) -> None:
        """Refuse a folder with other things in it."""
        ours = (MANIFEST, LEASE, *(f"{RUN_STATE}/{name}" for name in STATE_FILES))
        first = next(self._store.list(), None)
        if first is None or first.key.startswith(f"{MEMO}/"):
            return
        if not any(self._store.head(name) for name in ours):
            raise UsageError(
                f"OUTPUT {self._store.url}: not empty, and not written by videoauteur (no {MANIFEST} in "
                "it); name a new or an empty folder"
            )

    def _send_state(self) -> None:
        for name in STATE_FILES:
            path, key = self.folder / SCRATCH / name, f"{RUN_STATE}/{name}"
            try:
                self._send(key, path, path.stat().st_mtime_ns)
            except FileNotFoundError:
                # The run has written its tables, and its run file is one of theirs.
                self._store.delete([key])

    def _send_ledger(self) -> None:
        for path in (self.folder / LEDGER).glob("*.jsonl"):
            self._send(f"{LEDGER}/{path.name}", path, path.stat().st_size)

    def _send(self, key: str, path: Path, state: int) -> None:
        if self._sent.get(key) != state:
            self._store.put(key, path.read_bytes())
            self._sent[key] = state

    def _fetch_ledger(self) -> None:
        """Copy the accounts of earlier runs on other nodes, which count against the budget."""
        for found in self._store.list(LEDGER):
            path = self.folder / found.key
            if path.exists():
                self._sent[found.key] = found.bytes
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._store.get(found.key))
