"""A stage that endangers its worker."""

from __future__ import annotations

import os
import signal
import threading
from typing import ClassVar

from stages.base import Pool, Stage
from stages.records import Transcript, Video


class Feed(Stage):
    """Stage that does to its process what the video's name says.

    ``poison`` ends it at every attempt, ``crashes`` likewise by a fault of native code, ``fragile`` ends
    it at the first, ``hangs`` never ends, ``raises`` fails.
    """

    name: ClassVar[str] = "feed"
    pool: ClassVar[Pool] = "media"
    reads = ("uri",)
    writes = ("transcript",)

    def measure(self, video: Video) -> Video:
        name = video.uri.rpartition("/")[2]
        marker = self.workspace.scratch / name
        if name == "poison":
            os._exit(1)
        if name == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if name == "fragile" and not marker.exists():
            marker.touch()
            os._exit(1)
        if name == "hangs":
            threading.Event().wait()
        if name == "raises":
            raise ValueError("not today")
        return video.with_results(transcript=Transcript(language="en", sentences=[], model=name))
