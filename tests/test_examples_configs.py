"""The ready configurations load, build the chain, and mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.curation.servers import model_for, needed
from pipeline.platform.config import leaves, load

FOLDER = Path(__file__).parents[1] / "examples" / "configs"
EXPECTED: dict[str, dict[str, Any]] = {
    "laptop": {"match.min_iou": 0.25, "match.pairs": "all", "relevance.topic": None, "server.gpus": 0.0},
    "endpoint": {
        "language.api_key_env": "OPENAI_API_KEY", "vision.input_price": 2.5, "vision.output_price": 10.0,
        "budget.max_usd": 20.0, "caption.only_matched": True, "relevance.topic": "cooking food",
    },
    "one_gpu": {
        "server.engine": "vllm", "server.serves": ["language", "vision"], "server.gpus": 1.0,
        "server.replicas": 1, "server.python": ".venv-vllm/bin/python", "run.ray_address": None,
    },
    "cluster": {
        "run.ray_address": "auto", "run.pools.media.workers": 64, "run.pools.language.num_cpus": 0.5,
        "server.engine": "vllm", "server.replicas": 8, "server.gpus": 4.0, "narrate.min_integrity": 0.5,
    },
}  # fmt: skip


def loaded(name: str) -> Config:
    return load(FOLDER / f"{name}.yaml", [], Config).config


def test_every_configuration_is_known_here() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_loads_builds_the_chain_and_means_what_it_says(name: str) -> None:
    config = loaded(name)
    values = dict(leaves(config.model_dump(mode="json")))
    assert {path: values[path] for path in EXPECTED[name]} == EXPECTED[name]
    stages = [stage.name for stage in build_stages(config)]
    judged = config.relevance.topic is not None
    assert ("relevance" in stages, "clip_roles" in stages) == (judged, judged)
    assert stages[0] == "probe" and stages[-1] == "narrate"


def test_the_laptop_is_the_default() -> None:
    assert loaded("laptop") == Config()


def test_who_answers() -> None:
    models = {
        name: (model_for(loaded(name), "language"), model_for(loaded(name), "vision")) for name in EXPECTED
    }
    assert models["laptop"] == (None, None)
    assert models["endpoint"] == ("gpt-4o-mini", "gpt-4o")
    assert needed(loaded("endpoint")) == []
    for name in ("one_gpu", "cluster"):
        (server,) = needed(loaded(name))
        assert server.serves == ("language", "vision")
        assert models[name][0] == models[name][1] is not None
