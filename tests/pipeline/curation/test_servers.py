"""Servers that a run starts, their names, and the addresses of its requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.curation.chain import build_stages, endpoints
from pipeline.curation.config import Config
from pipeline.curation.servers import model_for, model_name, needed, reserved_cpus, resolved, started_here
from pipeline.platform.config import ConfigError, load
from stages.caption.stage import WriteCaptions
from stages.refine.stage import Refine

TEXT = {"language": {"base_url": "http://127.0.0.1:9/v1", "model": "big"}}
SIGHT = {"vision": {"base_url": "http://127.0.0.1:9/v1", "model": "eye"}}
LLAMA = {"model": "m.gguf"}
VLLM = {"engine": "vllm", "model": "org/seer", "serves": ["language", "vision"]}


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def doors(found: Config) -> list[tuple[str, tuple[str, ...]]]:
    return [(model_name(group.settings), group.serves) for group in needed(found)]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({}, []),
        (SIGHT, []),
        (TEXT, []),
        (TEXT | SIGHT, []),
        ({"server": VLLM}, [("org/seer", ("language", "vision"))]),
        ({"server": {**VLLM, "serves": ["vision"]}}, [("org/seer", ("vision",))]),
        (TEXT | {"server": {**VLLM, "serves": ["vision"]}}, [("org/seer", ("vision",))]),
    ],
)
def test_servers_are_started_for_what_has_no_endpoint(sections: Any, expected: Any) -> None:
    assert doors(config(**sections)) == expected


def test_a_run_with_endpoints_for_all_starts_nothing(tmp_path: Path) -> None:
    with started_here(config(**TEXT, **SIGHT), tmp_path / "logs") as running:
        assert running.base_urls == {}
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["server.engine=vllm"], r"server: a server needs model"),
        (["server.serves=[vision]"], r"server: a server needs model"),
        (["server.model=m.gguf", "server.serves=[vision]"], "--mmproj"),
        (["server.engine=vllm", "server.model=m", "server.gpus=1.5"], "server: gpus must be whole"),
        (["server.engine=ollama"], r"server\.engine: "),
        (
            ["server.model=m.gguf", "language.base_url=http://127.0.0.1/v1", "language.model=m"],
            r"^server\.serves has language, but language\.base_url is set too",
        ),
        (
            [
                "server.engine=vllm", "server.model=m", "server.serves=[vision]",
                "vision.base_url=http://127.0.0.1/v1", "vision.model=m",
            ],
            r"^server\.serves has vision, but vision\.base_url is set too",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, settings, Config)


def test_one_model_may_answer_for_text_and_for_pictures() -> None:
    found = config(server={**VLLM, "concurrency": 5, "replicas": 2}, language={"timeout_s": 7.0})
    assert (model_for(found, "language"), model_for(found, "vision")) == ("org/seer", "org/seer")
    urls = ("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
    language, vision = endpoints(found, {"language": urls, "vision": urls})
    assert language is not None and vision is not None
    for endpoint in (language, vision):
        assert [each.base_url for each in (endpoint, *endpoint.others)] == list(urls)
        assert len(endpoint.by_model()) == 1
        assert {each.concurrency for each in (endpoint, *endpoint.others)} == {5}
        assert endpoint.api_key_env != "OPENAI_API_KEY", "a provider's key is not for our own servers"
        # A question outlives the restart of a server.
        assert endpoint.deadline_s >= found.server.start_deadline_s
    assert language.timeout_s == 7.0


def test_what_a_section_says_of_keys_and_prices_is_for_its_other_addresses() -> None:
    other = {"base_url": "https://example.org/v1", "model": "dear"}
    section = {"api_key_env": "DEAR_KEY", "input_price": 2.0, "others": [other]}
    language, _ = endpoints(config(language=section, server=LLAMA), {"language": ["http://127.0.0.1:1/v1"]})
    assert language is not None
    (dear,) = language.others
    assert (dear.model, dear.api_key_env, dear.input_price) == ("dear", "DEAR_KEY", 2.0)
    assert (language.model, language.input_price, language.concurrency) == ("m.gguf", 0.0, 1)


def test_without_a_model_stages_work_by_rules() -> None:
    def models(found: Config) -> dict[str, str | None]:
        stages = {stage.name: stage for stage in build_stages(found)}
        refine, caption = stages["refine"], stages["caption"]
        assert isinstance(refine, Refine) and isinstance(caption, WriteCaptions)
        return {"refine": refine.model, "caption": caption.model}

    assert models(config()) == {"refine": None, "caption": None}
    assert models(config(server=VLLM)) == {"refine": "org/seer", "caption": "org/seer"}
    assert models(config(server=VLLM, refine={"enabled": False}))["refine"] is None


def test_a_model_that_was_trained_on_has_another_name(tmp_path: Path) -> None:
    names = []
    for run, value in (("a", b"first"), ("b", b"other"), ("c", b"other")):
        folder = tmp_path / run / "captioner"
        folder.mkdir(parents=True)
        # More than is read whole.
        (folder / "model.safetensors").write_bytes(bytes(8 << 20) + value)
        names.append(model_name(config(server={**VLLM, "model": str(folder)}).server))
    assert all(name.startswith("captioner@") for name in names)
    assert names[0] != names[1] == names[2], "by what is in it, wherever it lies"


def test_relative_paths_mean_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.gguf").write_bytes(b"model")
    found = resolved(config(server={"model": "m.gguf", "python": "no/python"})).server
    assert found.model == str(tmp_path / "m.gguf")
    assert found.python == "no/python", "perhaps it is on the node where the server will run"
    assert found.name is not None
    assert found.name.startswith("m@")
    assert model_name(found) == found.name
    assert resolved(config(server={"model": "m.gguf", "name": "mine"})).server.name == "mine"


def test_processors_of_all_replicas_are_set_aside() -> None:
    assert reserved_cpus(config(server=LLAMA | {"num_cpus": 0.5, "replicas": 3})) == 1.5
    assert reserved_cpus(config()) == 0


def test_an_engine_that_is_not_installed_is_named_with_the_way_out(tmp_path: Path) -> None:
    given = config(server={"engine": "vllm", "model": "m"})
    with (
        pytest.raises(ConfigError, match=r"(?s)No module named 'vllm'.*make env-vllm"),
        started_here(given, tmp_path),
    ):
        pass


def test_replicas_on_gpus_need_ray(tmp_path: Path) -> None:
    given = config(server={"engine": "vllm", "model": "m", "gpus": 1, "replicas": 2})
    with (
        pytest.raises(ConfigError, match=r"server\.replicas: .*--runner ray"),
        started_here(given, tmp_path),
    ):
        pass
