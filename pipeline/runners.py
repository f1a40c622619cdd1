"""The sequential runner: the same stages with no Ray at all, for tests and debuggers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models import weights
from models.language import Endpoint
from models.llamacpp import LlamaServer
from pipeline.chain import build_stages, embedded_endpoint
from pipeline.config import Config
from pipeline.memo import Memo
from pipeline.worker import ChainWorker, EventSink
from stages.base import Stage, Workspace
from stages.records import Video

SERVER_THREADS = 1
"""llama.cpp's threads wait for each other in a busy loop: with two of them on two cores that other
workers also use, an answer took 21 s in place of 3 s."""
SERVER_CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a worker needs to know of the run, wherever it runs."""

    config: Config
    scratch: Path
    memo: Path
    language: Endpoint
    vision: Endpoint | None

    def stages(self) -> list[Stage]:
        """The whole chain, not opened."""
        return build_stages(self.config)

    def worker(self, stages: Sequence[str] | None = None) -> ChainWorker:
        """A worker for some stages, by name; for all of them if None."""
        chain = {stage.name: stage for stage in self.stages()}
        memo = Memo(self.memo)
        return ChainWorker(
            [chain[name] for name in stages or chain],
            scan=chain.get("scan"),
            workspace=Workspace(
                scratch=self.scratch, answers=memo, language=self.language, vision=self.vision
            ),
            memo=memo,
            retries=self.config.run.transient_retries,
        )


def run_local(videos: Iterable[Video], site: Site, sink: EventSink) -> Iterator[Video]:
    """One video after the other, in this process."""
    worker = site.worker()
    try:
        for video in videos:
            yield worker.process(video, sink)
    finally:
        worker.close()


@contextmanager
def local_server() -> Iterator[Endpoint]:
    """The embedded language model as a child of this process."""
    with start_embedded_server("127.0.0.1") as server:
        yield embedded_endpoint(server.base_url)


def start_embedded_server(host: str) -> LlamaServer:
    """Start the embedded model; whoever calls this closes it."""
    return LlamaServer(
        weights.smollm2(), host=host, threads=SERVER_THREADS, context_tokens=SERVER_CONTEXT_TOKENS
    )
