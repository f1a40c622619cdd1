"""Train the generators of :mod:`benchmarks.generator` and sample the held-out clips."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from generation.config import Recipe
from generation.core.learner import Row
from generation.core.states import Statistics
from generation.core.story import prompt_of
from generation.generator.model import GeneratorModel
from generation.generator.retrieval import RetrievalGenerator
from generation.training.loop import train
from models.files import json_digest, whole_file
from pipeline.dataset.loader import ShardBatches

AnyGenerator = GeneratorModel | RetrievalGenerator
Videos = NDArray[np.uint8]
CLIPS_AT_ONCE = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Clips for training and for test, and what is told of the latter.

    Attributes:
        statistics: of the training clips' states.
        given: raw predicted states of the test clips.
        keyframes: for the key-frame condition, pictures of training clips.
        real: the test clips themselves, at the generator's size.
    """

    recipe: Recipe
    known: list[Row]
    unknown: list[Row]
    statistics: Statistics
    given: torch.Tensor
    keyframes: Videos
    real: Videos


class Runs:
    """Trains and samples; conditions of one model share its training.

    Args:
        out: folder that keeps the clips of finished runs, so that a killed benchmark resumes; None keeps
            nothing.
    """

    def __init__(self, trial: Trial, out: Path | None) -> None:
        self._trial, self._out = trial, out
        self._trained: tuple[str, int] | None = None
        self._weights: dict[str, torch.Tensor] = {}
        clips = [[str(row["clip_id"]) for row in rows] for rows in (trial.known, trial.unknown)]
        self._of = [trial.recipe.model_dump(mode="json"), clips]

    def sampled(self, changes: dict[str, Any], seed: int) -> Videos:
        """Return the clips of a condition, as changes of the recipe's generator, and a seed."""
        trial = self._trial
        options = trial.recipe.generator.model_copy(update=changes).model_dump(mode="json")
        key = json_digest([self._of, options, seed])
        path = self._out / f"clips-{key[:16]}.npy" if self._out else None
        if path and path.is_file():
            videos: Videos = np.load(path, allow_pickle=False)
            return videos
        generator = self._generator(changes, seed)
        videos = sample(generator, trial.unknown, trial.given, trial.keyframes, seed=1000 * seed)
        if path:
            with whole_file(path) as part, part.open("wb") as file:
                np.save(file, videos)
        return videos

    def _generator(self, changes: dict[str, Any], seed: int) -> AnyGenerator:
        """Return the generator of a condition; the last trained model serves the retrieval modes too."""
        trial = self._trial
        generator = new_generator(trial.recipe, changes, trial.known, trial.statistics, seed)
        inner = generator.model if isinstance(generator, RetrievalGenerator) else generator
        if inner is None:
            return generator.eval()
        options = inner.options.model_copy(update={"retrieval": "off"})
        made_of = options.model_dump_json(), seed
        if made_of != self._trained:
            fit(inner, trial.known)
            self._trained, self._weights = made_of, dict(inner.state_dict())
        inner.load_state_dict(self._weights)
        return generator.eval()


def new_generator(
    recipe: Recipe, changes: dict[str, Any], rows: Sequence[Row], statistics: Statistics, seed: int
) -> AnyGenerator:
    """Return an untrained generator of this condition; a retrieving one has its index."""
    options = recipe.generator.model_copy(
        update={**changes, "train": recipe.generator.train.model_copy(update={"seed": seed})}
    )
    torch.manual_seed(seed)
    kind = GeneratorModel if options.retrieval == "off" else RetrievalGenerator
    generator: AnyGenerator = kind(options, recipe.state, statistics)
    generator.prepare(rows, {})
    return generator


def fit(generator: GeneratorModel, rows: Sequence[Row]) -> None:
    """Train a generator on these clips."""
    options = generator.options.train
    with tempfile.TemporaryDirectory() as folder:
        table = pa.Table.from_pylist([{k: v for k, v in row.items() if k != "video"} for row in rows])
        pq.write_table(table, f"{folder}/part-all.parquet", row_group_size=4)

        def batches(rank: int, world: int) -> ShardBatches:
            return ShardBatches(
                Path(folder), batch_size=options.batch_size, lanes=options.lanes, seed=options.seed,
                rank=rank, world=world,
            )  # fmt: skip

        train(generator, batches, options, Path(folder) / "run")


def sample(
    generator: AnyGenerator, rows: Sequence[Row], states: torch.Tensor, keyframes: Videos, *, seed: int
) -> Videos:
    """Every clip made again; clip ``i`` is drawn from ``seed + i`` under every condition."""
    reads_keyframes = generator.options.condition == "keyframe"
    parts = []
    for start in range(0, len(rows), CLIPS_AT_ONCE):
        some = slice(start, start + CLIPS_AT_ONCE)
        prompts = [prompt_of(row["action"], row["caption"]) for row in rows[some]]
        shown: dict[str, Any] = {"keyframes": keyframes[some]} if reads_keyframes else {}
        parts.append(generator.sample(prompts, states[some], seed=seed + start, **shown))
    return np.concatenate(parts)
