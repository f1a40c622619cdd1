"""Comparison of conditions for a generator: a key frame, a state, or a state made robust.

``python -m benchmarks.generator --clips FOLDER``; the folder holds a folder a story, with ``1.mp4``,
``2.mp4`` ... and ``actions.yaml`` and ``captions.yaml``, texts by number. Or ``--dataset OUTPUT`` of
``videoauteur curate``; both may be given, and datasets repeated.

Some clips are held out (``--hold-out``); neither generators nor the index of the retrieval modes see them.
The generator's twin is trained on the others, once for each condition and seed; a condition adds one part
of the regulariser to the one before, as in the paper. Then every held-out clip is made from its caption and
its state as ridge regression predicts it from its sentence (MiniLM). The key-frame condition gets the
middle picture of the training clip whose true state is nearest to the predicted one.

Figures, over all seeds; "of the clip" means the mean over frames of the network's features of the real clip
at the generator's own size, standardised over the training clips:

- *Fréchet*: distance of the features of all made and all real clips (not FVD: another network).
- *nearest training clip*: 1 - cosine of the made clip and the nearest training clip; near 0 is a copy.
- *agreement*: cosine of the made clip's features with those of its real clip.
- *recall*: whether the real clip nearest to a made one is its own (R@1, and R@5).
- *full-size*: cosine of the made clip with the true state, from a picture of 448 pixels. A network shown a
  few dozen pixels sees something else: the first row tells how much the real clips keep.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import load, save
from scipy.stats import t as student

from benchmarks.commands import parser_of
from benchmarks.generator_runs import Runs, Trial, Videos
from benchmarks.machine import machine, markdown
from generation.config import Recipe, Regulariser
from generation.core.learner import Row
from generation.core.states import Statistics
from generation.core.story import prompt_of
from generation.data.features import make_features
from generation.data.maker import KEYFRAME_PX, clip_times
from generation.data.reading import HELD_OUT, TRAIN, read_rows
from generation.encoders.codecs import load_codec
from generation.encoders.factory import load_encoder
from generation.encoders.sentences import load_sentences
from generation.encoders.text import load_text
from generation.evaluation.frechet import few_samples, frechet_distance
from generation.evaluation.networks import VideoFeatures
from generation.evaluation.states import cosine, cosines, recall
from generation.film.footage import duration_of
from models.media.picking import Wanted, pick
from pipeline.evaluation.intervals import Estimate, bootstrap, jackknife
from pipeline.platform.config import load as load_recipe
from stages.records import Interval

Array = NDArray[np.floating]

OFF = Regulariser(noise=0, mask=0, shuffle=0)
CONDITIONS: dict[str, dict[str, Any]] = {
    "caption": {"condition": "caption"},
    "key frame": {"condition": "keyframe"},
    "plain state": {"regulariser": OFF},
    "+ mask": {"regulariser": OFF.model_copy(update={"mask": 0.25})},
    "+ noise": {"regulariser": OFF.model_copy(update={"mask": 0.25, "noise": 0.5})},
    "+ shuffle": {"regulariser": Regulariser()},
    "retrieve": {"retrieval": "retrieve"},
    "blend": {"retrieval": "blend"},
    "generate": {"retrieval": "generate"},
}
PAPER = (("plain state", "key frame"), ("key frame", "+ shuffle"), ("plain state", "+ shuffle"))
"""Worse, better."""
PENALTY = 0.1
"""Of the ridge regression, against sentences of length 1."""
MINIMUM = 8
"""Clips for training, at least."""
SHOWN, ZOOM = 12, 2
"""Clips on the contact sheet, at most, and their enlargement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Result of a condition with one seed: features of clips ``[n, d]``, figures of each ``[n]``."""

    features: Array
    values: dict[str, Array]


def main() -> None:
    """Train, sample, print a table and what it says, then one JSON object."""
    arguments = parsed()
    settings = [
        "generator.sample_steps=12", f"generator.train.steps={arguments.steps}",
        f"generator.train.checkpoint_every={arguments.steps}", "generator.train.trackers=[]",
        *arguments.settings,
    ]  # fmt: skip
    recipe = load_recipe(None, settings, Recipe).config
    rows = read_clips(arguments.clips, recipe) if arguments.clips else []
    for dataset in arguments.dataset:
        rows += read_dataset(dataset, recipe)
    trial, measure = prepare(recipe, rows, arguments.hold_out)
    made: dict[str, list[Made]] = {"real clips": [measure.of(trial.real)]}
    made |= {name: [] for name in CONDITIONS}
    shown: dict[str, Videos] = {"true": trial.real, "key frame": trial.keyframes[:, None]}
    runs = Runs(trial, arguments.out)
    for seed in range(arguments.seeds):
        for name, changes in CONDITIONS.items():
            videos = runs.sampled(changes, seed)
            made[name].append(measure.of(videos))
            if seed == 0:
                shown[name] = videos
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        contact_sheet(shown, arguments.out / "contact-sheet.png")
    report(trial, measure, made, steps=arguments.steps, seeds=arguments.seeds)


def parsed() -> argparse.Namespace:
    """Return the command's arguments."""
    parser = parser_of("generator", __doc__)
    parser.add_argument("--clips", type=Path, metavar="FOLDER")
    parser.add_argument("--dataset", type=Path, action="append", default=[], metavar="OUTPUT")
    parser.add_argument("--hold-out", type=int, default=5, metavar="N", help="clips for test (default 5)")
    parser.add_argument("--steps", type=int, default=300, help="of training, each (default 300)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for contact-sheet.png; keeps the clips of finished runs, and a killed command resumes",
    )
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=value")
    arguments = parser.parse_args()
    if not arguments.clips and not arguments.dataset:
        parser.error("name --clips FOLDER, --dataset OUTPUT, or both")
    if arguments.hold_out < 2:
        parser.error("--hold-out: a distance between sets needs at least 2 clips")
    return arguments


def prepare(recipe: Recipe, rows: Sequence[Row], hold_out: int) -> tuple[Trial, Measure]:
    """Hold out the clips whose ids have the smallest sha256; predict their states from the others."""
    ordered = sorted(rows, key=lambda row: hashlib.sha256(str(row["clip_id"]).encode()).hexdigest())
    unknown, known = ordered[:hold_out], ordered[hold_out:]
    if len(known) < MINIMUM:
        raise SystemExit(f"{len(known)} clips for training; at least {MINIMUM} are needed")
    states = torch.stack([load(row["tensors"])["state"] for row in ordered]).float()
    statistics = Statistics.of(states[hold_out:])
    true = statistics.standardise(states).flatten(1).double().numpy()
    predicted = foresee(known, true[hold_out:], unknown)
    near = nearest(predicted, true[hold_out:])
    originals = [np.asarray(row["video"], np.uint8) for row in ordered]
    shown, real = np.stack(originals[hold_out:]), np.stack(originals[:hold_out])
    measure = Measure(real, shown, VideoFeatures(load_encoder(recipe.state)), statistics, true[:hold_out])
    trial = Trial(
        recipe=recipe, known=known, unknown=unknown, statistics=statistics, real=real,
        given=statistics.restore(torch.from_numpy(predicted).float().view(states[:hold_out].shape)),
        keyframes=shown[near][:, recipe.generator.frames // 2],
    )  # fmt: skip
    return trial, measure


def report(trial: Trial, measure: Measure, made: dict[str, list[Made]], *, steps: int, seeds: int) -> None:
    """Print the table, the paper's comparisons, and the JSON object."""
    generator, owners = trial.recipe.generator, [str(row["clip_id"]) for row in trial.unknown]
    few = few_samples(len(trial.real), len(trial.real), measure.real.shape[1])
    print(
        f"{machine()}\n\n{len(trial.known)} clips for training, {len(trial.unknown)} held out, "
        f"{steps} steps of {generator.train.batch_size}, {seeds} seeds; clips of "
        f"{generator.frames} x {generator.height_px} x {generator.width_px}. 95 % intervals over held-out "
        f"clips, of the mean over seeds; in brackets the figures of each seed.\n{few}. The retrieval modes "
        f"show training clips or start from them: their figures say how near those are, not what a model "
        f"can make.\n"
    )
    names = ["frechet", *measure.of(trial.real).values]
    found = {
        condition: {name: (estimate(name, runs, measure, owners), by_seed(name, runs, measure))
                    for name in names}
        for condition, runs in made.items()
    }  # fmt: skip
    head = ["condition", "Fréchet", *names[1:]]
    print(markdown(head, [[row, *(cell(*found[row][name]) for name in names)] for row in found]))
    print()
    for sentence in verdicts(made, measure, owners):
        print(sentence)
    print(json.dumps({
        condition: {
            name: {"mean": each.mean, "low": number(each.low), "high": number(each.high), "seeds": seeds_of}
            for name, (each, seeds_of) in figures.items()
        }
        for condition, figures in found.items()
    }))  # fmt: skip


def read_clips(folder: Path, recipe: Recipe) -> list[Row]:
    """Read a folder a story; rows as :mod:`generation.data.features` writes them."""
    options = recipe.generator
    encoder, codec = load_encoder(recipe.state), load_codec(options.codec)
    text = load_text(options.text)
    rows: list[Row] = []
    for story in sorted(path for path in folder.iterdir() if path.is_dir()):
        actions, captions = (
            yaml.safe_load((story / name).read_text(encoding="utf-8"))
            for name in ("actions.yaml", "captions.yaml")
        )
        for index, key in enumerate(sorted(actions, key=int)):
            path = story / f"{key}.mp4"
            length = duration_of(path)
            times = clip_times(Interval(start_s=0.0, end_s=length), options.frames, options.fps)
            pictures = dict(
                pick(path, [
                    Wanted([length / 2], KEYFRAME_PX, KEYFRAME_PX),
                    Wanted(times, options.height_px, options.width_px),
                ])
            )  # fmt: skip
            tokens, mask = text.encode([prompt_of(actions[key], captions[key])])
            rows.append({
                "clip_id": f"{story.name}-{key}", "video_id": story.name, "step_index": index,
                "action": actions[key], "caption": captions[key], "video": pictures[1],
                "tensors": save({
                    "state": encoder.encode(pictures[0])[0].contiguous(),
                    "latents": codec.encode(pictures[1]).contiguous(),
                    "known": codec.encode_beginning(pictures[1][0], options).contiguous(),
                    "text": tokens[0][mask[0]].contiguous(),
                }),
            })  # fmt: skip
    return rows


def read_dataset(dataset: Path, recipe: Recipe) -> list[Row]:
    """Return clips of a curated dataset; ``video`` is what the codec keeps of them (pixels: everything)."""
    codec = load_codec(recipe.generator.codec)
    # Features of the key-frame condition hold those of all others, and the first frames.
    keyframe = recipe.generator.model_copy(update={"condition": "keyframe"})
    made = recipe.model_copy(update={"generator": keyframe})
    with tempfile.TemporaryDirectory() as folder:
        features = make_features(
            "generator", dataset, Path(folder), made, runner="local", memo=Path(folder) / "memo"
        )
        found = [row for split in (TRAIN, HELD_OUT) for row in read_rows(features, split)]
    return [
        {**row, "video": codec.decode(load(row["tensors"])["latents"][None].float())[0]} for row in found
    ]


def foresee(known: Sequence[Row], true: Array, unknown: Sequence[Row]) -> Array:
    """Predict standardised states of clips from their texts, by ridge regression over the known clips."""

    def sentences(rows: Sequence[Row]) -> Array:
        prompts = [prompt_of(row["action"], row["caption"]) for row in rows]
        found = load_sentences("minilm").encode(prompts).double().numpy()
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))

    told = sentences(known)
    mean, offset = told.mean(axis=0), true.mean(axis=0)
    inputs = told - mean
    inner = inputs @ inputs.T + PENALTY * np.eye(len(inputs))
    weights = inputs.T @ np.linalg.solve(inner, true - offset)
    return np.asarray((sentences(unknown) - mean) @ weights + offset)


def nearest(predicted: Array, true: Array) -> list[int]:
    """The clip whose true state is nearest to each prediction, by cosine."""
    lengths = [np.linalg.norm(states, axis=1, keepdims=True) for states in (predicted, true)]
    places: list[int] = ((predicted / lengths[0]) @ (true / lengths[1]).T).argmax(axis=1).tolist()
    return places


def nearest_distance(made: Array, training: Array) -> Array:
    """Return 1 - cosine of each made clip with the training clip nearest to it."""
    lengths = [np.linalg.norm(each, axis=1, keepdims=True) for each in (made, training)]
    return np.asarray(1 - ((made / lengths[0]) @ (training / lengths[1]).T).max(axis=1))


class Measure:
    """Compares made clips with the real ones.

    Args:
        real: test clips ``[n, frames, height, width, 3]``.
        shown: training clips, likewise.
        network: of the features.
        statistics: of the true states.
        true: standardised true states ``[n, d]``.
    """

    def __init__(
        self, real: Videos, shown: Videos, network: VideoFeatures, statistics: Statistics, true: Array
    ) -> None:
        self._network, self._statistics, self._true = network, statistics, true
        self.real = network.features(list(real))
        training, seen = self._seen(network.features(list(shown))), self._seen(self.real)
        self._mean, self._std = training.mean(axis=0), np.maximum(training.std(axis=0), Statistics.MIN_STD)
        self._own = (seen - self._mean) / self._std
        self._training = (training - self._mean) / self._std

    def of(self, videos: Videos) -> Made:
        """Figures of each clip."""
        features = self._network.features(list(videos))
        seen = self._seen(features)
        standard = (seen - self._mean) / self._std
        alike, places = cosines(standard, self._own), np.arange(len(seen))
        full = self._statistics.standardise(torch.from_numpy(seen).view(-1, *self._statistics.mean.shape))
        return Made(
            features=features,
            values={
                "agreement": cosine(standard, self._own),
                "R@1": recall(alike, places, k=1),
                "R@5": recall(alike, places, k=5),
                "nearest training clip": nearest_distance(standard, self._training),
                "full-size": cosine(full.flatten(1).numpy(), self._true),
            },
        )

    def distance(self, runs: Sequence[Made], kept: NDArray[np.bool_]) -> float:
        """Mean over the seeds."""
        return fmean(frechet_distance(run.features[kept], self.real[kept]) for run in runs)

    def further(self, runs: Sequence[Made], others: Sequence[Made], kept: NDArray[np.bool_]) -> float:
        """Return by how much some runs are further from the real clips than others."""
        return self.distance(runs, kept) - self.distance(others, kept)

    @staticmethod
    def _seen(features: Array) -> Array:
        """The half that is the mean over frames."""
        return features[:, : features.shape[1] // 2]


def estimate(name: str, runs: Sequence[Made], scale: Measure, owners: Sequence[str]) -> Estimate:
    """A figure over clips and seeds, with its interval over the owners of the clips."""
    if name == "frechet":
        return jackknife(partial(scale.distance, runs), owners)
    return bootstrap(np.mean([run.values[name] for run in runs], axis=0), owners)


def by_seed(name: str, runs: Sequence[Made], scale: Measure) -> list[float]:
    """A figure of each seed."""
    if name == "frechet":
        whole = np.ones(len(scale.real), bool)
        return [scale.distance([run], whole) for run in runs]
    return [float(run.values[name].mean()) for run in runs]


def verdicts(made: dict[str, list[Made]], scale: Measure, owners: Sequence[str]) -> list[str]:
    """Tell whether the paper's order is found: by the figures, and beyond chance."""
    sentences = []
    for worse, better in PAPER:
        for name, sign in (("frechet", -1), ("agreement", 1), ("R@1", 1)):
            first, second = made[better], made[worse]
            if name == "frechet":
                gap = jackknife(partial(scale.further, first, second), owners)
            else:
                apart = [a.values[name] - b.values[name] for a, b in zip(first, second, strict=True)]
                gap = bootstrap(np.mean(apart, axis=0), owners)
            each = np.subtract(by_seed(name, first, scale), by_seed(name, second, scale)).tolist()
            certain = (gap.low > 0 or gap.high < 0) and (spread(each) < abs(gap.mean))
            found = "found" if sign * gap.mean > 0 else "not found at this size"
            sentences.append(
                f"- {name}, {better} better than {worse}: {found} (difference {gap}; "
                f"{'beyond' if certain else 'within'} the spread of clips and seeds)"
            )
    return sentences


def spread(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of a few seeds; infinite for one."""
    if len(values) < 2:
        return math.inf
    return float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def cell(found: Estimate, seeds: Sequence[float]) -> str:
    """One cell of the table."""
    return f"{found}" if len(seeds) < 2 else f"{found} ({', '.join(f'{value:.3g}' for value in seeds)})"


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def contact_sheet(shown: dict[str, Videos], path: Path) -> None:
    """A line for each condition, the middle frames of clips from all over the set."""
    count = len(shown["true"])
    places = np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int)
    height, width = (side * ZOOM for side in shown["true"].shape[2:4])
    sheet = Image.new("RGB", (100 + width * len(places), height * len(shown)), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (name, videos) in enumerate(shown.items()):
        draw.text((4, line * height + height // 2), name, fill="black")
        for column, place in enumerate(places):
            picture = Image.fromarray(videos[place][videos.shape[1] // 2]).resize((width, height))
            sheet.paste(picture, (100 + column * width, line * height))
    sheet.save(path)


if __name__ == "__main__":
    main()
