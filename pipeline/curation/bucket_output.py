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
import json
import os
import platform
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Self

from models.errors import ReportedError, StoreError, UsageError
from pipeline.dataset import RUN_STATE, SCRATCH
from pipeline.dataset.manifest import MANIFEST, DatasetError
from pipeline.dataset.push import publish
from pipeline.dataset.reading import open_dataset
from pipeline.platform.cache import folder_of
from pipeline.platform.storage import Object, Store

LEASE, LEDGER, MEMO = "_lease", "_ledger", "_memo"
STATE_FILES = ("run.json", "status.json")
BEAT_S = 10.0
"""Between two signs of life."""
SILENT_S = 35.0
"""A lease that was not renewed for so long is of a run that died."""
POLL_S = 1.0


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
        self._me = {"host": platform.node(), "pid": os.getpid(), "run": uuid.uuid4().hex}
        self._etag = ""
        self._beats = 0
        self._sent: dict[str, int] = {}
        self._over = threading.Event()
        self._seen: Object | None = None

    def __enter__(self) -> Self:
        self._check_ours()
        self._claim()
        self._seen = self._store.head(MANIFEST)
        self._fetch_ledger()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._over.set()
        self._thread.join()
        # The error of the run counts, not that the store is away.
        with contextlib.suppress(ReportedError) if error else contextlib.nullcontext():
            self._send_state()
            self._send_ledger()
            held = self._store.head(LEASE)
            if held is not None and held.etag == self._etag:
                self._store.delete([LEASE])

    def publish(self) -> None:
        """Make the version that the run has written the current one of the bucket.

        Raises:
            StoreError: another run has published meanwhile.
        """
        dataset = open_dataset(self.folder)
        assert dataset.manifest is not None
        try:
            publish(self._store, dataset.folder, dataset.manifest, seen=self._seen)
        except DatasetError as error:
            raise StoreError(str(error)) from error

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

    def _claim(self) -> None:
        """Take the lease, if need be of a run that died.

        Raises:
            UsageError: another run is at work.
        """
        held = self._store.head(LEASE)
        if held is None:
            taken = self._store.put_new(LEASE, self._text())
        else:
            owner = self._owner()
            if not _is_dead_here(owner):
                self._wait(held, owner)
            taken = self._store.replace(LEASE, self._text(), held.etag)
        if taken is None:
            raise self._in_use(self._owner())
        self._etag = taken

    def _wait(self, held: Object, owner: dict[str, object]) -> None:
        """Wait until a lease was not renewed for long."""
        print(
            f"videoauteur: OUTPUT {self._store.url} is held by a run on {owner.get('host')}, process "
            f"{owner.get('pid')}; waiting {SILENT_S:g} s for a sign of life",
            file=sys.stderr,
        )
        until = time.monotonic() + SILENT_S
        while time.monotonic() < until:
            time.sleep(min(POLL_S, SILENT_S))
            now = self._store.head(LEASE)
            if now is None or now.etag != held.etag:
                raise self._in_use(owner)

    def _owner(self) -> dict[str, object]:
        try:
            found = json.loads(self._store.get(LEASE))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _in_use(self, owner: dict[str, object]) -> UsageError:
        who = f" on {owner['host']}, process {owner.get('pid')}" if "host" in owner else ""
        return UsageError(f"OUTPUT {self._store.url}: another run is at work in it{who}")

    def _text(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._me, "beat": self._beats}).encode()

    def _renew(self) -> None:
        """Renew the lease and show the state of the run, until it is over or the lease is lost."""
        while not self._over.wait(BEAT_S):
            # A store that is away for a moment does not end the run.
            with contextlib.suppress(ReportedError):
                renewed = self._store.replace(LEASE, self._text(), self._etag)
                if renewed is None:
                    return
                self._etag = renewed
                self._send_state()

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


def _is_dead_here(owner: dict[str, object]) -> bool:
    """Return whether the owner was a process of this machine that is gone."""
    if owner.get("host") != platform.node() or not isinstance(owner.get("pid"), int):
        return False
    return not Path(f"/proc/{owner['pid']}").exists() and Path("/proc/self").exists()
