"""A single video in a child process: whatever it does to its process, it comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.curation.child_runner import run_in_child, suits
from pipeline.curation.config import Config, PoolOptions, Pools, Run
from pipeline.curation.runners import Site
from pipeline.curation.worker import StageEvent
from stages.base import Stage
from stages.records import Video
from tests.support.feed import Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Stable(Site):
    """A site with this stage for a chain."""

    def stages(self) -> list[Stage]:
        return [Feed()]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("fragile", ""),
        ("poison", "died again when it was alone"),
        # As the next run says, which finds it in the memo.
        ("crashes", "ended its process twice (Fatal Python error: Segmentation fault); set run.retry"),
        ("hangs", "longer than run.video_deadline_s"),
    ],
)
def test_a_video_comes_back_whatever_it_does(tmp_path: Path, name: str, detail: str) -> None:
    config = Config(run=Run(video_deadline_s=1.0))
    (tmp_path / "work").mkdir()
    site = Stable(
        config=config, scratch=tmp_path / "work", memo=tmp_path / "memo", language=None, vision=None
    )
    events: list[StageEvent] = []
    video = Video(uri=f"file:///{name}", video_id="0" * 16, content_id="0" * 64)
    (done,) = run_in_child([video], site, events.append)
    if not detail:
        assert done.rejected is None and done.transcript is not None
        assert [event.outcome for event in events] == ["measured"]
    else:
        assert done.rejected is not None and done.rejected.reason == "worker_crashed"
        assert detail in done.rejected.detail


def test_a_cluster_that_is_there_or_asked_for_is_used() -> None:
    assert suits(Config(), 1, joins=False)
    assert not suits(Config(), 1, joins=True)
    assert not suits(Config(), 2, joins=False)
    options = Run(pools=Pools(speech=PoolOptions(num_gpus=1)))
    assert not suits(Config(run=options), 1, joins=False)
