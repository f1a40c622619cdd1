"""The sequential runner: the same stages with no Ray at all, for tests and debuggers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from models.language import Endpoint
from models.ledger import Ledger
from pipeline.curation.bucket_memo import open_memo
from pipeline.curation.chain import build_stages, packer_of
from pipeline.curation.config import Config
from pipeline.curation.crashes import Watch, collect, remembered_crash
from pipeline.curation.files import VideoFiles
from pipeline.curation.worker import DIED_TWICE, ChainWorker, EventSink, crashed
from stages.base import Stage, Workspace
from stages.records import Video


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Facts of the run that a worker needs, wherever it runs.

    Attributes:
        memo: a folder, or the URL of one in a bucket.
        ledger: folder of the account of all requests; None where requests are not counted.
        only: names of the stages that run; None for all of them.
    """

    config: Config
    scratch: Path
    memo: Path | str
    language: Endpoint | None
    vision: Endpoint | None
    ledger: Path | None = None
    only: tuple[str, ...] | None = None

    def stages(self) -> list[Stage]:
        """Return the stages that run, not opened."""
        return [
            stage for stage in build_stages(self.config) if self.only is None or stage.name in self.only
        ]

    def watch(self) -> Watch:
        """Return the watch over a worker's process; its keys are the same for all workers."""
        return Watch(self.scratch, build_stages(self.config), self.config.run.video_deadline_s)

    def worker(self, stages: Sequence[str] | None = None) -> ChainWorker:
        """A worker for some stages, by name; for all of them if None."""
        # All of them, for the one that packs frames may not be among those that run.
        chain = {stage.name: stage for stage in (*build_stages(self.config), *self.stages())}
        memo = open_memo(self.memo)
        return ChainWorker(
            [chain[name] for name in stages or [stage.name for stage in self.stages()]],
            packer=packer_of(list(chain.values())),
            workspace=Workspace(
                scratch=self.scratch,
                answers=memo,
                language=self.language,
                vision=self.vision,
                ledger=Ledger(self.ledger, self.config.budget) if self.ledger else None,
            ),
            memo=memo,
            retries=self.config.run.transient_retries,
            watch=self.watch(),
            files=VideoFiles(self.config.run.cache_bytes),
        )


def run_local(videos: Iterable[Video], site: Site, sink: EventSink) -> Iterator[Video]:
    """Process one video after the other, in this process; a native crash or a hang ends it."""
    worker = site.worker()
    try:
        yield from worker.process(videos, sink)
    finally:
        worker.close()


def died_twice(video: Video, site: Site) -> Video:
    """Return a video whose process died, also alone, as rejected.

    The words are those of :func:`.crashes.remembered_crash`, so that the next run has the same tables.
    """
    with closing(open_memo(site.memo)) as memo:
        collect(site.scratch, memo)
        detail = remembered_crash(memo, site.watch().key(video))
    return crashed(video, detail or DIED_TWICE)
