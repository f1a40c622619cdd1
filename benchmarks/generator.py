"""What a generator should be told of the picture: a key frame, a state, or a state made robust.

``python -m benchmarks.generator --clips FOLDER``; the folder holds a folder a story, with ``1.mp4``,
``2.mp4`` ... and ``actions.yaml`` and ``captions.yaml``, texts by number. Or ``--dataset OUTPUT`` of
``videoauteur curate``; both may be given, and datasets repeated.

The generator's twin is trained on all clips, once for each condition and seed; a condition adds one part
of the regulariser to the one before, as in the paper. Then every clip is made again from its caption and
its *predicted* state. States are predicted by ridge regression from sentences (MiniLM) over the other
stories, or, where there are fewer than five, over all clips but the one (of two recipes nothing about a
third can be learned). The generator has seen the clips themselves with their captions and true states, so
this is no test of new pictures. There is no decoder of states here: the key-frame
condition gets the middle picture of the clip, among all, whose true state is nearest to the predicted one.

Figures, over all seeds; "of the clip" means the mean over frames of the network's features of the real clip
at the generator's own size, standardised over the real clips:

- *Fréchet*: distance of the features of all made and all real clips (not FVD: another network).
- *agreement*: cosine of the made clip's features with those of its real clip.
- *recall*: whether the real clip nearest to a made one is its own (R@1, and R@5).
- *full-size*: cosine of the made clip with the true state, from a picture of 448 pixels. A network shown a
  few dozen pixels sees something else: the first row tells how much the real clips keep.
"""

from __future__ import annotations

import argparse
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
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import load, save
from scipy.stats import t as student

from benchmarks.machine import machine, markdown
from generation.config import Recipe, Regulariser
from generation.core.learner import Row
from generation.core.states import Statistics
from generation.core.story import prompt_of
from generation.data.features import make_features
from generation.data.maker import KEYFRAME_PX, clip_times
from generation.data.narrated import Scene
from generation.data.reading import HELD_OUT, TRAIN, read_rows
from generation.encoders.codecs import load_codec
from generation.encoders.factory import load_encoder
from generation.encoders.sentences import load_sentences
from generation.encoders.text import load_text
from generation.evaluation.frechet import few_samples, frechet_distance
from generation.evaluation.networks import VideoFeatures
from generation.evaluation.states import cosine, recall
from generation.film.footage import duration_of
from generation.generator.model import GeneratorModel
from generation.training.loop import train
from models.media.picking import Wanted, pick
from pipeline.dataset.loader import ShardBatches
from pipeline.evaluation.intervals import Estimate, bootstrap, jackknife
from pipeline.platform.config import load as load_recipe

Array = NDArray[np.floating]
Videos = NDArray[np.uint8]

OFF = Regulariser(noise=0, mask=0, shuffle=0)
CONDITIONS: dict[str, dict[str, Any]] = {
    "caption": {"condition": "caption"},
    "key frame": {"condition": "keyframe"},
    "plain state": {"regulariser": OFF},
    "+ mask": {"regulariser": OFF.model_copy(update={"mask": 0.25})},
    "+ noise": {"regulariser": OFF.model_copy(update={"mask": 0.25, "noise": 0.5})},
    "+ shuffle": {"regulariser": Regulariser()},
}
PAPER = (("plain state", "key frame"), ("key frame", "+ shuffle"), ("plain state", "+ shuffle"))
"""Worse, better."""
PENALTY = 0.1
"""Of the ridge regression, against sentences of length 1."""
FEWEST_STORIES = 5
"""With fewer, clips are what is held out and what intervals are over: two or three blocks tell nothing."""
MINIMUM = 8
CLIPS_AT_ONCE = 9
SHOWN = 12
ZOOM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a condition gave with one seed: features of clips ``[n, d]``, figures of each ``[n]``."""

    features: Array
    values: dict[str, Array]


def main() -> None:
    """Train, sample, print a table and what it says, then one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generator", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--clips", type=Path, metavar="FOLDER")
    parser.add_argument("--dataset", type=Path, action="append", default=[], metavar="OUTPUT")
    parser.add_argument("--steps", type=int, default=300, help="of training, each (default 300)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="DIR", help="for contact-sheet.png")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=value")
    arguments = parser.parse_args()
    if not arguments.clips and not arguments.dataset:
        parser.error("name --clips FOLDER, --dataset OUTPUT, or both")
    settings = [
        "generator.sample_steps=12", f"generator.train.steps={arguments.steps}",
        f"generator.train.checkpoint_every={arguments.steps}", "generator.train.trackers=[]",
        *arguments.settings,
    ]  # fmt: skip
    recipe = load_recipe(None, settings, Recipe).config

    rows = read_clips(arguments.clips, recipe) if arguments.clips else []
    for dataset in arguments.dataset:
        rows += read_dataset(dataset, recipe)
    stories = [str(row["video_id"]) for row in rows]
    if len(rows) < MINIMUM:
        parser.error(f"{len(rows)} clips; a distance between sets needs at least {MINIMUM}")
    owners = stories if len(set(stories)) >= FEWEST_STORIES else [str(row["clip_id"]) for row in rows]
    states = torch.stack([load(row["tensors"])["state"] for row in rows])
    statistics = Statistics.of(states)
    true = statistics.standardise(states).flatten(1).double().numpy()
    predicted = foresee(rows, true, owners)
    near = nearest(predicted, true)

    encoder = load_encoder(recipe.state)
    network = VideoFeatures(encoder)
    codec = load_codec(recipe.generator.codec)
    real = np.concatenate([codec.decode(load(row["tensors"])["latents"][None]) for row in rows])
    scale = Measure(real, network, statistics, true)
    given = statistics.restore(torch.from_numpy(predicted).float().view(states.shape))
    keyframes = np.stack([real[place][recipe.generator.frames // 2] for place in near])

    made: dict[str, list[Made]] = {"real clips": [scale.of(real)]}
    shown: dict[str, Videos] = {"true": real, "key frame told": keyframes[:, None]}
    for name, changes in CONDITIONS.items():
        made[name] = []
        for seed in range(arguments.seeds):
            generator = fit(recipe, changes, rows, statistics, seed)
            videos = sample(generator, rows, given, keyframes, seed=1000 * seed)
            made[name].append(scale.of(videos))
            if seed == 0:
                shown[name] = videos
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        contact_sheet(shown, arguments.out / "contact-sheet.png")

    held = "stories" if owners is stories else "clips"
    told = cosine(predicted, true)
    hits = recall(predicted, true, np.arange(len(true)), k=1)
    print(
        f"{machine()}\n\n{len(rows)} clips of {len(set(stories))} stories, {arguments.steps} steps of "
        f"{recipe.generator.train.batch_size}, {arguments.seeds} seeds; clips of "
        f"{recipe.generator.frames} x {recipe.generator.height_px} x {recipe.generator.width_px}. "
        f"95 % intervals over {held}, of the mean over seeds; in brackets the figures of each seed.\n"
        f"States predicted for each of the {held} from all others: cosine with the true ones "
        f"{bootstrap(told, owners)}, R@1 {fmean(hits):.3f}; the retrieved key frame is of the right clip "
        f"for {sum(place == own for own, place in enumerate(near))} of {len(near)}.\n"
        f"{few_samples(len(rows), len(rows), made['real clips'][0].features.shape[1])}.\n"
    )
    names = list(scale.of(real).values)
    table = [
        [
            condition,
            *(cell(estimate(name, runs, scale, owners), by_seed(name, runs, scale))
              for name in ("frechet", *names)),
        ]
        for condition, runs in made.items()
    ]  # fmt: skip
    print(markdown(["condition", network.distance, *names], table))
    print()
    for sentence in verdicts(made, scale, owners):
        print(sentence)
    print(json.dumps({
        condition: {
            name: {"mean": found.mean, "low": number(found.low), "high": number(found.high),
                   "seeds": by_seed(name, runs, scale)}
            for name in ("frechet", *names)
            for found in [estimate(name, runs, scale, owners)]
        }
        for condition, runs in made.items()
    }))  # fmt: skip


def read_clips(folder: Path, recipe: Recipe) -> list[Row]:
    """A folder a story; rows as :mod:`generation.data.features` writes them."""
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
            scene = Scene(
                clip_id=f"{story.name}-{key}", start_s=0.0, end_s=length,
                action=actions[key], caption=captions[key],
            )  # fmt: skip
            times = clip_times(scene, options.frames, options.fps)
            pictures = dict(
                pick(path, [
                    Wanted([length / 2], KEYFRAME_PX, KEYFRAME_PX),
                    Wanted(times, options.height_px, options.width_px),
                ])
            )  # fmt: skip
            tokens, mask = text.encode([prompt_of(scene.action, scene.caption)])
            rows.append({
                "clip_id": scene.clip_id, "video_id": story.name, "step_index": index,
                "action": scene.action, "caption": scene.caption,
                "tensors": save({
                    "state": encoder.encode(pictures[0])[0].contiguous(),
                    "latents": codec.encode(pictures[1]).contiguous(),
                    "text": tokens[0][mask[0]].contiguous(),
                }),
            })  # fmt: skip
    return rows


def read_dataset(dataset: Path, recipe: Recipe) -> list[Row]:
    """Clips of a curated dataset."""
    with tempfile.TemporaryDirectory() as folder:
        features = make_features(
            "generator", dataset, Path(folder), recipe, runner="local", memo=Path(folder) / "memo"
        )
        return [row for split in (TRAIN, HELD_OUT) for row in read_rows(features, split)]


def foresee(rows: Sequence[Row], true: Array, owners: Sequence[str]) -> Array:
    """Standardised states of each owner's clips, by ridge regression over the clips of the others."""
    prompts = [prompt_of(row["action"], row["caption"]) for row in rows]
    sentences = load_sentences("minilm").encode(prompts).double().numpy()
    sentences = sentences / np.linalg.norm(sentences, axis=1, keepdims=True)
    found = np.zeros_like(true)
    for owner in sorted(set(owners)):
        held = np.array(owners) == owner
        known, mean = sentences[~held], sentences[~held].mean(axis=0)
        offset = true[~held].mean(axis=0)
        inputs = known - mean
        inner = inputs @ inputs.T + PENALTY * np.eye(len(inputs))
        weights = inputs.T @ np.linalg.solve(inner, true[~held] - offset)
        found[held] = (sentences[held] - mean) @ weights + offset
    return found


def nearest(predicted: Array, true: Array) -> list[int]:
    """The clip whose true state is nearest to each prediction, by cosine."""
    lengths = [np.linalg.norm(states, axis=1, keepdims=True) for states in (predicted, true)]
    places: list[int] = ((predicted / lengths[0]) @ (true / lengths[1]).T).argmax(axis=1).tolist()
    return places


def fit(
    recipe: Recipe, changes: dict[str, Any], rows: Sequence[Row], statistics: Statistics, seed: int
) -> GeneratorModel:
    """A generator of this condition, trained on all clips."""
    options = recipe.generator.model_copy(
        update={**changes, "train": recipe.generator.train.model_copy(update={"seed": seed})}
    )
    torch.manual_seed(seed)
    generator = GeneratorModel(options, recipe.state, statistics)
    with tempfile.TemporaryDirectory() as folder:
        table = pa.Table.from_pylist([dict(row) for row in rows])
        pq.write_table(table, f"{folder}/part-all.parquet", row_group_size=4)

        def batches(rank: int, world: int) -> ShardBatches:
            return ShardBatches(
                Path(folder), batch_size=options.train.batch_size, lanes=options.train.lanes, seed=seed,
                rank=rank, world=world,
            )  # fmt: skip

        train(generator, batches, options.train, Path(folder) / "run")
    return generator.eval()


def sample(
    generator: GeneratorModel, rows: Sequence[Row], states: torch.Tensor, keyframes: Videos, *, seed: int
) -> Videos:
    """Every clip made again; clip ``i`` is drawn from ``seed + i`` under every condition."""
    reads_keyframes = generator.options.condition == "keyframe"
    parts = []
    for start in range(0, len(rows), CLIPS_AT_ONCE):
        some = slice(start, start + CLIPS_AT_ONCE)
        prompts = [prompt_of(row["action"], row["caption"]) for row in rows[some]]
        pictures = keyframes[some] if reads_keyframes else None
        parts.append(generator.sample(prompts, states[some], seed=seed + start, keyframes=pictures))
    return np.concatenate(parts)


class Measure:
    """Holds made clips against the real ones.

    Args:
        real: clips ``[n, frames, height, width, 3]``.
        network: of the features.
        statistics: of the true states.
        true: standardised true states ``[n, d]``.
    """

    def __init__(self, real: Videos, network: VideoFeatures, statistics: Statistics, true: Array) -> None:
        self._network, self._statistics, self._true = network, statistics, true
        self.real = network.features(list(real))
        seen = self._seen(self.real)
        self._mean, self._std = seen.mean(axis=0), np.maximum(seen.std(axis=0), Statistics.MIN_STD)
        self._own = (seen - self._mean) / self._std

    def of(self, videos: Videos) -> Made:
        """Figures of each clip."""
        features = self._network.features(list(videos))
        seen = self._seen(features)
        standard = (seen - self._mean) / self._std
        places = np.arange(len(seen))
        full = self._statistics.standardise(torch.from_numpy(seen).view(-1, *self._statistics.mean.shape))
        return Made(
            features=features,
            values={
                "agreement": cosine(standard, self._own),
                "R@1": recall(standard, self._own, places, k=1),
                "R@5": recall(standard, self._own, places, k=5),
                "full-size": cosine(full.flatten(1).numpy(), self._true),
            },
        )

    def distance(self, runs: Sequence[Made], kept: NDArray[np.bool_]) -> float:
        """Mean over the seeds."""
        return fmean(frechet_distance(run.features[kept], self.real[kept]) for run in runs)

    def further(self, runs: Sequence[Made], others: Sequence[Made], kept: NDArray[np.bool_]) -> float:
        """How much further from the real clips some runs are than others."""
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
    """Whether the paper's order is found: by the figures, and beyond chance."""
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
