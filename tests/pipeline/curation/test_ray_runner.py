"""On real Ray: whatever a video does to its worker, every video comes back exactly once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import psutil  # type: ignore[import-untyped]
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from models.budget import Budget
from models.language import Endpoint, LanguageClient, Question
from models.ledger import Ledger
from models.serving import ServerSettings
from models.weights import smollm2
from pipeline.curation import ray_runner, ray_servers
from pipeline.curation.chain import Group
from pipeline.curation.config import Config, PoolOptions, Pools, Run
from pipeline.curation.ray_runner import (
    BLOCK_BYTES,
    LANGUAGE_WORKERS,
    PoolSize,
    blocks_of,
    placement,
    pool_size,
    run_ray,
)
from pipeline.curation.runners import Site, run_local
from pipeline.curation.worker import StageEvent
from pipeline.platform.cluster import connected
from pipeline.platform.config import ConfigError
from pipeline.platform.memo import Memo
from stages.base import Pool, Stage, Workspace
from stages.reasons import Reason
from stages.records import Transcript, Video
from tests.support.chat import ChatServer, completion
from tests.support.feed import Feed

ROOT = Path(__file__).parents[3]
JOIN = """
import ray
from pipeline.curation.config import Config
from pipeline.platform.cluster import connected
with connected():
    print(ray.nodes()[0]["NodeID"])
"""
NAMES = ("fine", "fragile", "good", "hangs", "poison", "raises", "well")
DEADLINE_S = 4.0
SCRAPED_WITHIN_S = 40.0


class Digest(Stage):
    """Comes after it, in the same worker."""

    name: ClassVar[str] = "digest"
    pool: ClassVar[Pool] = "media"
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


class Ask(Stage):
    """Asks the language model about a video."""

    name: ClassVar[str] = "ask"
    pool: ClassVar[Pool] = "language"
    reads = ("uri",)
    writes = ("transcript",)

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._client: LanguageClient = workspace.client(self.name)

    def measure(self, video: Video) -> Video:
        question = Question(instructions="Name it.", material=video.uri, schema={"type": "object"})
        (answer,) = self._client.ask([question])
        return video.with_results(transcript=Transcript(language="en", sentences=[], model=answer.model))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parlour(Site):
    """A site that only asks."""

    def stages(self) -> list[Stage]:
        return [Ask()]


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


def run(site: Site, *names: str) -> tuple[dict[str, Video], list[StageEvent]]:
    """The videos by name, each exactly once, and what was told of them."""
    events: list[StageEvent] = []
    done = list(run_ray([video(name) for name in names], site, events.append))
    assert Counter(found.uri for found in done) == Counter(f"file:///{name}" for name in names)
    return {found.uri.removeprefix("file:///"): found for found in done}, events


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of our own on this machine, for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with connected():
            yield


@pytest.fixture(scope="module")
def fed(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Zoo, dict[str, Video], list[Any]]:
    """All of them run together."""
    site = zoo(tmp_path_factory.mktemp("zoo"))
    return site, *run(site, *NAMES)


@pytest.mark.usefixtures("cluster")
def test_a_cluster_of_our_own_listens_on_loopback_alone() -> None:
    listening = {
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening and listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


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
    assert drop is not None and "ValueError at " in drop.detail and drop.detail.endswith(": not today")
    for name, detail in (("hangs", "took longer than run.video_deadline_s"), ("poison", "died again")):
        drop = done[name].rejected
        assert drop is not None
        assert drop.stage == "run"
        assert detail in drop.detail
    for name in ("fine", "fragile", "good"):
        assert done[name].transcript == Transcript(language="en", sentences=[], model=name)


def test_in_one_block_too_only_the_poison_is_lost(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runner, "BLOCKS_A_PROCESSOR", 0.001)
    monkeypatch.setattr(ray_runner, "BLOCK_VIDEOS", len(NAMES))
    done, _ = run(zoo(tmp_path), "fine", "poison", "good", "well")
    assert {name: outcome(found) for name, found in done.items()} == {
        "fine": "done",
        "poison": "worker_crashed",
        "good": "done",
        "well": "no_speech",
    }


def test_small_files_share_blocks_and_large_ones_stand_alone() -> None:
    sizes = [3 * BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES // 2, *[1000] * 100]
    videos = [replace(video("fine"), identity=f"{size}-0") for size in sizes]
    blocks = blocks_of(videos, 2)
    assert [one for block in blocks for one in block] == videos
    assert [len(block) for block in blocks[:2]] == [1, 1]
    assert max(len(block) for block in blocks) == 13, "all processors have something to do"
    assert [len(block) for block in blocks_of(videos[:5], 2)] == [1] * 5


def test_what_the_workers_tell_reaches_the_driver(fed: tuple[Zoo, dict[str, Video], list[Any]]) -> None:
    """A worker that died reports nothing; a video that lost its worker to another may be reported twice."""
    _, _, events = fed
    told = Counter((event.stage, event.outcome, *event.drops) for event in events)
    once = Counter({
        ("feed", "measured"): 4,
        ("feed", "failed", "file/bug"): 1,
        ("digest", "measured"): 3,
        ("digest", "rejected", "file/no_speech"): 1,
    })  # fmt: skip
    assert not once - told
    assert {key for key in told if key[1] != "remembered"} == once.keys()


def test_the_sequential_runner_gives_the_same_videos(
    fed: tuple[Zoo, dict[str, Video], list[Any]], tmp_path: Path
) -> None:
    _, done, _ = fed
    names = ("fine", "good", "raises", "well")
    found = list(run_local([video(name) for name in names], zoo(tmp_path), lambda _: None))
    assert found == [done[name] for name in names]
    assert Memo(tmp_path / "memo").get("nothing") is None


def test_no_videos_need_no_workers(cluster: None, tmp_path: Path) -> None:
    assert run(zoo(tmp_path), *()) == ({}, [])


@pytest.mark.parametrize("pools", [1, 2, 3, 7, 40])
def test_all_pools_fit_on_the_cluster_together(cluster: None, pools: int) -> None:
    asked = placement(PoolOptions(), pools)
    assert asked.keys() == {"num_cpus", "num_gpus"}
    assert 0 < asked["num_cpus"] <= 1
    assert asked["num_cpus"] * pools < ray.cluster_resources()["CPU"]
    assert asked["num_gpus"] == 0


def test_what_a_pool_is_given_is_asked_for(cluster: None) -> None:
    options = PoolOptions(num_cpus=0.25, num_gpus=0.5, requirements="infra/envs/x.txt")
    assert placement(options, 3) == {
        "num_cpus": 0.25,
        "num_gpus": 0.5,
        "runtime_env": {"pip": "infra/envs/x.txt"},
    }


def exported() -> Counter[tuple[str, str]]:
    """Return the videos that left a stage, by stage and outcome, as Prometheus would scrape them."""
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: Counter[tuple[str, str]] = Counter()
    for family in families:
        for sample in family.samples:
            if sample.name == "ray_videoauteur_stage_videos_total":
                found[sample.labels["stage"], sample.labels["outcome"]] += int(sample.value)
    return found


def test_metrics_of_a_run_are_read_from_ray_s_endpoint(cluster: None, tmp_path: Path) -> None:
    before = exported()
    _, events = run(zoo(tmp_path), "fine", "good", "raises", "well")
    told = Counter((event.stage, event.outcome) for event in events)
    assert told == {
        ("feed", "measured"): 3, ("feed", "failed"): 1,
        ("digest", "measured"): 2, ("digest", "rejected"): 1,
    }  # fmt: skip
    until = time.monotonic() + SCRAPED_WITHIN_S
    while (new := exported() - before) != told and time.monotonic() < until:
        time.sleep(0.5)
    assert new == told


def answers(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(base_url.removesuffix("/v1") + "/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_replicas_of_a_server_live_as_long_as_they_are_needed(cluster: None, tmp_path: Path) -> None:
    config = Config(
        server=ServerSettings(model=str(smollm2()), replicas=2, context_tokens=256, num_cpus=0.1)
    )
    with ray_servers.started(config, tmp_path) as running:
        urls = running.base_urls["language"]
        assert len(set(urls)) == 2
        assert all(map(answers, urls))
        running.check()
    assert not any(map(answers, urls))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["language-0.log", "language-1.log"]


def test_a_server_that_does_not_start_says_why_from_wherever_it_is(cluster: None, tmp_path: Path) -> None:
    config = Config(server=ServerSettings(model=str(tmp_path / "none.gguf")))
    with (
        pytest.raises(ConfigError, match=r"(?s)^server: .*none\.gguf did not start: .*No such file"),
        ray_servers.started(config, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            ServerSettings(model="m.gguf", gpus=1),
            r"server\.gpus.* room for 0 of 1 servers with server\.gpus=1",
        ),
        (ServerSettings(model="m.gguf", num_cpus=0.5, replicas=1000), r"server\.num_cpus.* leave none"),
    ],
)
def test_what_no_node_has_is_refused_at_once(
    cluster: None, server: ServerSettings, message: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(ConfigError, match=message),
        ray_servers.started(Config(server=server), tmp_path),
    ):
        pass


def test_all_workers_together_keep_the_budget(cluster: None, tmp_path: Path) -> None:
    pools = Pools(language=PoolOptions(workers=2))
    with ChatServer(lambda request: completion("{}")) as server:
        site = Parlour(
            config=Config(run=Run(pools=pools), budget=Budget(max_requests=4)),
            scratch=tmp_path,
            memo=tmp_path / "memo",
            language=Endpoint(base_url=server.base_url, model="m"),
            vision=None,
            ledger=tmp_path / "ledger",
        )
        done, events = run(site, *NAMES[:6])
        assert len(server.requests) == 4
    assert Counter(map(outcome, done.values())) == {"done": 4, "budget_spent": 2}
    (total,) = Ledger(tmp_path / "ledger").totals()
    assert (total.stage, total.model, total.requests, total.answered) == ("ask", "m", 4, 4)
    assert sum(event.asked.requests for event in events) == 4


def test_language_workers_are_more_where_the_models_answer_several_at_once(
    cluster: None, tmp_path: Path
) -> None:
    site = zoo(tmp_path)
    group = Group(pool="language", stages=("feed",))
    several, single = (
        replace(site, language=site.language.model_copy(update={"concurrency": concurrency}))
        for concurrency in (8, 1)
    )
    processors = int(ray.cluster_resources()["CPU"])
    size = PoolSize(first=LANGUAGE_WORKERS, most=max(processors, LANGUAGE_WORKERS))
    assert pool_size(group, several) == size
    assert pool_size(group, single) == PoolSize(first=1, most=processors)
    assert pool_size(replace(group, pool="media"), several) == PoolSize(first=1, most=processors)


def test_a_cluster_that_is_there_is_joined_and_left_running(cluster: None) -> None:
    """By a child of whoever started it: a stranger is refused by Ray itself."""
    address = ray.get_runtime_context().gcs_address
    joined = subprocess.run(
        [sys.executable, "-c", JOIN],
        cwd=ROOT, env={**os.environ, "RAY_ADDRESS": address}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (node,) = ray.nodes()
    assert joined.stdout.split() == [node["NodeID"]]
    assert node["Alive"]
