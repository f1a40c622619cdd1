"""Early rejection of files that do not begin like a video, before a cluster or a server starts for them.

Buckets hold thumbnails, archives and texts beside videos. Such a file costs a millisecond to open, but far
more to send through the pools. The first stage rejects it as it would in a pool; only the place is another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context

from models.media import looks_like_video
from pipeline.curation.runners import Site
from pipeline.curation.worker import ChainWorker, EventSink, StageEvent
from pipeline.platform.storage import is_url
from stages.reasons import FAILURES
from stages.records import Video
from stages.view import path_of

CHUNK = 64
"""Files that a child process takes at once."""
FILES_A_PROCESS = 1000
"""Files for which another child process is worth its start."""
_workers: list[ChainWorker] = []
"""The worker of a child process."""


def screened(videos: Sequence[Video], site: Site, sink: EventSink) -> Iterator[Video]:
    """Yield videos that the first stage rejects, of those that do not begin like a video.

    The others are left to a runner: what was measured of them is in the memo. So are those of child
    processes that died; the runner isolates the one that caused it.

    Args:
        site: names the first stage alone.
    """
    local = (video for video in videos if not is_url(video.uri))
    suspects = [video for video in local if not looks_like_video(path_of(video.uri))]
    if not suspects:
        return
    processes = min(os.cpu_count() or 1, -(-len(suspects) // FILES_A_PROCESS))
    chunks = [suspects[at : at + CHUNK] for at in range(0, len(suspects), CHUNK)]
    with (
        suppress(BrokenProcessPool),
        ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_open, initargs=(site,)
        ) as pool,
    ):
        for chunk in pool.map(_rejected, chunks):
            for video, events in chunk:
                for event in events:
                    sink(event)
                yield video


def _open(site: Site) -> None:
    _workers.append(site.worker())


def _rejected(videos: Sequence[Video]) -> list[tuple[Video, list[StageEvent]]]:
    """Return the rejected ones of some videos, with their events."""
    (worker,) = _workers
    found: list[tuple[Video, list[StageEvent]]] = []
    events: list[StageEvent] = []
    for video in worker.process(videos, events.append):
        if video.rejected and video.rejected.reason not in FAILURES:
            found.append((video, list(events)))
        events.clear()
    return found
