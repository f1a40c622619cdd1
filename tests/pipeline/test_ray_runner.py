"""On real Ray: whatever a video does to its worker, every video comes back exactly once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray

from models.language import Endpoint
from pipeline.config import Config, PoolOptions, Run
from pipeline.memo import Memo
from pipeline.ray_runner import connected, placement, run_ray
from pipeline.runners import Site, run_local
from pipeline.worker import StageEvent
from stages.base import Pool, Stage
from stages.records import Reason, Transcript, Video

ROOT = Path(__file__).parents[2]
HEAD = """
import ray
context = ray.init("local", num_cpus=2, object_store_memory=100_000_000, include_dashboard=False,
                   log_to_driver=False, logging_level="ERROR")
print(context.address_info["gcs_address"], flush=True)
input()
"""
NAMES = ("fine", "fragile", "good", "hangs", "poison", "raises", "well")
DEADLINE_S = 5.0


class Feed(Stage):
    """Does to its worker what the video's name says."""

    name: ClassVar[str] = "feed"
    pool: ClassVar[Pool] = "media"
    reads = ("uri",)
    writes = ("transcript",)

    def measure(self, video: Video) -> Video:
        name = video.uri.removeprefix("file:///")
        marker = self.workspace.scratch / name
        if name == "poison":
            os._exit(1)
        if name == "fragile" and not marker.exists():
            marker.touch()
            os._exit(1)
        if name == "hangs":
            threading.Event().wait()
        if name == "raises":
            raise ValueError("not today")
        return replace(video, transcript=Transcript(language="en", sentences=[], model=name))


class Digest(Stage):
    """Comes after it, in a pool of its own."""

    name: ClassVar[str] = "digest"
    pool: ClassVar[Pool] = "speech"
    reads = ("transcript",)

    def judge(self, video: Video) -> Video:
        assert video.transcript is not None
        if video.transcript.model == "well":
            return video.reject(self.name, Reason.NO_SPEECH, "for a test")
        return video


@dataclass(frozen=True, slots=True, kw_only=True)
class Zoo(Site):
    """A site with these two stages for a chain."""

    def stages(self) -> list[Stage]:
        return [Feed(), Digest()]


def video(name: str) -> Video:
    number = f"{NAMES.index(name):064x}"
    return Video(uri=f"file:///{name}", video_id=number[-16:], content_id=number)


def zoo(folder: Path) -> Zoo:
    for name in ("work", "memo"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Zoo(
        config=Config(run=Run(video_deadline_s=DEADLINE_S)),
        scratch=folder / "work",
        memo=folder / "memo",
        language=Endpoint(base_url="http://127.0.0.1:9/v1", model="none"),
        vision=None,
    )


def run(site: Zoo, *names: str) -> tuple[dict[str, Video], list[StageEvent]]:
    """The videos by name, each exactly once, and what was told of them."""
    events: list[StageEvent] = []
    done = list(run_ray([video(name) for name in names], site, events.append))
    assert Counter(found.uri for found in done) == Counter(f"file:///{name}" for name in names)
    return {found.uri.removeprefix("file:///"): found for found in done}, events


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two processors that another process holds, and that we joined."""
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert head.stdin is not None and head.stdout is not None
    address = head.stdout.readline().strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        with connected(Config()):
            yield address
    assert head.poll() is None
    head.communicate("done\n", timeout=60)


@pytest.fixture(scope="module")
def fed(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Zoo, dict[str, Video], list[Any]]:
    """All of them run together."""
    site = zoo(tmp_path_factory.mktemp("zoo"))
    return site, *run(site, *NAMES)


def outcome(found: Video) -> str:
    return found.rejected.reason if found.rejected else "done"


def test_one_video_s_end_is_nobody_else_s(fed: tuple[Zoo, dict[str, Video], list[Any]]) -> None:
    _, done, _ = fed
    assert {name: outcome(found) for name, found in done.items()} == {
        "fine": "done",
        "fragile": "done",
        "good": "done",
        "hangs": "worker_crashed",
        "poison": "worker_crashed",
        "raises": "bug",
        "well": "no_speech",
    }
    drop = done["raises"].rejected
    assert drop is not None and drop.detail == "ValueError: not today"
    for name in ("hangs", "poison"):
        drop = done[name].rejected
        assert drop is not None
        assert drop.stage == "run"
        assert "died again" in drop.detail
    for name in ("fine", "fragile", "good"):
        assert done[name].transcript == Transcript(language="en", sentences=[], model=name)


def test_what_the_workers_tell_reaches_the_driver(fed: tuple[Zoo, dict[str, Video], list[Any]]) -> None:
    """A video may be told of twice where its worker died later on; who died tells nothing."""
    _, done, events = fed
    assert {"measured", "remembered"} >= {event.outcome for event in events} - {"failed", "rejected"}
    failed = [(event.stage, event.drops) for event in events if event.outcome == "failed"]
    assert set(map(str, failed)) == {str(("feed", {"file/bug": 1}))}
    rejected = [(event.stage, event.drops) for event in events if event.outcome == "rejected"]
    assert set(map(str, rejected)) == {str(("digest", {"file/no_speech": 1}))}
    assert sum(event.stage == "digest" for event in events) >= len(done) - 3


def test_a_second_run_measures_nothing_and_tells_of_each_stage_once(
    fed: tuple[Zoo, dict[str, Video], list[Any]],
) -> None:
    site, done, _ = fed
    names = ("fine", "fragile", "good", "well")
    again, events = run(site, *names)
    assert again == {name: done[name] for name in names}
    assert Counter((event.stage, event.outcome) for event in events) == {
        ("feed", "remembered"): 4,
        ("digest", "remembered"): 3,
        ("digest", "rejected"): 1,
    }


def test_the_sequential_runner_gives_the_same_videos(
    fed: tuple[Zoo, dict[str, Video], list[Any]], tmp_path: Path
) -> None:
    _, done, _ = fed
    names = ("fine", "good", "raises", "well")
    found = list(run_local([video(name) for name in names], zoo(tmp_path), lambda _: None))
    assert found == [done[name] for name in names]
    assert Memo(tmp_path / "memo").get("nothing") is None


def test_no_videos_need_no_workers(cluster: str, tmp_path: Path) -> None:
    assert run(zoo(tmp_path), *()) == ({}, [])


@pytest.mark.parametrize("pools", [1, 2, 3, 7, 40])
def test_all_pools_fit_on_the_cluster_together(cluster: str, pools: int) -> None:
    asked = placement(PoolOptions(), pools)
    assert asked.keys() == {"num_cpus", "num_gpus"}
    assert 0 < asked["num_cpus"] <= 1
    assert asked["num_cpus"] * pools < ray.cluster_resources()["CPU"]
    assert asked["num_gpus"] == 0


def test_what_a_pool_is_given_is_asked_for(cluster: str) -> None:
    options = PoolOptions(num_cpus=0.25, num_gpus=0.5, requirements="infra/envs/x.txt")
    assert placement(options, 3) == {
        "num_cpus": 0.25,
        "num_gpus": 0.5,
        "runtime_env": {"pip": "infra/envs/x.txt"},
    }


def test_the_cluster_that_the_environment_names_is_joined(cluster: str) -> None:
    assert ray.get_runtime_context().gcs_address == cluster
    assert ray.cluster_resources()["CPU"] == 2
