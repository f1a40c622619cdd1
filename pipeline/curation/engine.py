"""The videos of a run through the chain: from the memo as far as it goes, the rest on a runner.

Neither Ray nor a model server starts before a video needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from models.serving import Capability
from pipeline.curation import child_runner, runners, servers
from pipeline.curation.chain import build_stages, endpoints
from pipeline.curation.config import Config
from pipeline.curation.crashes import collect, remembered_crash
from pipeline.curation.runners import Site
from pipeline.curation.screen import screened
from pipeline.curation.servers import Running
from pipeline.curation.worker import EventSink, crashed, remembered
from pipeline.platform.address import cluster_address
from pipeline.platform.memo import Memo
from stages.base import Stage
from stages.duplicates import FingerprintClips
from stages.reasons import Reason
from stages.records import Video
from stages.view import size_of

UNUSED = "http://unused.invalid/v1"
"""Address of servers that no remaining stage asks."""
Runner = Callable[[list[Video], Site, EventSink], Iterator[Video]]
Serve = Callable[[Config, Path], AbstractContextManager[Running]]
Phase = Callable[[Iterable[Video], Sequence[Stage]], Iterable[Video]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Folders of a run's files; absolute paths, which workers on every node can reach.

    Attributes:
        scratch: packed frames and logs; may be emptied between runs.
        memo: results of stages and paid answers; may be in a bucket.
        ledger: account of the requests to models.
    """

    scratch: Path
    memo: Path | str
    ledger: Path


class Engine:
    """Runs videos through the chain; leaving the context ends the servers and leaves the cluster.

    Args:
        memo: of the driver, to look up what is known.
        sink: takes an event for each video and stage.
    """

    def __init__(self, config: Config, folders: Folders, memo: Memo, sink: EventSink) -> None:
        self._config = servers.resolved(config)
        self._folders = folders
        self._memo = memo
        self._sink = sink
        self._stack = ExitStack()
        self._connected = False
        self._running: Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def curate(self, videos: Iterable[Video]) -> Generator[Video]:
        """Yield each video once it is finished or rejected, in any order."""
        yield from in_phases(self._config, videos, self._phase)

    def _phase(self, videos: Iterable[Video], stages: Sequence[Stage]) -> Iterator[Video]:
        """Yield videos after some stages: first those that the memo knows, then the others as they end."""
        unfinished: list[Video] = []
        for video in videos:
            video, finished = remembered(stages, video, self._memo, self._sink)
            if finished:
                yield video
            else:
                unfinished.append(video)
        unfinished, unfit = self._sorted_by_crashes(unfinished)
        yield from unfit
        unfinished = yield from self._screen(unfinished, stages)
        if not unfinished:
            return
        # The longest first, so that no worker starts one while the others are done.
        unfinished.sort(key=lambda video: -size_of(video))
        passed = set.intersection(*(set(video.passed) for video in unfinished))
        remaining = [stage for stage in stages if stage.name not in passed]
        serve, run = self._start_runner(len(unfinished))
        site = self._site(serve, remaining)
        for video in run(unfinished, site, self._sink):
            if self._running and video.rejected and video.rejected.reason is Reason.RETRIES_EXHAUSTED:
                # Without its servers every other video would end like this one.
                self._running.check()
            yield video

    def _sorted_by_crashes(self, videos: Sequence[Video]) -> tuple[list[Video], list[Video]]:
        """Split videos into those to run, and rejected ones that crashed their process in two runs."""
        if not videos:
            return [], []
        crashes = collect(self._folders.scratch, self._memo)
        watch, again = self._site_of({}, ()).watch(), self._config.run.retry_crashed
        fit: list[Video] = []
        unfit: list[Video] = []
        for video in videos:
            key = watch.key(video)
            # Not fresh for all, which looks at the memo's folder for each video.
            detail = None if again else remembered_crash(self._memo, key, fresh=key in crashes)
            if detail is None:
                fit.append(video)
            else:
                unfit.append(crashed(video, detail))
        return fit, unfit

    def _screen(self, videos: list[Video], stages: Sequence[Stage]) -> Generator[Video, None, list[Video]]:
        """Yield videos that need no cluster to be rejected, see :mod:`.screen`; return the others."""
        first = stages[0]
        if self._config.run.runner == "local" or len(videos) == 1 or not first.reads_file:
            return videos
        fresh = [video for video in videos if not video.passed]
        rejected: set[str] = set()
        for video in screened(fresh, self._site_of({}, [first]), self._sink):
            rejected.add(video.uri)
            yield video
        return [video for video in videos if video.uri not in rejected]

    def _start_runner(self, videos: int) -> tuple[Serve, Runner]:
        """Return the runner for so many videos and the starter of servers; on Ray, the cluster is there."""
        run = self._config.run
        if run.runner == "local":
            return servers.started_here, runners.run_local
        joins = cluster_address(run.ray_address) is not None
        if not self._connected and child_runner.suits(self._config, videos, joins=joins):
            return servers.started_here, child_runner.run_in_child
        # Ray takes seconds to import; the other runners must not pay for it.
        from pipeline.curation import ray_runner, ray_servers
        from pipeline.platform.cluster import connected

        if not self._connected:
            self._stack.enter_context(connected(run.ray_address))
            self._connected = True
        return ray_servers.started, ray_runner.run_ray

    def _site(self, serve: Serve, remaining: Sequence[Stage]) -> Site:
        """Return the site of these stages; the servers are up if one of them asks."""
        if self._running is None and any(stage.pool == "language" for stage in remaining):
            logs = self._folders.scratch / "servers"
            self._running = self._stack.enter_context(serve(self._config, logs))
        return self._site_of(self._running.base_urls if self._running else {}, remaining)

    def _site_of(self, base_urls: Mapping[Capability, Sequence[str]], remaining: Sequence[Stage]) -> Site:
        """Return the site of these stages with servers at these addresses, if they ask any."""
        unused = {each: (UNUSED,) for group in servers.needed(self._config) for each in group.serves}
        language, vision = endpoints(self._config, base_urls or unused)
        return Site(
            config=self._config,
            scratch=self._folders.scratch,
            memo=self._folders.memo,
            language=language,
            vision=vision,
            ledger=self._folders.ledger,
            only=tuple(stage.name for stage in remaining),
        )


def in_phases(config: Config, videos: Iterable[Video], phase: Phase) -> Iterator[Video]:
    """Take videos through the chain; where duplicates are dropped, in two phases with the decision between.

    Args:
        phase: takes videos through some stages.
    """
    stages = build_stages(config)
    if not config.duplicates.drop:
        yield from phase(videos, stages)
        return
    split = [stage.name for stage in stages].index(FingerprintClips.name) + 1
    fingerprinted = list(phase(videos, stages[:split]))
    # Its numerical libraries take time to import.
    from pipeline.curation.duplicates import without_duplicates

    waiting: list[Video] = []
    for video in without_duplicates(fingerprinted):
        if video.rejected:
            yield video
        else:
            waiting.append(video)
    yield from phase(waiting, stages[split:])
