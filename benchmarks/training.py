"""Cost of the training function over a bare loop, and of planning by the number of steps.

``python -m benchmarks.training``: director and generator twins on made-up stories, each trained in turn by
``generation.training.loop.train`` and by a loop over the same module, batches and optimiser with nothing
around it, several times; seconds a step are medians. Then the director plans ever longer stories: with a
cache a step costs its own tokens and a look at those before.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from generation.config import Recipe, Train
from generation.core.learner import Learner, Row
from generation.core.states import Statistics
from generation.director.model import DirectorModel
from generation.director.recalling import new_director
from generation.encoders.codecs import load_codec
from generation.generator.model import GeneratorModel
from generation.training.loop import row_seed, train
from pipeline.platform.config import load

SKIPPED = 2
"""First steps of a run, which warm caches up."""


def main() -> None:
    """Print two tables, then one JSON object."""
    parser = parser_of("training", __doc__)
    parser.add_argument("--steps", type=int, default=10, help="of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=int, default=16, help="story to plan, a power of two")
    arguments = parser.parse_args()
    settings = ["director.train.batch_size=4", "generator.train.batch_size=4"]
    recipe = load(None, settings, Recipe).config
    told: dict[str, float] = {}
    print(f"{machine()}\n\n{arguments.rounds} runs of {arguments.steps} steps of 4 rows, in turn\n")
    rows = []
    for name, make in (("director", director), ("generator", generator)):
        seconds: dict[str, list[float]] = {"bare": [], "train": []}
        for _ in range(arguments.rounds):
            seconds["bare"] += bare(recipe, name, make, arguments.steps)
            seconds["train"] += full(recipe, name, make, arguments.steps)
        bare_s, train_s = median(seconds["bare"]), median(seconds["train"])
        told[f"{name}_speed"] = bare_s / train_s
        rows.append([name, bare_s, train_s, bare_s / train_s])
    print(markdown(["model", "bare loop, s a step", "train, s a step", "speed of the bare loop's"], rows))

    print("\nplanning, two texts of 12 tokens a step\n")
    planned = growth(arguments.longest)
    print(markdown(["steps", "s", "s a step"], [[n, s, s / n] for n, s in planned.items()]))
    longest = max(planned)
    told["planning_growth"] = planned[longest] / planned[longest // 2]
    print(json.dumps(told))


def director(recipe: Recipe) -> tuple[Learner, list[Row]]:
    """The twin and stories of six steps."""
    rows: list[Row] = [
        {
            "video_id": str(number),
            "goal": f"How to make dish {number}?",
            "actions": [f"Stir the sauce for {step} minutes." for step in range(6)],
            "captions": [f"A pot with sauce on a stove, seen from side {step}." for step in range(6)],
            "tensors": save({"states": torch.randn(6, 1, 1280)}),
        }
        for number in range(4)
    ]
    return new_director(recipe.director, recipe.state, statistics()), rows


def generator(recipe: Recipe) -> tuple[Learner, list[Row]]:
    """The twin and clips of noise."""
    learner = GeneratorModel(recipe.generator, recipe.state, statistics())
    text = recipe.generator.text.max_tokens
    size = recipe.state.picture_px
    rows: list[Row] = [
        {
            "clip_id": str(number), "video_id": str(number), "step_index": 0,
            "action": "Stir.", "caption": "",
            "tensors": save({
                "state": torch.randn(1, 1280),
                "keyframe": torch.zeros(size, size, 3, dtype=torch.uint8),
                "latents": torch.randn(load_codec(recipe.generator.codec).latent_shape(recipe.generator)),
                "text": torch.randn(text, 384),
                "text_mask": torch.ones(text, dtype=torch.bool),
            }),
        }
        for number in range(4)
    ]  # fmt: skip
    return learner, rows


def statistics() -> Statistics:
    """Of states that are standardised already."""
    return Statistics(torch.zeros(1, 1280), torch.ones(1, 1280))


Make = Callable[[Recipe], tuple[Learner, list[Row]]]


def full(recipe: Recipe, name: str, make: Make, steps: int) -> list[float]:
    """Return the seconds of each step of the training function, log and tracker included."""
    torch.manual_seed(0)
    learner, rows = make(recipe)
    changed = {"steps": steps, "checkpoint_every": 10**6}
    options = getattr(recipe, name).train.model_copy(update=changed)
    with tempfile.TemporaryDirectory() as folder:
        return step_seconds(learner, rows, options, Path(folder))[SKIPPED:]


def step_seconds(learner: Learner, rows: list[Row], options: Train, folder: Path) -> list[float]:
    """Return the seconds of each step of the training function on the same rows."""
    lines: list[dict[str, float]] = []

    class Same:
        def __init__(self) -> None:
            self.places = list(range(len(rows)))

        def __getitem__(self, step: int) -> list[dict[str, Any]]:
            return [dict(row) for row in rows]

    train(learner, lambda rank, world: Same(), options, folder, report=lines.append)
    return [line["seconds"] for line in lines]


def bare(recipe: Recipe, name: str, make: Make, steps: int) -> list[float]:
    """Seconds of each step of batch, loss, gradient, clipping and update, and nothing else."""
    torch.manual_seed(0)
    learner, rows = make(recipe)
    options = getattr(recipe, name).train
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=options.betas, fused=True)
    seconds = []
    for step in range(steps):
        start = time.perf_counter()
        batch = learner.collate(rows, [row_seed(options.seed, step, place) for place in range(len(rows))])
        learner(batch)["loss"].mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, options.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds[SKIPPED:]


def growth(longest: int) -> dict[int, float]:
    """Seconds to plan stories of 2, 4, ... steps with an untrained twin."""
    settings = [
        f"director.max_context={longest}", "director.sampling.max_action_tokens=12",
        "director.sampling.max_caption_tokens=12", "director.sampling.max_text_overlap=1",
    ]  # fmt: skip
    recipe = load(None, settings, Recipe).config
    torch.manual_seed(0)
    made, _ = director(recipe)
    assert isinstance(made, DirectorModel)
    made.eval()
    seconds, count = {}, 2
    list(made.plan("How to make soup?", steps=2))
    while count <= longest:
        start = time.perf_counter()
        assert len(list(made.plan("How to make soup?", steps=count))) == count
        seconds[count] = time.perf_counter() - start
        count *= 2
    return seconds


if __name__ == "__main__":
    main()
