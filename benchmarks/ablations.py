"""The paper's ablations of the director, on a twin and real key frames.

``python -m benchmarks.ablations FRAMES_JSON``: format and split of the file as in ``benchmarks.director``,
whose tasks these are; all twins get the same steps. Of each variant: cosine of the next state, recall of
the true frame among the test's (those already shown left out) and the order of a video's frames, with
95 % intervals over videos, the seeds of a video drawn together.

Captions are made for this from the true frame: the five likeliest ImageNet classes. So they tell what is
seen, as a captioner would, and are nearer to the state than any captioner's: a caption is worth more here
than in the paper. Latents in the manner of a VAE are the principal components of 32 x 32 pixel pictures,
the best linear ones; no weights of a VAE come as a package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.commands import parser_of
from benchmarks.director import by_cosine, fit, picture, predictions, raw, read, scores, split, standard
from benchmarks.machine import machine, markdown
from generation.config import Recipe
from generation.core.states import Statistics
from generation.core.story import Story
from generation.encoders.factory import load_encoder
from generation.encoders.pictures import square
from models.image_tags import ImageTagger
from pipeline.evaluation.intervals import bootstrap
from pipeline.platform.config import load

TAGS = 5
PIXELS = 32
COMPONENTS = 256
BASE = [
    "director.backbone.width=128", "director.backbone.layers=2", "director.backbone.heads=2",
    "director.sentences=minilm", "director.text_weight=0", "director.tokens_in=1", "director.tokens_out=1",
    "director.dropout=0.3", "director.min_context=3", "director.train.batch_size=16",
    "director.train.weight_decay=1.0", "director.train.trackers=[]",
]  # fmt: skip
VARIANTS: dict[str, dict[str, list[str]]] = {
    "loss": {
        "squared error": ["director.alpha=0"],
        "cosine": ["director.beta=0"],
        "both": [],
    },
    "task": {
        "action, state": ["director.chain=[action]"],
        "caption, state": ["director.chain=[caption]"],
        "action, caption, state": [],
    },
    "state": {"pooled features": [], "linear latent": ["state.width=256"]},
    "regressed": {"every step": [], "last step": ["director.regress=last"]},
    "head": {"regression": [], "flow": ["director.head=flow"]},
}
EXPECTED = {"loss": "both", "task": "action, caption, state", "state": "pooled features"}
SHOWN = ("cosine", "recall_at_1", "recall_at_5", "assignment_exact")


def main() -> None:
    """Train all variants with all seeds, print a table for each question, then one JSON object."""
    parser = parser_of("ablations", __doc__)
    parser.add_argument("frames", type=Path, metavar="FRAMES_JSON")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    known, unknown = split(arguments.frames, arguments.frames, None)
    tagger = ImageTagger(threads=torch.get_num_threads())
    encode = load_encoder(Recipe().state).encode
    stories = [
        [captioned(story, video, tagger) for story, video in zip(read(videos, encode), videos, strict=True)]
        for videos in (known, unknown)
    ]
    linear = linear_latents(known, unknown, stories)
    print(f"{machine()}\n\n{len(known)} videos for training, {len(unknown)} for test, "
          f"{arguments.steps} steps of 16 stories, {arguments.seeds} seeds")  # fmt: skip
    told: dict[str, dict[str, dict[str, float]]] = {}
    trained: dict[tuple[str, ...], dict[str, NDArray[np.floating]]] = {}
    for question, variants in VARIANTS.items():
        rows = []
        for name, settings in variants.items():
            key = tuple(settings)
            if key not in trained:
                steps = [
                    f"director.train.steps={arguments.steps}",
                    f"director.train.checkpoint_every={10**6}",
                ]
                recipe = load(None, [*BASE, *steps, *settings], Recipe).config
                material = linear if recipe.state.width == COMPONENTS else stories
                trained[key] = trial(recipe, *material, seeds=arguments.seeds)
            found = trained[key]
            estimates = {
                figure: bootstrap(found[figure].ravel(), groups_of(found[figure], len(unknown)))
                for figure in SHOWN
            }
            rows.append([name, *map(str, estimates.values())])
            told.setdefault(question, {})[name] = {figure: each.mean for figure, each in estimates.items()}
        print(f"\n{markdown([question, *SHOWN], rows)}", flush=True)
        if question in EXPECTED:
            best = max(told[question], key=lambda name: told[question][name]["cosine"])
            found_it = "is found" if best == EXPECTED[question] else f"is not found ({best} leads)"
            print(f"\nThe paper's order by cosine, {EXPECTED[question]} first, {found_it} at this size.")
    print(json.dumps(told))


def trial(
    recipe: Recipe, known: Sequence[Story], unknown: Sequence[Story], *, seeds: int
) -> dict[str, NDArray[np.floating]]:
    """Scores ``[seeds, n]`` of one variant."""
    statistics = Statistics.of(state for story in known for state in raw(story))
    truth = standard(unknown, statistics)
    runs = []
    for seed in range(seeds):
        director = fit(recipe, known, statistics, seed)
        predict = partial(predictions, director, unknown)
        runs.append(scores(predict, by_cosine(predict, truth), truth))
    return {figure: np.stack([run[figure] for run in runs]) for figure in SHOWN}


def groups_of(found: NDArray[np.floating], videos: int) -> list[str]:
    """The video of each number of ``[seeds, n]``, flattened."""
    seeds, count = found.shape
    return [str(place // (count // videos)) for _ in range(seeds) for place in range(count)]


def captioned(story: Story, video: Any, tagger: ImageTagger) -> Story:
    """With a caption for each step, from its frame."""
    steps = []
    for step, told in zip(story.steps, video["steps"], strict=True):
        image = picture(video["folder"] / told["image"])
        names = [name for name, _ in tagger.tag([np.ascontiguousarray(image[..., ::-1])], top=TAGS)]
        steps.append(replace(step, caption=", ".join(names)))
    return replace(story, steps=tuple(steps))


def linear_latents(
    known: Sequence[Any], unknown: Sequence[Any], stories: Sequence[Sequence[Story]]
) -> list[list[Story]]:
    """The same stories with principal components of small pictures as states."""
    pixels = []
    for videos in (known, unknown):
        images = [picture(video["folder"] / step["image"]) for video in videos for step in video["steps"]]
        small = np.concatenate([square(image[None], PIXELS) for image in images])
        pixels.append(torch.as_tensor(small).flatten(1).float() / 255)
    centre = pixels[0].mean(0)
    axes = torch.linalg.svd(pixels[0] - centre, full_matrices=False).Vh[:COMPONENTS]
    made = []
    for old, values in zip(stories, pixels, strict=True):
        latents = iter((values - centre) @ axes.T)
        made.append([
            replace(story, steps=tuple(replace(step, state=next(latents)[None]) for step in story.steps))
            for story in old
        ])  # fmt: skip
    return made


if __name__ == "__main__":
    main()
