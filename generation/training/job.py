"""From a curated dataset to a trained model: features, checks, training, the finished folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from safetensors.torch import load

from generation.config import Recipe, Train
from generation.core.states import Statistics
from generation.data.features import make_features
from generation.store import Kind, new_learner, publish, save_learner
from generation.training.loop import Batches, Line, train
from pipeline.dataset.loader import ShardBatches, ShardError
from pipeline.platform.config import ConfigError
from pipeline.platform.progress import Bar

TABLES = {"director": "stories", "generator": "clips", "decoder": "clips"}
WITHOUT_EFFECT = {
    "accumulate", "checkpoint_every", "keep_checkpoints", "preview_every", "processes", "num_cpus",
    "num_gpus", "fsdp", "loader_workers", "trackers",
}  # fmt: skip
"""Options of a run that change no loss, so that it may go on with others."""
SAMPLING = {"sampling", "sample_steps", "guidance"}
FEATURES_TIMEOUT = timedelta(days=1)
"""For which the other processes of torchrun wait while the first makes features."""


def train_model(
    kind: Kind,
    dataset: Path,
    models: Path,
    recipe: Recipe,
    *,
    runner: Literal["ray", "local"] = "ray",
    memo: Path | None = None,
) -> Path:
    """Make features of the dataset where they are missing, and train; returns the model's folder.

    With the runner ``local`` training is done by this process and its companions, where ``torchrun``
    started it.

    Raises:
        FeatureError: the dataset cannot be used.
        ConfigError: recipe and data do not fit each other.
        TrainingError: training cannot go on.
    """
    options: Train = getattr(recipe, kind).train
    # Workers start in other folders.
    dataset, models = dataset.resolve(), models.resolve()
    folder = models / kind
    if runner == "ray":
        # Ray takes seconds to import; the sequential runner must not pay for it.
        from generation.training.ray_train import told, train_on_ray
        from pipeline.platform.cluster import joined_or_started

        with joined_or_started():
            make_features(dataset, models, recipe, runner=runner, memo=memo)
            check_data(kind, models, recipe)
            folder.mkdir(parents=True, exist_ok=True)
            with _bar(kind, options) as bar, told(folder / "losses.jsonl", partial(_tell, bar)):
                train_on_ray(partial(train_here, kind, models, recipe), options, folder)
    else:
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=FEATURES_TIMEOUT)
        if state.is_main_process:
            make_features(dataset, models, recipe, runner=runner, memo=memo)
        state.wait_for_everyone()
        train_here(kind, models, recipe)
    return folder


def train_here(kind: Kind, models: Path, recipe: Recipe) -> None:
    """Train from features that are there, in this process and its companions.

    Raises:
        ConfigError: recipe and features do not fit each other.
        TrainingError: training cannot go on.
    """
    options: Train = getattr(recipe, kind).train
    check_data(kind, models, recipe)
    statistics = Statistics.load(models / "features" / "statistics.safetensors")
    torch.manual_seed(options.seed)
    learner = new_learner(kind, recipe, statistics)
    learner.prepare(_rows(models / "features" / TABLES[kind]), {})
    folder = models / kind
    if not any(parameter.requires_grad for parameter in learner.parameters()):
        # A model in closed form is finished once it has seen the rows.
        if PartialState().is_main_process:
            save_learner(learner, recipe, folder)
        return
    with _bar(kind, options) as bar:
        train(
            learner, partial(_batches, kind, models, options), options, folder,
            made_with=_made_with(kind, models, recipe), tell=partial(_tell, bar),
        )  # fmt: skip
    if PartialState().is_main_process:
        publish(recipe, folder, statistics=statistics)


def _rows(table: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(table.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()


def _bar(kind: Kind, options: Train) -> Bar:
    return Bar(f"train {kind}", options.steps, unit="steps")


def _tell(bar: Bar, line: Line) -> None:
    bar.to(int(line["step"]), note=f"loss {line['loss']:.4f}")


def check_data(kind: Kind, models: Path, recipe: Recipe) -> None:
    """Hold the features against the recipe before the first step.

    Raises:
        ConfigError: naming the option and the way out.
    """
    features = models / "features"
    table = features / TABLES[kind]
    options: Train = getattr(recipe, kind).train
    try:
        _batches(kind, models, options, 0, 1)
    except ShardError as error:
        raise ConfigError(str(error)) from error
    if kind == "director":
        lengths = [
            length
            for file in sorted(table.glob("*.parquet"))
            for length in pc.list_value_length(
                pq.read_table(file, columns=["actions"])["actions"]
            ).to_pylist()
        ]
        wanted = recipe.director.min_context
        if max(lengths) < wanted:
            raise ConfigError(
                f"director.min_context is {wanted}, and the longest of {len(lengths)} narratives has "
                f"{max(lengths)} steps: lower it, or curate longer videos"
            )


class _Opened:
    """Batches whose rows hold their tensors by name too."""

    def __init__(self, batches: ShardBatches) -> None:
        self._batches = batches
        self.places = batches.places

    def __getitem__(self, step: int) -> list[dict[str, Any]]:
        return [row | load(row["tensors"]) for row in self._batches[step]]


def _batches(kind: Kind, models: Path, options: Train, rank: int, world: int) -> Batches:
    batches = ShardBatches(
        models / "features" / TABLES[kind], seed=options.seed, batch_size=options.batch_size,
        lanes=options.lanes, rank=rank, world=world,
    )  # fmt: skip
    return _Opened(batches) if kind == "decoder" else batches


def _made_with(kind: Kind, models: Path, recipe: Recipe) -> dict[str, Any]:
    """What the losses of a run depend on."""
    section = getattr(recipe, kind).model_dump(mode="json", exclude=SAMPLING)
    section["train"] = {
        name: value for name, value in section["train"].items() if name not in WITHOUT_EFFECT
    }
    features = json.loads((models / "features" / "features.json").read_text(encoding="utf-8"))
    return {kind: section, "state": recipe.state.model_dump(mode="json"), "features": features["made_from"]}
