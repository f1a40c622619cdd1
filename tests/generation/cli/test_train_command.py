"""``videoauteur train`` from a dataset's tables to models that load, with the real twins."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from generation.config import Recipe
from generation.store import load_learner
from pipeline.cli.main import main
from tests.support.narrated import counting_dataset

SMALL = {
    "state": {"picture_px": 32},
    "director": {"backbone": {"width": 32, "layers": 1, "heads": 2}},
    "decoder": {"channels": [32, 32], "train": {"ema_decay": 0.9}},
    "generator": {
        "transformer": {"layers": 1, "heads": 2, "head_width": 16},
        "frames": 5, "height_px": 16, "width_px": 16,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counting_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def _train(kind: str, dataset: Path, models: Path, *settings: str, runner: str = "local") -> int:
    recipe = models / "small.yaml"
    recipe.write_text(yaml.safe_dump(SMALL))
    options = {"steps": 3, "batch_size": 4, "lanes": 2, "checkpoint_every": 2}
    given = [f"{kind}.train.{name}={value}" for name, value in options.items()]
    arguments = [argument for setting in (*given, *settings) for argument in ("--set", setting)]
    return main(
        ["train", kind, str(dataset), str(models), "--recipe", str(recipe), "--runner", runner, *arguments]
    )


@pytest.mark.parametrize("kind", ["director", "decoder", "generator"])
def test_each_model_trains_and_loads(kind: str, dataset: Path, models: Path) -> None:
    assert _train(kind, dataset, models) == 0
    folder = models / kind
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    learner = load_learner(kind, models)  # type: ignore[arg-type]
    assert not learner.training
    named = learner.kept()
    part = "ema" if kind == "decoder" else "model"
    saved = load_file(folder / "checkpoints" / "step-000003" / f"{part}.safetensors")
    assert saved.keys() == named.keys()
    assert all(torch.equal(tensor, named[name]) for name, tensor in saved.items())
    recipe = Recipe.model_validate(yaml.safe_load((folder / "recipe.yaml").read_text()))
    assert getattr(recipe, kind).train.steps == 3
    # The same command again has nothing to do, and says the same.
    assert _train(kind, dataset, models) == 0
    assert [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()] == lines


@pytest.mark.parametrize(
    ("kind", "settings", "facts"),
    [
        (
            "director",
            ["director.train.batch_size=3", "director.train.lanes=3"],
            ["2 rows", "3 lanes", "train.lanes"],
        ),
        ("director", ["director.min_context=4"], ["director.min_context is 4", "has 3 steps", "lower it"]),
        ("director", ["director.train.fsdp=true"], ["train.fsdp", "train.processes"]),
        ("decoder", ["state.width=640"], ["state.width", "1280"]),
        ("generator", ["generator.height_px=18"], ["generator.height_px", "18", "patches of 8"]),
        ("director", ["director.train.lr=0.5"], ["director.train.lr was 0.001, is 0.5", "delete"]),
        ("director", ["director.train.stepz=1"], ["director.train.stepz", "director.train.steps"]),
    ],
)
def test_recipe_and_data_that_do_not_fit_are_told_before_the_first_step(
    kind: str, settings: list[str], facts: list[str], dataset: Path, models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert _train(kind, dataset, models, *settings) == 2
    err = capsys.readouterr().err
    for fact in facts:
        assert fact in err


def test_a_folder_that_is_no_dataset_is_bad_usage(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("director", models / "nowhere", models) == 2
    assert "nowhere: no table narratives in it" in capsys.readouterr().err


@pytest.mark.slow
def test_ray_trains_with_two_workers_what_one_process_trains(dataset: Path, models: Path) -> None:
    other = models / "ray"
    other.mkdir()
    two = ["director.train.processes=2", "director.train.num_cpus=0.5"]
    interrupts = signal.getsignal(signal.SIGINT)
    assert _train("director", dataset, other, *two, runner="ray") == 0
    assert signal.getsignal(signal.SIGINT) == interrupts
    assert _train("director", dataset, models) == 0
    lines = [
        [json.loads(line) for line in (folder / "director/losses.jsonl").read_text().splitlines()]
        for folder in (models, other)
    ]
    for one, both in zip(*lines, strict=True):
        assert both["loss"] == pytest.approx(one["loss"], rel=1e-5)
