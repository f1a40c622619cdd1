"""Lease on a place in a bucket, so that one process at a time works there.

The lease is an object that names its holder and is renewed every few seconds. A lease that does not change
while a claimant watches is of a holder that died, so no clocks are compared.
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
from collections.abc import Callable
from pathlib import Path

from models.errors import ReportedError, UsageError
from pipeline.platform.storage import Object, Store

LEASE = "_lease"
BEAT_S = 10.0
"""Between two renewals."""
SILENT_S = 35.0
"""A lease that was not renewed for so long is of a holder that died."""
POLL_S = 1.0


class Lease:
    """Claim of a place by this process, from :meth:`claim` to :meth:`release`.

    A suspended process does not know at once that another one has taken its lease: what both write must be
    safe against that.

    Args:
        store: the place.
        label: the place in messages, such as ``OUTPUT s3://bucket/dataset``.
        holder: kind of the process in messages: ``run`` or ``service``.

    Attributes:
        lost: another process has taken the lease.
    """

    def __init__(self, store: Store, label: str, holder: str) -> None:
        self._store, self._label, self._holder = store, label, holder
        self._me = {"host": platform.node(), "pid": os.getpid(), holder: uuid.uuid4().hex}
        self._etag = ""
        self._beats = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = False

    def claim(self, *, on_beat: Callable[[], None] | None = None) -> None:
        """Take the lease, if need be of a process that died, and renew it from now on.

        Args:
            on_beat: called after each renewal; a :class:`ReportedError` of it is ignored.

        Raises:
            UsageError: another process is at work.
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
        self._thread = threading.Thread(target=self._renew, args=[on_beat], name="lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the renewals, and wait for the last one."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def release(self) -> None:
        """End the renewals and give the lease back, if it is still this process's."""
        self.stop()
        held = self._store.head(LEASE)
        if held is not None and held.etag == self._etag:
            self._store.delete([LEASE])

    def _wait(self, held: Object, owner: dict[str, object]) -> None:
        """Wait until a lease was not renewed for long."""
        print(
            f"videoauteur: {self._label} is held by a {self._holder} on {owner.get('host')}, process "
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
        return UsageError(f"{self._label}: another {self._holder} is at work in it{who}")

    def _text(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._me, "beat": self._beats}).encode()

    def _renew(self, on_beat: Callable[[], None] | None) -> None:
        """Renew the lease until it is released or lost."""
        while not self._over.wait(BEAT_S):
            # A store that is away for a moment ends nothing.
            with contextlib.suppress(ReportedError):
                renewed = self._store.replace(LEASE, self._text(), self._etag)
                if renewed is None:
                    self.lost = True
                    return
                self._etag = renewed
                if on_beat is not None:
                    on_beat()


def _is_dead_here(owner: dict[str, object]) -> bool:
    """Return whether the owner was a process of this machine that is gone."""
    if owner.get("host") != platform.node() or not isinstance(owner.get("pid"), int):
        return False
    return not Path(f"/proc/{owner['pid']}").exists() and Path("/proc/self").exists()
