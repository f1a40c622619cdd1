"""A memo that loses no answer when the disk is full, and says so in time."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from models.errors import unwritable
from pipeline.platform.memo import Memo

BALLAST_BYTES = 1 << 20
"""Room held back for answers in flight: far more than a worker has at any time."""


class GuardedMemo(Memo):
    """Memo of a worker; a write that fails ends the run, and what was paid for is stored before.

    A nameless file of ballast takes room in the folder while a worker is at work. When the disk is full, it
    makes room for the answers in flight, and the first of them raises.

    Args:
        folder: of the memo.

    Raises:
        StoreError: there is no room for the ballast, so that nothing should be asked or computed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            super().__init__(folder)
            self._ballast = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            self._ballast.write(os.urandom(BALLAST_BYTES))
            self._ballast.flush()
            os.fsync(self._ballast.fileno())
        except OSError as error:
            raise unwritable(folder, error) from error

    def put(self, key: str, value: str, *, durable: bool = True) -> None:
        """See :meth:`Memo.put`.

        Raises:
            StoreError: the disk is full or fails. The value is stored if the ballast made room for it.
        """
        try:
            super().put(key, value, durable=durable)
        except OSError as error:
            self._drop_ballast()
            with contextlib.suppress(OSError):
                super().put(key, value, durable=durable)
            raise unwritable(self._folder, error) from error

    def close(self) -> None:
        """Close all files and drop the ballast."""
        super().close()
        self._drop_ballast()

    def _drop_ballast(self) -> None:
        # Closing writes what is left in the buffer of a file that could not be written.
        with contextlib.suppress(OSError):
            self._ballast.close()
