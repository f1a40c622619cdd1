"""The director against cheap rivals, on real pictures of recipes with a sentence each.

``python -m benchmarks.director --train FRAMES_JSON --test FRAMES_JSON``; a file is a list of
``{"video_id": ..., "steps": [{"image": path beside the file, "text": ...}]}``. When both are the same
file, a fifth of its videos, those whose id has the smallest sha256, are the test, the others are for
training.

*Next state*: of every step but the first, from the sentences so far and the true states before it. The
true frame is looked for among all test frames but those already shown; other rows leave these in, and
a model that repeats the last picture finds that one first. *Assignment*: a video's states are predicted
from its sentences alone, with the model's own predictions as history, and its frames are put in the order
that agrees best. States are standardised by the training set; ties count as guesses.

A director in closed form ranks pictures by its alignment head and predicts states by its memory; for a
trained one and the rivals, pictures are ranked by cosine with the predicted state. Rivals: the mean state;
the previous state; ridge regression from sentence features (MiniLM) and the previous state, its penalty
chosen by cross-validation on the training videos.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from generation.config import Recipe
from generation.core.states import Statistics
from generation.core.story import Step, Story
from generation.director.closed import ClosedFormDirector
from generation.director.model import DirectorModel
from generation.encoders.factory import load_encoder
from generation.encoders.sentences import load_sentences
from generation.evaluation.states import assignment_exact, cosine, cosines, mse, recall, retrieval
from generation.film.trained import recipe_file
from generation.store import new_learner
from generation.training.loop import train
from pipeline.dataset.loader import ShardBatches
from pipeline.platform.config import load

Array = NDArray[np.floating]
AnyDirector = ClosedFormDirector | DirectorModel
Predict = Callable[[bool], Array]
"""Whether the true states before are known; standardised states ``[videos, steps, width]`` of the test."""
Rank = Callable[[bool], Array]
"""Likewise; scores ``[videos, steps, videos * steps]`` of all test frames for each step."""

STATES = {
    "colour": {"state.family": "colour", "state.width": 1580},
    "imagenet": {"state.family": "imagenet", "state.width": 1280},
}
TEST_SHARE = 0.2
FOLDS = 4
PENALTIES = (1e3, 3e3, 1e4, 3e4, 1e5, 3e5)
SCALES = (10.0, 30.0, 100.0, 300.0)
"""Length of a sentence's features; a state's is about 36."""
RETRIEVAL: dict[str, Callable[[Array, NDArray[np.integer]], Array]] = {
    "recall_at_1": partial(recall, k=1),
    "recall_at_5": partial(recall, k=5),
    "median_rank": retrieval,
}
FIGURES = ("cosine", "mse", *RETRIEVAL, "assignment_exact")
LEFT_IN = " (shown frames left in)"


def main() -> None:
    """Train, predict, print a table, then one JSON object."""
    arguments = parsed()
    family = STATES[arguments.state]
    settings = [f"{key}={value}" for key, value in family.items()] + arguments.settings
    recipe = load(recipe_file(arguments.recipe), settings, Recipe).config
    fitting, held_out = split(arguments.train, arguments.test, arguments.fold)
    encoder = load_encoder(recipe.state)
    known, unknown = (read(videos, encoder.encode) for videos in (fitting, held_out))
    statistics = Statistics.of(state for story in known for state in raw(story))
    past, truth = (standard(stories, statistics) for stories in (known, unknown))
    said = [sentence_features(stories) for stories in (known, unknown)]

    ridge = Ridge(said[0], past)
    rivals: dict[str, Predict] = {
        "mean": lambda shown: np.zeros_like(truth),
        "copy": lambda shown: previous(truth) if shown else np.zeros_like(truth),
        "ridge": lambda shown: ridge.predict(said[1], truth if shown else None),
    }
    rows = {name: [scores(rival, by_cosine(rival, truth), truth)] for name, rival in rivals.items()}
    rows["director"] = []
    seeds = 1 if recipe.director.kind == "closed" else arguments.seeds
    for seed in range(seeds):
        director = fit(recipe, known, statistics, seed)
        predict = partial(predictions, director, unknown)
        if isinstance(director, ClosedFormDirector):
            rank: Rank = partial(rankings, director, unknown, truth)
        else:
            rank = by_cosine(predict, truth)
        rows["director"].append(scores(predict, rank, truth))
    print(f"{machine()}\n\n{len(known)} videos for training, {len(unknown)} for test, "
          f"director {recipe.director.kind}, {seeds} seeds, state {encoder.name}, "
          f"ridge: penalty {ridge.penalty:g}, sentences of length {ridge.scale:g}; "
          f"in brackets standard errors over videos\n")  # fmt: skip
    report(rows, videos=len(truth))


def parsed() -> argparse.Namespace:
    """Return the command's arguments."""
    parser = parser_of("director", __doc__)
    parser.add_argument("--train", type=Path, required=True, metavar="FRAMES_JSON")
    parser.add_argument("--test", type=Path, required=True, metavar="FRAMES_JSON")
    parser.add_argument("--state", choices=sorted(STATES), default="colour")
    parser.add_argument("--recipe", default="director-closed", metavar="FILE_OR_NAME")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=value")
    parser.add_argument("--seeds", type=int, default=3, help="a director in closed form needs one")
    parser.add_argument(
        "--fold", type=int, metavar="N",
        help="do not touch the test: hold out part N of the training videos in its place",
    )  # fmt: skip
    return parser.parse_args()


def report(rows: Mapping[str, Sequence[dict[str, Array]]], *, videos: int) -> None:
    """Print the table, then the JSON object."""

    def cell(name: str, figure: str) -> str:
        values = rows[name][0][figure]
        by_video = values.reshape(videos, -1).mean(1)
        error = "" if "rank" in figure else f" ({by_video.std(ddof=1) / videos**0.5:.3f})"
        return f"{fmean(middle(figure, found[figure]) for found in rows[name]):.3f}{error}"

    names = [*FIGURES, *(f"{figure}{LEFT_IN}" for figure in RETRIEVAL)]
    print(markdown(["figure", *rows], [[name, *(cell(row, name) for row in rows)] for name in names]))
    print(json.dumps({
        figure + suffix: fmean(middle(figure, found[figure]) for found in rows[name])
        for name, suffix in (("director", ""), ("copy", "_copy"), ("ridge", "_ridge"), ("mean", "_mean"))
        for figure in FIGURES
    }))  # fmt: skip


def middle(figure: str, values: Array) -> float:
    """Return the mean of a figure's values; of ranks the median."""
    return float(np.median(values) if "rank" in figure else np.mean(values))


def split(train_file: Path, test_file: Path, fold: int | None) -> tuple[list[Any], list[Any]]:
    """Videos for training and for test, each with the folder that its images are in."""
    videos = {file: json.loads(file.read_text(encoding="utf-8")) for file in {train_file, test_file}}
    for file, found in videos.items():
        for video in found:
            video["folder"] = file.parent
    if train_file.samefile(test_file):
        ordered = sorted(videos[train_file], key=lambda video: _digest(video["video_id"]))
        count = round(TEST_SHARE * len(ordered))
        known, unknown = ordered[count:], ordered[:count]
    else:
        known, unknown = videos[train_file], videos[test_file]
    if fold is None:
        return known, unknown
    return [v for place, v in enumerate(known) if place % FOLDS != fold], known[fold::FOLDS]


def read(videos: Sequence[Any], encode: Callable[[NDArray[np.uint8]], torch.Tensor]) -> list[Story]:
    """Videos as stories with raw states; a sentence is an action."""
    stories = []
    for video in videos:
        pictures = [picture(video["folder"] / step["image"]) for step in video["steps"]]
        states = torch.cat([encode(each[None]) for each in pictures])
        steps = tuple(
            Step(action=step["text"], caption="", state=state)
            for step, state in zip(video["steps"], states, strict=True)
        )
        stories.append(Story(goal="", steps=steps))
    return stories


def picture(path: Path) -> NDArray[np.uint8]:
    """RGB ``[h, w, 3]``."""
    return np.asarray(Image.open(path, formats=("JPEG", "PNG")).convert("RGB"))


def fit(recipe: Recipe, stories: Sequence[Story], statistics: Statistics, seed: int) -> AnyDirector:
    """Return a director trained by the function that ``videoauteur train`` uses."""
    options = recipe.director.train.model_copy(update={"seed": seed})
    torch.manual_seed(seed)
    director = cast(AnyDirector, new_learner("director", recipe, statistics))
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {
                "video_id": str(place),
                "goal": story.goal,
                "actions": [step.action for step in story.steps],
                "captions": [step.caption for step in story.steps],
                "tensors": save({"states": raw(story)}),
            }
            for place, story in enumerate(stories)
        ]
        director.prepare(rows, {})
        if isinstance(director, ClosedFormDirector):
            return director
        pq.write_table(pa.Table.from_pylist(rows), f"{folder}/part-all.parquet", row_group_size=32)

        def batches(rank: int, world: int) -> ShardBatches:
            return ShardBatches(
                Path(folder),
                batch_size=options.batch_size,
                lanes=options.lanes,
                seed=seed,
                rank=rank,
                world=world,
            )

        train(director, batches, options, Path(folder) / "run")
    return director.eval()


def predictions(director: AnyDirector, stories: Sequence[Story], shown: bool) -> Array:
    """Return the director's states, see :data:`Predict`."""
    found = director.predict(stories, history="true" if shown else "own")
    return torch.stack(found).flatten(2).numpy()


def rankings(director: ClosedFormDirector, stories: Sequence[Story], truth: Array, shown: bool) -> Array:
    """Return the scores that the director gives to all test frames, see :data:`Rank`."""
    frames = torch.from_numpy(truth).flatten(0, 1)
    found = director.rank(stories, frames, history="true" if shown else "own")
    return torch.stack(found).numpy()


def by_cosine(predict: Predict, truth: Array) -> Rank:
    """Return the ranking of all test frames by cosine with the predicted states."""
    frames = truth.reshape(-1, truth.shape[-1])
    return lambda shown: cosines(predict(shown), frames)


class Ridge:
    """Linear least squares with a penalty on the squared weights, from sentence and previous state.

    Penalty and length of the sentence features are those of the least error in cross-validation.

    Args:
        said: sentence features ``[videos, steps, m]``.
        states: ``[videos, steps, width]``, standardised.
    """

    def __init__(self, said: Array, states: Array) -> None:
        folds = np.arange(len(states)) % FOLDS
        errors: dict[tuple[float, float], float] = {}
        for self.scale in SCALES:
            by_fold = [self._errors(said, states, folds == fold) for fold in range(FOLDS)]
            for penalty, of_folds in zip(PENALTIES, zip(*by_fold, strict=True), strict=True):
                errors[penalty, self.scale] = fmean(of_folds)
        self.penalty, self.scale = min(errors, key=lambda choice: errors[choice])
        inputs, outputs = self._centred(said, states)
        # Solved in the smaller of both forms, that of the samples.
        likeness = inputs @ inputs.T + self.penalty * np.eye(len(inputs), dtype=inputs.dtype)
        self._weights = inputs.T @ np.linalg.solve(likeness, outputs)

    def _errors(self, said: Array, states: Array, held_out: NDArray[np.bool_]) -> list[float]:
        """Return the squared error of held-out stories with each penalty; one decomposition serves all."""
        inputs, outputs = self._centred(said[~held_out], states[~held_out])
        values, axes = np.linalg.eigh(inputs @ inputs.T)
        before = previous(states[held_out])
        likeness = (self._inputs(said[held_out], before)[:, 1:] - self._centre) @ inputs.T @ axes
        missed = states[held_out][:, 1:] - self._mean
        along = axes.T @ outputs
        return [
            float(np.square((likeness / (values + penalty)) @ along - missed).mean())
            for penalty in PENALTIES
        ]

    def _centred(self, said: Array, states: Array) -> tuple[Array, Array]:
        """Return inputs and outputs ``[samples, ...]`` less their means, which the penalty leaves alone."""
        inputs = self._inputs(said, previous(states))
        inputs, outputs = inputs.reshape(-1, inputs.shape[-1]), states.reshape(-1, states.shape[-1])
        self._centre, self._mean = inputs.mean(axis=0), outputs.mean(axis=0)
        return inputs - self._centre, outputs - self._mean

    def predict(self, said: Array, states: Array | None) -> Array:
        """States ``[videos, steps, width]``; without true ones, from its own predictions before."""
        if states is not None:
            return self._apply(said, previous(states))
        found = [np.zeros((len(said), self._weights.shape[-1]))]
        for step in range(said.shape[1]):
            found.append(self._apply(said[:, step], found[-1]))
        return np.stack(found[1:], axis=1)

    def _apply(self, said: Array, before: Array) -> Array:
        centred = self._inputs(said, before) - self._centre
        return np.asarray(centred @ self._weights + self._mean)

    def _inputs(self, said: Array, before: Array) -> Array:
        return np.concatenate([self.scale * said, before], axis=-1)


def scores(predict: Predict, rank: Rank, truth: Array) -> dict[str, Array]:
    """Return a number for each prediction ``[videos * (steps - 1)]``; of the assignment ``[videos]``.

    Args:
        predict: states, for cosine and squared error.
        rank: scores of the test frames.
    """
    videos, steps, width = truth.shape
    found = predict(True)[:, 1:].reshape(-1, width)
    wanted = truth[:, 1:].reshape(-1, width)
    own = np.arange(videos)
    texts_alone = rank(False).reshape(videos, steps, videos, steps)[own, :, own]
    made: dict[str, Array] = {
        "cosine": cosine(found, wanted),
        "mse": mse(found, wanted),
        "assignment_exact": assignment_exact(texts_alone),
    }
    ranked = rank(True)
    shown = np.tri(steps, k=-1, dtype=bool)
    hidden = ranked.reshape(videos, steps, videos, steps).copy()
    hidden[own, :, own] = np.where(shown, -np.inf, hidden[own, :, own])
    target = np.arange(videos * steps).reshape(videos, steps)[:, 1:].ravel()
    for suffix, values in (("", hidden), (LEFT_IN, ranked)):
        similarity = values.reshape(videos, steps, -1)[:, 1:].reshape(len(target), -1)
        for name, figure in RETRIEVAL.items():
            made[f"{name}{suffix}"] = figure(similarity, target)
    return made


def sentence_features(stories: Sequence[Story]) -> Array:
    """Those of the rival: MiniLM's mean of tokens, of unit length, ``[videos, steps, 384]``."""
    encoder = load_sentences("minilm")
    found = [encoder.encode([step.action for step in story.steps]) for story in stories]
    return np.asarray(torch.stack(found) / encoder.width**0.5, np.float32)


def standard(stories: Sequence[Story], statistics: Statistics) -> Array:
    """Standardised states ``[videos, steps, width]``; all stories are of the same length."""
    return np.stack([statistics.standardise(raw(story)).flatten(1).numpy() for story in stories])


def raw(story: Story) -> torch.Tensor:
    """States ``[steps, tokens, width]``."""
    return torch.stack([step.state for step in story.steps if step.state is not None])


def previous(states: Array) -> Array:
    """The state before each, ``[videos, steps, width]``; before the first one, the mean."""
    return np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], axis=1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
