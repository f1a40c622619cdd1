"""Videos that crash their process or never end: the process that comes after attributes and remembers them.

A native crash and a missed deadline leave a process no chance to store a result. While a worker processes
a video, a note in the scratch folder holds the video's key, and Python's fault handler appends to it when
the process crashes or the deadline passes. :func:`collect` finds the notes of processes that are gone. A
process that was killed from outside appends nothing: that is no fault of the video.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from models.files import record_digest
from pipeline.platform.memo import Memo
from stages.base import Stage
from stages.records import Video

CRASHES = "crashes.log"
"""Stacks of crashes, in the scratch folder."""
KEY = "crash-"
"""Beginning of the memo keys of crashes."""
NOTES = "notes"
"""Folder of the notes, in the scratch folder."""
TIMEOUT = "Timeout"
"""First word of the fault handler where the deadline passed."""
GRACE_S = 1.0
"""Time for a sentence on the terminal before the process ends; the handler itself cannot write one."""
REARM_S = 0.5
"""The deadline counts from the start of an earlier video or stage that began at most so long before."""
TWICE = 2


class Watch:
    """Watch over the process of a worker: notes the video that it holds, and ends it at the deadline.

    Args:
        folder: the scratch folder.
        stages: the whole chain.
        deadline_s: time for one video in one stage.
    """

    def __init__(self, folder: Path, stages: Sequence[Stage], deadline_s: float) -> None:
        self._path = folder / NOTES / f"{uuid.uuid4().hex}.txt"
        self._stages, self._deadline_s = stages, deadline_s
        self._note: BinaryIO | None = None
        self._armed_s = float("-inf")
        self._notice: threading.Timer | None = None
        self._held = ""

    def key(self, video: Video) -> str:
        """Return the memo key of a video's crashes: other content, stages or time may end otherwise."""
        parts = [video.content_id, [stage.signature for stage in self._stages], self._deadline_s]
        return f"{KEY}{record_digest(parts)}"

    @contextlib.contextmanager
    def armed(self) -> Iterator[Self]:
        """Watch while videos are processed one after the other; each goes through :meth:`over`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        enabled = faulthandler.is_enabled()
        with self._path.open("wb", buffering=0) as self._note:
            # Held for as long as this process lives.
            fcntl.flock(self._note, fcntl.LOCK_EX)
            faulthandler.enable(self._note, all_threads=False)
            try:
                yield self
            finally:
                self._disarm()
                faulthandler.disable()
                if enabled and sys.__stderr__ is not None:
                    faulthandler.enable(sys.__stderr__, all_threads=False)
                self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def over(self, video: Video) -> Iterator[None]:
        """Watch while a video is processed."""
        assert self._note is not None, "over() is for the time of armed()"
        self._note.write(self.key(video).encode() + b"\n")
        self._held = video.uri
        self.restart()
        try:
            yield
        finally:
            self._note.seek(0)
            self._note.truncate()

    def restart(self) -> None:
        """Start the deadline again, for the next stage of the video."""
        assert self._note is not None, "restart() is for the time of armed()"
        # Starting threads takes longer than a video that is known to the memo.
        if time.monotonic() - self._armed_s > REARM_S:
            self._disarm()
            self._arm(self._note)

    def _arm(self, note: BinaryIO) -> None:
        self._armed_s = time.monotonic()
        # A thread of C: it ends the process also where a hung library never gives Python its turn.
        faulthandler.dump_traceback_later(self._deadline_s + GRACE_S, exit=True, file=note)
        self._notice = threading.Timer(self._deadline_s + REARM_S, self._announce)
        self._notice.daemon = True
        self._notice.start()

    def _disarm(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._notice is not None:
            self._notice.cancel()
        self._armed_s = float("-inf")

    def _announce(self) -> None:
        print(
            f"videoauteur: {self._held} takes longer than run.video_deadline_s={self._deadline_s:g}; "
            "the process ends. Give the same command again to go on.",
            file=sys.stderr,
            flush=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Last words of a process.

    Attributes:
        detail: what happened, in one line.
        text: of the fault handler, with the stack.
    """

    detail: str
    text: str

    @property
    def is_timeout(self) -> bool:
        """Tell whether the deadline passed; otherwise the process crashed."""
        return self.text.startswith(TIMEOUT)


def collect(scratch: Path, memo: Memo) -> dict[str, Crash]:
    """Read and remove the notes of processes that are gone, and count their crashes in the memo.

    Returns:
        crashes by :meth:`Watch.key`.
    """
    found: dict[str, Crash] = {}
    for path in sorted((scratch / NOTES).glob("*.txt")):
        with path.open("rb") as note:
            try:
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            key, _, rest = note.read().decode(errors="replace").partition("\n")
        path.unlink(missing_ok=True)
        # A process that died between two videos left no key.
        if rest and key.startswith(KEY):
            crash = Crash(detail=rest.partition("\n")[0].rstrip("!"), text=rest)
            found[key] = crash
            with (scratch / CRASHES).open("a", encoding="utf-8") as log:
                log.write(f"{rest}\n")
            count = TWICE if memo.get(f"{key}-1") else 1
            memo.put(f"{key}-{count}", json.dumps(crash.detail))
    return found


def remembered_crash(memo: Memo, key: str, *, fresh: bool = True) -> str | None:
    """Return how a video crashed its process for the second time; None if it did not.

    Args:
        fresh: see :meth:`Memo.get`.
    """
    stored = memo.get(f"{key}-{TWICE}", fresh=fresh)
    if stored is None:
        return None
    return f"ended its process twice ({json.loads(stored)}); set run.retry_crashed=true to try it again"
