"""A video through stages as the worker runs them: with the view, the memo, and errors sorted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.language import Endpoint
from pipeline.curation.worker import ChainWorker, StageEvent
from pipeline.platform.memo import Memo
from stages.base import Stage, Workspace
from stages.records import Video

VIDEO = Video(uri="file:///soup.mp4", video_id="a" * 16, content_id="a" * 64)


class Bench:
    """Runs one video through stages with a memo of its own, and keeps the events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = Workspace(
            scratch=folder / "work",
            answers=Memo(folder / "answers"),
            language=Endpoint(base_url="http://127.0.0.1:9/v1", model="none"),
            vision=None,
        )

    def run(
        self, *stages: Stage, video: Video = VIDEO, packer: Stage | None = None, retries: int = 2
    ) -> tuple[Video, list[StageEvent]]:
        events: list[StageEvent] = []
        memo = Memo(self.folder / "memo")
        chain = ChainWorker(stages, packer=packer, workspace=self.workspace, memo=memo, retries=retries)
        (done,) = chain.process([video], events.append)
        chain.close()
        assert all(event.seconds >= 0 for event in events)
        self.tracebacks = [event.traceback for event in events if event.traceback]
        return done, [replace(event, seconds=0.0, traceback="", detail="") for event in events]
