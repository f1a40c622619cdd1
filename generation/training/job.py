"""From a curated dataset to a trained model: features, checks, training, the finished folder."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from generation.config import Recipe, Train
from generation.core.learner import Row
from generation.core.states import Statistics
from generation.data.features import make_features
from generation.data.reading import FACTS, HELD_OUT, TRAIN, OpenedBatches, opener, read_rows
from generation.store import Kind, new_learner, publish, save_learner
from generation.training.loop import Batches, Line, train
from models.files import parquet_files
from pipeline.dataset.loader import ShardBatches, ShardError
from pipeline.platform.config import ConfigError
from pipeline.platform.progress import Bar

WITHOUT_EFFECT = {
    "accumulate", "checkpoint_every", "keep_checkpoints", "preview_every", "processes", "num_cpus",
    "num_gpus", "fsdp", "loader_workers", "trackers", "validate_every",
}  # fmt: skip
"""Options of a run that change no loss, so that it may go on with others."""
SAMPLING = {"sampling", "sample_steps", "guidance"}
VALIDATED_ROWS = 64
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
    """Make missing features of the dataset, train, and return the model's folder.

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
        from generation.training.ray_train import following, train_on_ray
        from pipeline.platform.cluster import joined_or_started

        with joined_or_started():
            make_features(kind, dataset, models, recipe, runner=runner, memo=memo)
            check_data(kind, models, recipe)
            folder.mkdir(parents=True, exist_ok=True)
            with _bar(kind, options) as bar, following(folder / "losses.jsonl", partial(_report, bar)):
                train_on_ray(partial(train_here, kind, models, recipe), options, folder)
    else:
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=FEATURES_TIMEOUT)
        if state.is_main_process:
            make_features(kind, dataset, models, recipe, runner=runner, memo=memo)
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
    features = models / "features" / kind
    check_data(kind, models, recipe)
    statistics = Statistics.load(features / "statistics.safetensors")
    torch.manual_seed(options.seed)
    learner = new_learner(kind, recipe, statistics)
    constants = features / "constants.safetensors"
    learner.prepare(read_rows(features, TRAIN), load_file(constants) if constants.is_file() else {})
    folder = models / kind
    if not any(parameter.requires_grad for parameter in learner.parameters()):
        # A model in closed form is finished once it has seen the rows.
        if PartialState().is_main_process:
            save_learner(learner, recipe, folder)
        return
    with _bar(kind, options) as bar:
        train(
            learner, partial(_batches, kind, models, recipe), options, folder,
            made_with=_made_with(kind, models, recipe), report=partial(_report, bar),
            held_out=_held_out(kind, features, recipe),
        )  # fmt: skip
    if PartialState().is_main_process:
        publish(recipe, folder, statistics=statistics)


def _held_out(kind: Kind, features: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """Return rows for the validation loss, of as many videos as possible."""
    open_row, found = opener(kind, features, recipe.decoder), list[Row]()
    for part in parquet_files(features / HELD_OUT):
        found += pq.read_table(part).to_pylist()
    chosen = found[:: max(1, len(found) // VALIDATED_ROWS)][:VALIDATED_ROWS]
    return [open_row(row) for row in chosen]


def _bar(kind: Kind, options: Train) -> Bar:
    return Bar(f"train {kind}", options.steps, unit="steps")


def _report(bar: Bar, line: Line) -> None:
    bar.to(int(line["step"]), note=f"loss {line['loss']:.4f}")


def check_data(kind: Kind, models: Path, recipe: Recipe) -> None:
    """Check the features against the recipe before the first step.

    Raises:
        ConfigError: naming the option and the way out.
    """
    table = models / "features" / kind / TRAIN
    try:
        _batches(kind, models, recipe, 0, 1)
    except ShardError as error:
        raise ConfigError(str(error)) from error
    if kind == "director":
        lengths = [
            length
            for file in parquet_files(table)
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


def _batches(kind: Kind, models: Path, recipe: Recipe, rank: int, world: int) -> Batches:
    options: Train = getattr(recipe, kind).train
    features = models / "features" / kind
    batches = ShardBatches(
        features / TRAIN, seed=options.seed, batch_size=options.batch_size,
        lanes=options.lanes, rank=rank, world=world,
    )  # fmt: skip
    return OpenedBatches(batches, opener(kind, features, recipe.decoder))


def _made_with(kind: Kind, models: Path, recipe: Recipe) -> dict[str, Any]:
    """Return what the losses of a run depend on."""
    section = getattr(recipe, kind).model_dump(mode="json", exclude=SAMPLING)
    section["train"] = {
        name: value for name, value in section["train"].items() if name not in WITHOUT_EFFECT
    }
    features = json.loads((models / "features" / kind / FACTS).read_text(encoding="utf-8"))
    return {kind: section, "state": recipe.state.model_dump(mode="json"), "features": features["made_from"]}
