"""The runner for a single video: a child process, as safe as a worker on Ray and there in half the time.

A cluster of our own takes seconds to start and to end, and one video uses one of its workers at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context

from pipeline.curation.bucket_memo import open_memo
from pipeline.curation.config import Config, Pools
from pipeline.curation.crashes import collect
from pipeline.curation.runners import Site, died_twice
from pipeline.curation.worker import EventSink, StageEvent, crashed
from stages.records import Video


def suits(config: Config, videos: int, *, joins: bool) -> bool:
    """Return whether a run needs no cluster.

    Args:
        videos: that are not finished.
        joins: a cluster is there to be joined.
    """
    return videos == 1 and not joins and config.run.pools == Pools() and not config.server.gpus


def run_in_child(videos: Sequence[Video], site: Site, sink: EventSink) -> Iterator[Video]:
    """Process videos one after the other, each in a child process; one that dies is tried once again."""
    for video in videos:
        yield _processed(video, site, sink)


def _processed(video: Video, site: Site, sink: EventSink) -> Video:
    for _ in range(2):
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                done, events = pool.submit(_work, video, site).result()
        except BrokenProcessPool:
            with closing(open_memo(site.memo)) as memo:
                crash = collect(site.scratch, memo).get(site.watch().key(video))
            if crash is not None and crash.is_timeout:
                return crashed(video, f"took longer than run.video_deadline_s: {crash.detail}")
        else:
            for event in events:
                sink(event)
            return done
    return died_twice(video, site)


def _work(video: Video, site: Site) -> tuple[Video, list[StageEvent]]:
    events: list[StageEvent] = []
    with closing(site.worker()) as worker:
        (done,) = worker.process([video], events.append)
    return done, events
