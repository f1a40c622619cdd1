"""A film from stock weights over several GPUs, which are only numbers here: the same files as on one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import yaml

from generation.film.footage import clip_frames
from generation.film.plan import FilmError
from generation.film.stock import StockModels
from generation.service.spread import ActorPool, answer_of
from pipeline.cli.main import main
from pipeline.platform.config import ConfigError
from tests.support import tiny_pipelines
from tests.support.chat import ChatServer, Reply, completion

GPUS = 3


def plan(request: dict[str, Any]) -> Reply:
    asked = json.loads(request["messages"][-1]["content"])["count"]
    steps = [{"action": f"Do part {n}.", "caption": f"Hands do part {n}."} for n in range(1, asked + 1)]
    return completion(json.dumps({"steps": steps}))


@pytest.fixture(scope="module")
def three_gpus() -> Iterator[None]:
    """A cluster with three GPUs that are only numbers."""
    ray.init("local", num_cpus=2, num_gpus=GPUS, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def recipe_file(tmp_path: Path, base_url: str) -> Path:
    kontext = str(tiny_pipelines.flux_kontext(tmp_path / "kontext"))
    wan = str(tiny_pipelines.wan_two_experts(tmp_path / "wan"))
    recipe = {
        "film": {"upscale_px": 32},
        "stock": {
            "planner": {"base_url": base_url, "model": "m", "steps": 4},
            "painter": {"path": kontext, "dtype": "float32", "steps": 1},
            "editor": {"path": kontext, "dtype": "float32", "steps": 1},
            "video": {
                "path": wan, "dtype": "float32", "steps": 2, "frames": 5, "height_px": 16, "width_px": 32,
            },
        },
    }  # fmt: skip
    (tmp_path / "stock.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "stock.yaml"


def files_of(film: Path) -> dict[str, bytes]:
    chosen = [film / "film.mp4", *film.glob("keyframes/*.png"), *film.glob("clips/*.mp4")]
    return {file.relative_to(film).as_posix(): file.read_bytes() for file in chosen}


@pytest.mark.slow
def test_a_film_over_three_gpus_has_the_files_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, three_gpus: None
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    pools: list[int] = []
    start = ActorPool.__init__

    def noted(self: ActorPool, *given: Any, copies: int, gpus: int) -> None:
        pools.append(copies)
        start(self, *given, copies=copies, gpus=gpus)
        assert gpus == 1

    monkeypatch.setattr(ActorPool, "__init__", noted)
    with ChatServer(plan) as server:
        file = recipe_file(tmp_path, server.base_url)
        for count in (1, GPUS):
            monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
            out = str(tmp_path / f"film-{count}")
            assert main(["generate", "How to make soup?", "--stock", str(file), "--out", out]) == 0
        # One process makes key frames, two render.
        assert pools == [1, GPUS - 1]
        one, several = (tmp_path / f"film-{count}" for count in (1, GPUS))
        assert files_of(one) == files_of(several) and len(files_of(one)) == 9
        assert len(clip_frames(several / "film.mp4")) == 4 * 5
        trees = [json.loads((film / "plan.json").read_text()) for film in (one, several)]
        assert trees[0]["steps"] == trees[1]["steps"] and trees[0]["models"] == trees[1]["models"]


def refuse() -> None:
    raise ConfigError("stock.video.frames: 9 would do")


def die() -> None:
    os._exit(1)


def test_errors_of_other_processes_are_those_of_this_one(three_gpus: None) -> None:
    with pytest.raises(ConfigError) as caught:
        answer_of(ray.remote(refuse).remote())
    assert str(caught.value) == "stock.video.frames: 9 would do"
    with pytest.raises(FilmError, match="has died; the same command continues it"):
        answer_of(ray.remote(max_retries=0)(die).remote())


def test_gpus_of_a_recipe_and_clips_that_do_not_wait_for_each_other(tmp_path: Path) -> None:
    file = str(recipe_file(tmp_path, "http://127.0.0.1:9/v1"))

    def models(*settings: str) -> StockModels:
        return StockModels.named(file, settings, tmp_path)

    assert models().gpus() == models().painter_gpus() == 1
    apart = models("stock.editor.gpu=1", "stock.video.gpu=2")
    assert (apart.gpus(), apart.painter_gpus()) == (3, 2)
    assert models().clips_at_once(None) == 4 and models().clips_at_once(7) == 7
    assert models("film.chain_last_frame=true").clips_at_once(7) == 1
    with pytest.raises(ConfigError, match="section stock"):
        StockModels.named("embedded", (), tmp_path).gpus()
