"""Train a model of MODELS on DATASET.

The same command continues after a kill. Under torchrun use --runner local. Exit codes: 0 done; 1 failed
or interrupted; 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from pipeline.platform.command import (
    DONE,
    Commands,
    add_command,
    add_set_option,
    folder_to_write,
    local_folder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from generation.config import Recipe


EMBEDDED = "embedded"
"""Recipe of a user without GPU and downloads."""


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "train", __doc__, _train)
    parser.add_argument("model", choices=("director", "generator", "decoder", "captioner"))
    parser.add_argument(
        "dataset", metavar="DATASET", type=local_folder,
        help="an OUTPUT of curate; for the captioner one of collect",
    )  # fmt: skip
    parser.add_argument(
        "models", metavar="MODELS", type=folder_to_write, help="folder of features and models"
    )
    parser.add_argument(
        "--runner", choices=("ray", "local"), default="ray",
        help="default: ray; the captioner always takes local",
    )  # fmt: skip
    parser.add_argument("--memo", type=folder_to_write, metavar="FOLDER", help="default: DATASET/_memo")
    parser.add_argument(
        "--recipe",
        metavar="FILE_OR_NAME",
        help="a YAML file, or a recipe that comes along; default: embedded (none for the captioner)",
    )
    add_set_option(parser, "recipe")


def _train(parsed: argparse.Namespace) -> int:
    from generation.config import Recipe
    from generation.film.trained import recipe_file
    from pipeline.platform.config import load

    recipe_name = parsed.recipe or (None if parsed.model == "captioner" else EMBEDDED)
    file = None if recipe_name is None else recipe_file(recipe_name)
    recipe = load(file, parsed.settings, Recipe, option="--recipe").config
    # Here, so that --help and a wrong option answer at once.
    from transformers.utils.logging import disable_progress_bar

    # Its bars for every loaded file would tear ours.
    disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = _trained(parsed, recipe)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"{folder}: {parsed.model} trained; losses.jsonl and other records lie beside it")
    return DONE


def _trained(parsed: argparse.Namespace, recipe: Recipe) -> Path:
    if parsed.model == "captioner":
        from generation.captioner.tuning import train_captioner

        return train_captioner(parsed.dataset, parsed.models, recipe.captioner)
    from generation.training.job import train_model

    return train_model(
        parsed.model, parsed.dataset, parsed.models, recipe, runner=parsed.runner, memo=parsed.memo
    )
