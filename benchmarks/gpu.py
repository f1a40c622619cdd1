"""Training and sampling at real size with random weights, so that nothing has to be downloaded.

``python -m benchmarks.gpu``: Qwen3 0.6B by the recipe director-qwen3-0.6b and Wan 2.1 T2V 1.3B by
generator-wan2.1-1.3b-lora, each built from its published configuration, saved, and loaded as a user's
weights are. Each is trained on made-up rows by ``generation.training.loop.train`` and by a bare loop over
the same module, batch, optimiser and precision; seconds a step are medians. Peak memory is compared with
what the recipe says. A clip is sampled with guidance. Text encoder and state encoder are not loaded: their
outputs are rows. ``--tiny`` takes the same path with small sizes on a processor.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save
from transformers import AutoModelForCausalLM, ByT5Tokenizer, Qwen3Config, UMT5Config

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from benchmarks.training import step_seconds
from generation.config import RECIPES, Recipe, Train
from generation.core.learner import Learner, Row
from generation.core.states import Statistics
from generation.director.recalling import new_director
from generation.generator.model import GeneratorModel
from generation.training.loop import row_seed
from pipeline.platform.config import load

SKIPPED = 1
"""First steps of a run, which allocate memory and choose kernels."""
ACTION, CAPTION, STEPS = "chop the onion into very small pieces", "a" * 110, 8
"""Byte tokens, as many as the recipe's calculation has words."""
QWEN3: dict[str, Any] = {
    "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
}  # fmt: skip
WAN = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
TINY_QWEN3: dict[str, Any] = QWEN3 | {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
TINY_WAN = {
    "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2, "text_dim": 16,
    "freq_dim": 16,
}  # fmt: skip
TINY = [
    "state.width=8", "director.tokens_in=4", "director.tokens_out=4", "generator.frames=5",
    "generator.height_px=32", "generator.width_px=32", "generator.text.max_tokens=8",
    "generator.transformer.lora.rank=2",
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, then one JSON object."""
    parser = parser_of("gpu", __doc__)
    parser.add_argument("--steps", type=int, default=6, help="of a training run")
    parser.add_argument("--sample-steps", type=int, default=10, help="of a sampled clip")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a machine without a GPU")
    parsed = parser.parse_args(arguments)
    if not parsed.tiny and not torch.cuda.is_available():
        parser.error("no GPU is visible: real sizes need one; --tiny runs on a processor")
    found: dict[str, float | None] = {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, make in (("director", director), ("generator", generator)):
            figures = measured(kind, make(Path(folder), parsed.tiny), parsed.steps, parsed.sample_steps)
            found |= {f"{kind}_{name}": value for name, value in figures.items()}
            rows.append([kind, *("-" if value is None else value for value in figures.values())])
            head = ["model", *figures]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{machine()}, {device}; {'tiny' if parsed.tiny else 'real'} sizes, {parsed.steps} steps\n")
    print(markdown(head, rows))
    print(json.dumps(found))


Case = tuple[Recipe, Learner, list[Row], float | None, int]
"""Recipe of one micro-batch, model, its rows, the recipe's GB, and units (tokens or clips) of a step."""


def measured(kind: str, case: Case, steps: int, sample_steps: int) -> dict[str, float | None]:
    """Measure one model; ``speed`` is the share of the bare loop's."""
    recipe, learner, rows, stated_gb, units = case
    options: Train = getattr(recipe, kind).train.model_copy(update={"steps": steps})
    with tempfile.TemporaryDirectory() as folder:
        _reset_peak()
        train_s = median(step_seconds(learner, rows, options, Path(folder))[SKIPPED:])
        peak_gb = _peak_gb()
    learner.to("cuda" if torch.cuda.is_available() else "cpu")
    bare_s = median(by_bare_loop(learner, rows, options, steps)[SKIPPED:])
    sample_s = None
    if isinstance(learner, GeneratorModel):
        sample_s = sampled(learner, rows, sample_steps)
    return {
        "step_s": train_s, "bare_step_s": bare_s, "speed": bare_s / train_s, "peak_gb": peak_gb,
        "recipe_gb": stated_gb, "units_per_s": units / train_s, "sample_s": sample_s,
    }  # fmt: skip


def director(folder: Path, tiny: bool) -> Case:
    """Qwen3 0.6B and stories of eight steps; units are tokens."""
    weights = folder / "qwen3"
    settings = Qwen3Config(**(TINY_QWEN3 if tiny else QWEN3))
    model: Any = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(weights)
    ByT5Tokenizer(extra_ids=0).save_pretrained(weights)
    recipe, stated = _recipe("director-qwen3-0.6b", "director", [f"director.backbone.path={weights}"], tiny)
    state = recipe.state
    rows: list[Row] = [
        {
            "video_id": str(number), "goal": f"How to make dish {number}?",
            "actions": [f"{ACTION} {step}" for step in range(STEPS)], "captions": [CAPTION] * STEPS,
            "tensors": save({"states": torch.randn(STEPS, state.tokens, state.width)}),
        }
        for number in range(recipe.director.train.batch_size)
    ]  # fmt: skip
    learner = new_director(recipe.director, state, _statistics(recipe))
    batch = learner.collate(rows, [row_seed(0, place) for place in range(len(rows))])
    return recipe, learner, rows, stated, int((batch["kinds"] > 0).sum())


def generator(folder: Path, tiny: bool) -> Case:
    """Wan 1.3B and clips of noise; units are clips."""
    weights = folder / "wan"
    with torch.device("cpu"):
        transformer = WanTransformer3DModel(**(TINY_WAN if tiny else WAN))
    transformer.to(torch.bfloat16).save_pretrained(weights / "transformer")
    small = {"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    AutoencoderKLWan(**(small if tiny else {})).save_pretrained(weights / "vae")
    # Only the width is read; the tokens are rows.
    UMT5Config(d_model=16 if tiny else 4096).save_pretrained(weights / "text_encoder")
    settings = [
        f"generator.transformer.path={weights / 'transformer'}", f"generator.codec.path={weights / 'vae'}",
        f"generator.text.path={weights / 'text_encoder'}",
    ]  # fmt: skip
    recipe, stated = _recipe("generator-wan2.1-1.3b-lora", "generator", settings, tiny)
    learner = GeneratorModel(recipe.generator, recipe.state, _statistics(recipe))
    tokens = torch.randn(recipe.generator.text.max_tokens, learner.text.width)
    learner.prepare((), {"null_text": tokens[:1], "unknown": torch.zeros(learner.latent_shape)})
    rows: list[Row] = [
        {
            "clip_id": str(number), "caption": "",
            "tensors": save({
                "state": torch.randn(recipe.state.tokens, recipe.state.width),
                "latents": torch.randn(learner.latent_shape), "text": tokens,
            }),
        }
        for number in range(recipe.generator.train.batch_size)
    ]  # fmt: skip
    return recipe, learner, rows, stated, len(rows)


def by_bare_loop(learner: Learner, rows: list[Row], options: Train, steps: int) -> list[float]:
    """Return seconds of each step of batch, loss, gradient, clipping and update, and nothing else."""
    device = next(learner.parameters()).device
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=options.betas, fused=True)
    half = torch.autocast(device.type, torch.bfloat16) if options.precision == "bf16" else nullcontext()
    seconds = []
    learner.train()
    for step in range(steps):
        start = time.perf_counter()
        made = learner.collate(rows, [row_seed(options.seed, step, place) for place in range(len(rows))])
        with half:
            loss = learner({name: tensor.to(device) for name, tensor in made.items()})["loss"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, options.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - start)
    return seconds


def sampled(learner: GeneratorModel, rows: list[Row], steps: int) -> float:
    """Return the seconds that one clip's latents take, with guidance."""
    batch = learner.collate(rows[:1], [0])
    device = learner.null_text.device
    given = [batch[name].to(device) for name in ("text", "text_mask", "state")]

    def sample() -> None:
        made = learner.sample_latents(given[0], given[1], given[2], None, seeds=[0], steps=steps)
        made.sum().item()

    return _seconds(sample)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _recipe(name: str, kind: str, settings: list[str], tiny: bool) -> tuple[Recipe, float | None]:
    """Return a shipped recipe of one micro-batch, and the memory that it states."""
    file = RECIPES / f"{name}.yaml"
    options: Train = getattr(load(file, [], Recipe).config, kind).train
    size = options.batch_size // (options.lanes * options.accumulate)
    one = {
        "batch_size": size, "lanes": 1, "accumulate": 1, "processes": 1, "preview_every": 0,
        "checkpoint_every": 10**6, "keep_checkpoints": 1, "loader_workers": 0, "trackers": "[]",
    }  # fmt: skip
    settings = [*settings, *(f"{kind}.train.{key}={value}" for key, value in one.items())]
    recipe = load(file, [*settings, *(TINY if tiny else [])], Recipe).config
    stated = re.search(r"Together\s+(?:#\s+)?about\s+(?:#\s+)?([\d.]+)", file.read_text(encoding="utf-8"))
    return recipe, None if stated is None or tiny else float(stated.group(1))


def _statistics(recipe: Recipe) -> Statistics:
    shape = (recipe.state.tokens, recipe.state.width)
    return Statistics(torch.zeros(shape), torch.ones(shape))


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_gb() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None


if __name__ == "__main__":
    main()
