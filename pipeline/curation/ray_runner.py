"""The Ray runner: pools of actors, with guard rails.

Ray Data streams the videos through one pool of workers for each group of stages. A worker never
raises for a video. One that dies takes its block with it and the rest completes; missing videos are then
run again alone, and a video whose worker dies again is rejected.
"""

from __future__ import annotations

import gc
import logging
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import ray
import ray.exceptions
from ray.data import ActorPoolStrategy, DataContext
from ray.util.annotations import RayDeprecationWarning
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.curation.bucket_memo import open_memo
from pipeline.curation.chain import Group, groups
from pipeline.curation.config import PoolOptions
from pipeline.curation.crashes import collect
from pipeline.curation.runners import Site, died_twice
from pipeline.curation.servers import reserved_cpus
from pipeline.curation.worker import EventSink, StageEvent, crashed
from pipeline.platform import metrics
from pipeline.platform.packages import check_packages
from pipeline.platform.progress import polled
from stages.packing import packed, unpacked
from stages.records import Video
from stages.view import size_of

POLL_S = 0.5
EVENTS = msgspec.msgpack.Encoder()
READ_EVENTS = msgspec.msgpack.Decoder(list[StageEvent])
BLOCK_BYTES = 8_000_000
"""Size of the files in a block, at most; a larger file stands alone."""
BLOCK_VIDEOS = 64
BLOCKS_A_PROCESSOR = 4
"""At least, where there are as many videos, so that no processor is idle long before the others."""
CPU_SHARE = 0.9
"""Of the cluster's processors, for the pools; the rest is for the board and the server."""
LANGUAGE_WORKERS = 4
"""At least, where the models answer several requests at once. A worker takes one video at a time and
asks less and less towards its end; the requests of the others keep the models busy meanwhile."""


class _Board:
    """Collects the reports of the workers, each a packed list of events, until the driver asks."""

    def __init__(self) -> None:
        self._reports: list[bytes] = []

    def report(self, events: bytes) -> None:
        self._reports.append(events)

    def take(self) -> list[bytes]:
        reports, self._reports = self._reports, []
        return reports


class _GroupWorker:
    """Actor of one pool: some stages, one video at a time, under a watchdog."""

    def __init__(self, site: Site, group: Group, board: Any) -> None:
        check_packages()
        self._worker = site.worker(group.stages)
        self._board = board
        self._meters = _Meters(group.pool)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _table(self._processed(_videos(batch)))

    def process(self, videos: Sequence[Video]) -> list[Video]:
        """Run videos through the stages; the process ends if one of them takes longer than the deadline."""
        return list(self._processed(videos))

    def _processed(self, videos: Iterable[Video]) -> Iterator[Video]:
        events: list[StageEvent] = []
        self._meters.busy(True)
        try:
            yield from self._worker.process(videos, events.append)
        finally:
            self._meters.busy(False)
            self._meters.count(events)
            # Waits for it: the worker may be ended as soon as the videos are back.
            ray.get(self._board.report.remote(EVENTS.encode(events)))


class _Meters:
    """Metrics of one worker, see :mod:`pipeline.platform.metrics`."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._read = self._written = 0
        metrics.put("videoauteur_pool_workers", 1, pool=pool)
        self.busy(False)

    def busy(self, now: bool) -> None:
        """Report whether the worker holds a video, and the bytes since the last report."""
        metrics.put("videoauteur_pool_busy", float(now), pool=self._pool)
        read, written = _bytes_read_and_written()
        metrics.add("videoauteur_pool_bytes", read - self._read, pool=self._pool, direction="read")
        metrics.add("videoauteur_pool_bytes", written - self._written, pool=self._pool, direction="written")
        self._read, self._written = read, written

    def count(self, events: Sequence[StageEvent]) -> None:
        """Count what happened to videos in stages."""
        by_stage: dict[str, list[StageEvent]] = defaultdict(list)
        for event in events:
            metrics.observe("videoauteur_stage_seconds", event.seconds, stage=event.stage)
            by_stage[event.stage].append(event)
        # A call to a meter of Ray is dear beside a stage that is free, so that sums are passed on.
        for stage, some in by_stage.items():
            for name, value, labels in _sums(some):
                metrics.add(name, value, stage=stage, **labels)


def _sums(events: Sequence[StageEvent]) -> Iterator[tuple[str, float, dict[str, str]]]:
    """Yield what events of one stage add to counters, beside the label of the stage."""
    for outcome, number in Counter(event.outcome for event in events).items():
        yield "videoauteur_stage_videos", number, {"outcome": outcome}
    yield "videoauteur_stage_busy_seconds", sum(event.seconds for event in events), {}
    yield "videoauteur_stage_video_seconds", sum(event.video_s for event in events), {}
    yield "videoauteur_stage_retries", sum(event.retries for event in events), {}
    yield "videoauteur_model_requests", sum(event.asked.requests for event in events), {}
    yield "videoauteur_model_tokens", sum(event.asked.tokens for event in events), {}
    yield "videoauteur_model_usd", sum(event.asked.usd for event in events), {}
    drops = Counter[str]()
    for event in events:
        drops.update(event.drops)
    for label, number in drops.items():
        kind, _, reason = label.partition("/")
        yield "videoauteur_stage_drops", number, {"kind": kind, "reason": reason}


def _bytes_read_and_written() -> tuple[int, int]:
    """Bytes that this process has moved by system calls; 0 and 0 where the system does not count."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0, 0
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]), int(counts["wchar"])


def run_ray(videos: Sequence[Video], site: Site, sink: EventSink) -> Iterator[Video]:
    """Stream videos through the pools; each comes back exactly once, in any order."""
    if not videos:
        return
    # On the driver's node, for a node that is lost must not take it along; Ray would choose any.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
    with _relayed(board, sink):
        blocks = blocks_of(videos, int(_processors(reserved_cpus(site.config))))
        missing = yield from _through_pools(blocks, site, board)
        shared = {video.video_id for block in blocks if len(block) > 1 for video in block}
        bystanders = [video for video in missing if video.video_id in shared]
        if len(bystanders) > 1:
            # Most of a block whose worker died are innocent; in blocks of their own they go through again.
            timed_out, bystanders = _timed_out(bystanders, site)
            yield from timed_out
            missing = [video for video in missing if video.video_id not in shared]
            missing += yield from _through_pools([[video] for video in bystanders], site, board)
        yield from _retried(missing, site, board)


def blocks_of(videos: Sequence[Video], processors: int) -> list[list[Video]]:
    """Pack neighbours into blocks that workers take as a whole.

    A block has a cost of its own, some 10 ms over all pools, which matters for small files only. A video
    of usual size stands alone: what stands together is lost together when its worker dies.
    """
    most = min(BLOCK_VIDEOS, -(-len(videos) // max(1, BLOCKS_A_PROCESSOR * processors)))
    blocks: list[list[Video]] = []
    room = 0
    for video in videos:
        size = size_of(video)
        if not blocks or size > room or len(blocks[-1]) >= most:
            blocks.append([])
            room = BLOCK_BYTES
        blocks[-1].append(video)
        room -= size
    return blocks


def _through_pools(
    blocks: Sequence[Sequence[Video]], site: Site, board: Any
) -> Generator[Video, None, list[Video]]:
    """Yield the videos that came through all pools; return those that were lost with their workers."""
    # Not by their ids, which objects of a bucket get on the way.
    missing = {video.uri: video for block in blocks for video in block}
    if not missing:
        return []
    for table in _dataset(blocks, site, board).iter_batches(batch_size=None, batch_format="pyarrow"):
        for video in _videos(table):
            del missing[video.uri]
            yield video
    # The pools' actors hold what they were given until the last reference to them goes, and some
    # references stand in cycles.
    gc.collect()
    metrics.add("videoauteur_worker_deaths", len(missing))
    return list(missing.values())


def _timed_out(missing: Sequence[Video], site: Site) -> tuple[list[Video], list[Video]]:
    """Split lost videos into those that missed the deadline, rejected, and the others."""
    watch = site.watch()
    with closing(open_memo(site.memo)) as memo:
        crashes = collect(site.scratch, memo)
    timed_out: list[Video] = []
    others: list[Video] = []
    for video in missing:
        crash = crashes.get(watch.key(video))
        if crash is not None and crash.is_timeout:
            timed_out.append(crashed(video, f"took longer than run.video_deadline_s: {crash.detail}"))
        else:
            others.append(video)
    return timed_out, others


def _retried(missing: Sequence[Video], site: Site, board: Any) -> Iterator[Video]:
    """Try videos whose worker died again, alone; one that missed the deadline would only miss it again."""
    if not missing:
        return
    timed_out, others = _timed_out(missing, site)
    yield from timed_out
    for video in others:
        yield _alone(video, site, board)


def _dataset(blocks: Sequence[Sequence[Video]], site: Site, board: Any) -> ray.data.Dataset:
    context = DataContext.get_current()
    # A dead worker must not end the run, and its block must not be tried again beside healthy ones.
    context.max_errored_blocks = -1
    context.actor_task_retry_on_errors = False
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    dataset: ray.data.Dataset = ray.data.from_arrow([_table(block) for block in blocks])
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # max_task_retries below has no named parameter yet.
    warnings.simplefilter("ignore", RayDeprecationWarning)
    chain = groups_of(site)
    sizes = [pool_size(group, site) for group in chain]
    first = sum(size.first for size in sizes)
    grown = first + max(size.most - size.first for size in sizes)
    # The first workers of all pools fit on any one node, so that a run goes on when the others are lost.
    at_once = max(grown, math.ceil(first * _processors(0) / _smallest_node()))
    for group, size in zip(chain, sizes, strict=True):
        dataset = dataset.map_batches(
            _GroupWorker,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=size.most,
                # A single pool may take all processors at once; growing to them takes minutes.
                initial_size=min(size.most if len(chain) == 1 else size.first, len(blocks)),
            ),
            fn_constructor_args=(site, group, board),
            udf_modifying_row_count=False,
            # Ray Data's own default is to run a block again until it does not kill its worker.
            max_task_retries=0,
            **placement(getattr(site.config.run.pools, group.pool), at_once, reserved_cpus(site.config)),
        )
    return dataset


def groups_of(site: Site) -> list[Group]:
    """Return the groups of stages that share workers."""
    asks = site.language is not None or site.vision is not None
    return groups(site.stages(), site.config.run.pools, asks=asks)


def _table(videos: Iterable[Video]) -> pa.Table:
    return pa.table({"video": pa.array([packed(video) for video in videos], pa.binary())})


def _videos(table: pa.Table) -> Iterator[Video]:
    # One at a time: a block of videos at once is enough objects to set the collector of garbage to work.
    return map(unpacked, table["video"].to_pylist())


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSize:
    """Workers of a pool: those that start at once, and the most that it may grow to."""

    first: int
    most: int


def pool_size(group: Group, site: Site) -> PoolSize:
    """Return the size of a pool; a configured number of workers is its most.

    A pool may grow to all processors of the cluster: it does where its queue is the longest, as far as the
    other pools leave room.
    """
    options: PoolOptions = getattr(site.config.run.pools, group.pool)
    most = options.workers or max(1, int(_processors(reserved_cpus(site.config))))
    if group.pool != "language":
        return PoolSize(first=1, most=most)
    # Workers that wait for models most of their time may be more than the processors, and start at once:
    # the models are idle until there are enough that ask them.
    asked = [endpoint.concurrency for endpoint in (site.language, site.vision) if endpoint]
    if options.workers is None and max(asked, default=1) > 1:
        most = max(most, LANGUAGE_WORKERS)
        return PoolSize(first=LANGUAGE_WORKERS, most=most)
    return PoolSize(first=options.workers or 1, most=most)


def _smallest_node() -> float:
    """Return the processors of the smallest node that has any."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    found = [node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]]
    return min((each for each in found if each > 0), default=1.0)


def _processors(reserved: float) -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 1.0) - reserved


def placement(options: PoolOptions, total_workers: int, reserved: float = 0.0) -> dict[str, Any]:
    """Return the resources that one worker asks of Ray.

    Every pool holds at least one worker, so fractions of a processor must fit all of them together
    on the machine, or the pools wait for each other for ever.

    Args:
        reserved: processors that others of this job take.
    """
    fair = int(min(1.0, _processors(reserved) * CPU_SHARE / total_workers) * 1000) / 1000
    asked: dict[str, Any] = {
        "num_cpus": fair if options.num_cpus is None else options.num_cpus,
        "num_gpus": options.num_gpus,
    }
    if options.requirements:
        asked["runtime_env"] = {"pip": options.requirements}
    return asked


def _alone(video: Video, site: Site, board: Any) -> Video:
    """Retry a video whose worker died in a worker of its own, so that it cannot take others down."""
    for group in groups_of(site):
        options = getattr(site.config.run.pools, group.pool)
        worker: Any = (
            ray.remote(_GroupWorker)
            # A pool that is still restarting its dead may hold the processors; they are idle.
            .options(max_restarts=0, max_task_retries=0, **placement(options, 1) | {"num_cpus": 0})
            .remote(site, group, board)
        )
        try:
            (video,) = ray.get(worker.process.remote([video]))
        except ray.exceptions.RayActorError:
            return died_twice(video, site)
        finally:
            ray.kill(worker)
        if video.rejected:
            break
    return video


@contextmanager
def _relayed(board: Any, sink: EventSink) -> Iterator[None]:
    """Pass the board's events on to the driver's sink, from a thread of its own."""

    def take() -> None:
        for report in ray.get(board.take.remote()):
            for event in READ_EVENTS.decode(report):
                sink(event)

    try:
        with polled(take, POLL_S):
            yield
    finally:
        take()
