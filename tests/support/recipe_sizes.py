"""Memory and cost of the recipes, computed from the published configurations without any memory.

Models are built of fake tensors, which have shapes and no numbers. A training step runs forward and
backward on them; its operations are counted, and the bytes that autograd saves. Layers are alike, so models
of two and of three layers give the figures of all.

``python -m tests.support.recipe_sizes`` writes them into the recipes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from generation import config
from generation.config import Recipe
from generation.encoders.backbones import Language
from generation.encoders.rolling import RollingDecoder
from generation.encoders.siglip_flux import TEXT_TOKENS
from generation.generator.backbone import Condition
from generation.generator.model import GeneratorModel
from tests.support.recipe_weights import (
    CAPTIONERS,
    COMPUTED,
    EYES,
    FILES,
    HALF_BYTES,
    QWEN,
    WAN,
    Codec,
    Weights,
    captioner_backbone,
    captioner_weights,
    count,
    eyes_of,
    language_loader,
    learner_of,
    recipe_of,
    set_data,
    weights_of,
)

PICTURE_TOKENS = {"Qwen2.5-VL-7B": 256, "Qwen3-VL-8B": 196}
"""Of 448 x 448 pixels; each is made of four patches."""
QUESTION_TOKENS = 540
"""Of instructions, facts and answer."""
STORY_STEPS = 8
STORY_TOKENS = {"action": 35, "caption": 110, "heading": 12}
"""Words of a step, by what they say; see docs/log.md."""
H100_FLOPS, SHARE = 989e12, 0.4
"""Dense bfloat16 operations a second, and the part of them that training reaches."""
CAPTION_TOKENS = 512
UNITS = {"director": "story", "generator": "clip", "decoder": "key frame"}
ATTEMPTS = 20


@dataclass(frozen=True)
class Work:
    """A training step of one micro-batch, and one forward pass of one sample.

    Attributes:
        bytes: that autograd saves; with checkpointing, the input of each layer and all of one layer.
        flops: operations of a sample in training.
        forward_flops: operations of a sample without gradients.
    """

    bytes: float
    flops: float
    forward_flops: float


@dataclass(frozen=True)
class Size:
    """Computed memory and cost of a recipe.

    Attributes:
        rows: samples of a micro-batch.
        samples: of the whole run.
        unit: name of a sample.
        forwards: forward passes that sampling one takes.
    """

    weights: Weights
    work: Work
    rows: int
    samples: int
    unit: str
    forwards: int = 0

    def text(self) -> str:
        """Return the recipe's paragraph."""
        hours = self.samples * self.work.flops / (SHARE * H100_FLOPS) / 3600
        made = self.forwards * self.work.forward_flops / (SHARE * H100_FLOPS)
        sentences = [
            f"{self.weights.text()}, activations of {self.rows} at a time {self.work.bytes / 1e9:.1f} GB. "
            f"Together about {(self.weights.gpu_bytes + self.work.bytes) / 1e9:.0f} GB a GPU.",
            f"Training costs {self.work.flops:.1e} FLOP for each {self.unit}; {self.samples:,} take "
            f"{hours:,.0f} GPU hours at {SHARE:.0%} of an H100's {H100_FLOPS / 1e12:.0f} TFLOP/s "
            "(bfloat16).",
        ]
        if made:
            how = ", with and without the condition" if self.unit == "clip" else ""
            sentences.append(f"One {self.unit} made{how}: {made:.0f} s on that GPU.")
        filled = textwrap.fill(" ".join(sentences), 106, break_on_hyphens=False)
        return "".join(f"# {line}\n" for line in filled.splitlines())


def clips_loss(model: GeneratorModel, rows: int) -> torch.Tensor:
    """Return a scalar that depends on the velocity of so many clips."""
    noisy = torch.randn(rows, *model.latent_shape)
    text = torch.randn(rows, CAPTION_TOKENS, model.backbone.text_width)
    state = torch.randn(rows, model.state.tokens, model.state.width)
    images = model.backbone.image_width is not None
    condition = Condition(
        text=text, mask=torch.ones(text.shape[:2], dtype=torch.bool), images=state if images else None,
        states=None if images else model.state_tokens(state), present=torch.ones(rows, dtype=torch.bool),
        known=noisy if images and model.options.condition == "keyframe" else None,
    )  # fmt: skip
    velocity = model.backbone.velocity(noisy, torch.rand(rows), condition, model.unknown)
    return velocity.square().mean()


def story_tokens(options: config.DirectorSettings) -> tuple[int, int]:
    """Return the words of a story that carry loss, and its other tokens."""
    words = STORY_STEPS * (STORY_TOKENS["action"] + STORY_TOKENS["caption"])
    visual = 0 if options.regress == "none" else options.tokens_in + options.tokens_out
    return words, STORY_STEPS * (STORY_TOKENS["heading"] + visual)


def stories_loss(model: Any, rows: int) -> torch.Tensor:
    """Return the text loss of so many stories, whose visual tokens are vectors as all others are."""
    words, others = story_tokens(model.options)
    language = model.language
    vectors = language.embedding(torch.zeros(rows, words + others, dtype=torch.long)).requires_grad_()
    hidden = language.decoder(inputs_embeds=vectors, use_cache=False).last_hidden_state
    logits = language.logits(hidden[:, :words].flatten(0, 1).float())
    return nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


@dataclass(frozen=True)
class Case:
    """A micro-batch of a recipe.

    Attributes:
        build: from a number of layers, and whether these are checkpointed, to a model of fake tensors.
        loss: of a model.
        layers: of the whole model.
        layer_bytes: input of a layer, which checkpointing saves.
        sharded: whether weights are gathered in bfloat16; else autocast makes the products so.
    """

    build: Callable[[int, bool], Any]
    loss: Callable[[Any], torch.Tensor]
    rows: int
    layers: int
    layer_bytes: int
    sharded: bool = False


def work_of(case: Case) -> Work:
    """Return the work of a step, from models of two and of three layers."""
    two, three = (_few_layers(case, count) for count in (2, 3))
    layer, more = three.bytes - two.bytes, case.layers - 2
    return Work(
        bytes=two.bytes - layer + case.layers * case.layer_bytes,
        flops=two.flops + more * (three.flops - two.flops),
        forward_flops=two.forward_flops + more * (three.forward_flops - two.forward_flops),
    )


def _few_layers(case: Case, layers: int) -> Work:
    """Return the work of a model of so few layers; its bytes are those without checkpointing."""
    attention = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    counted, forward = (FlopCounterMode(display=False, custom_mapping=attention) for _ in range(2))
    half = torch.autocast("cpu", torch.bfloat16, enabled=not case.sharded)
    with FakeTensorMode():
        model = _gathered(case.build(layers, True), case.sharded)
        with counted:
            with half:
                loss = case.loss(model)
            loss.backward()  # type: ignore[no-untyped-call]
        with forward, half, torch.no_grad():
            case.loss(model)
        model = _gathered(case.build(layers, False), case.sharded)
        with half:
            saved = saved_bytes(model, lambda: case.loss(model))
    return Work(saved, counted.get_total_flops() / case.rows, forward.get_total_flops() / case.rows)


def _gathered(model: Any, sharded: bool) -> Any:
    whole = model.model if isinstance(model, Language) else model
    for parameter in whole.train().parameters():
        if sharded and parameter.dtype == torch.float32:
            parameter.data = parameter.data.bfloat16()
    return model


def saved_bytes(model: Any, compute: Callable[[], torch.Tensor]) -> int:
    """Return the bytes that autograd saves in a computation, without weights."""
    whole = model.model if isinstance(model, Language) else model
    weights = {parameter.untyped_storage()._cdata for parameter in whole.parameters()}
    found: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            found[storage._cdata] = storage.nbytes()
            # A storage that is freed could lend its number to another.
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept.append(compute())
    return sum(found.values())


def _checkpointed(recipe: Recipe, checkpointing: bool) -> Recipe:
    tree = recipe.model_dump(mode="json")
    tree["generator"]["transformer"]["gradient_checkpointing"] = checkpointing
    tree["director"]["backbone"]["gradient_checkpointing"] = checkpointing
    if tree["decoder"]["rolling"] is not None:
        tree["decoder"]["rolling"]["gradient_checkpointing"] = checkpointing
    return Recipe.model_validate(tree)


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


def captioner_size(options: config.Captioner) -> Size:
    """Return the computed figures of a captioner on one GPU; its eyes need no gradients."""
    name, rows = eyes_of(options), options.batch_size
    pictures, settings = options.frames * PICTURE_TOKENS[name], QWEN[name]
    tokens = pictures + QUESTION_TOKENS
    work = work_of(Case(
        build=mock.patch("torch.utils.swap_tensors", set_data)(
            lambda layers, checkpointing: language_loader(layers)(
                captioner_backbone(options, checkpointing)
            )
        ),
        loss=lambda language: answers_loss(language, rows, tokens), rows=rows,
        layers=settings.num_hidden_layers, layer_bytes=rows * tokens * settings.hidden_size * HALF_BYTES,
    ))  # fmt: skip
    with torch.device("meta"):
        seeing = 2 * count(list(EYES[name]().parameters())) * 4 * pictures
    return Size(
        weights=captioner_weights(options),
        work=Work(work.bytes, work.flops + seeing, work.forward_flops + seeing), rows=rows,
        samples=options.steps * rows * options.accumulate, unit="example",
    )  # fmt: skip


def director_case(recipe: Recipe, rows: int) -> Case:
    """Return the micro-batch of a director."""
    path = str(recipe.director.backbone.path)
    settings = QWEN[next(name for name in sorted(QWEN, key=len, reverse=True) if name in path)]
    tokens = sum(story_tokens(recipe.director))
    return Case(
        build=lambda layers, again: learner_of(_checkpointed(recipe, again), "director", layers),
        loss=lambda model: stories_loss(model, rows), rows=rows, layers=settings.num_hidden_layers,
        layer_bytes=rows * tokens * settings.hidden_size * HALF_BYTES, sharded=recipe.director.train.fsdp,
    )  # fmt: skip


def generator_case(recipe: Recipe, rows: int) -> Case:
    """Return the micro-batch of a generator."""
    path = str(recipe.generator.transformer.path)
    wan = next(found for name, found in WAN.items() if name in path)
    width = 128 * wan.get("num_attention_heads", 40)
    _, frames, height, columns = Codec().latent_shape(recipe.generator)
    tokens = frames * (height // 2) * (columns // 2)
    return Case(
        build=lambda layers, again: learner_of(_checkpointed(recipe, again), "generator", layers),
        loss=lambda model: clips_loss(model, rows), rows=rows, layers=wan.get("num_layers", 40),
        layer_bytes=rows * tokens * width * HALF_BYTES, sharded=recipe.generator.train.fsdp,
    )  # fmt: skip


def keyframes_loss(model: RollingDecoder, rows: int) -> torch.Tensor:
    """Return a scalar that depends on the velocity of so many grids."""
    side = 2 * model.picture_px // 8
    noisy = torch.randn(rows, 16, side, side)
    known = torch.randn(rows, (side // 2) ** 2, 4 * (16 + 64))
    states = torch.randn(rows, *model.statistics.mean.shape)
    return model.velocity(noisy, torch.rand(rows), known, states).square().mean()


def decoder_case(recipe: Recipe, rows: int) -> Case:
    """Return the micro-batch of the rolling decoder; a layer is a double one with two single ones."""
    tokens = (recipe.state.picture_px // 8) ** 2 + TEXT_TOKENS + recipe.state.tokens
    return Case(
        build=lambda layers, again: learner_of(_checkpointed(recipe, again), "decoder", layers),
        loss=lambda model: keyframes_loss(model, rows), rows=rows, layers=19,
        layer_bytes=3 * rows * tokens * 24 * 128 * HALF_BYTES,
    )  # fmt: skip


def answers_loss(language: Language, rows: int, tokens: int) -> torch.Tensor:
    """Return the loss of so many examples; logits are made of all their tokens."""
    vectors = language.embedding(torch.zeros(rows, tokens, dtype=torch.long)).requires_grad_()
    hidden = language.decoder(inputs_embeds=vectors, use_cache=False).last_hidden_state
    logits = language.head(hidden).float().flatten(0, 1)
    return nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def size_of(file: Path) -> Size:
    """Return the computed figures of a recipe."""
    recipe, kind = recipe_of(file)
    if kind == "captioner":
        return captioner_size(recipe.captioner)
    train: config.Train = getattr(recipe, kind).train
    rows = train.batch_size // (train.processes * train.accumulate)
    case = {"director": director_case, "generator": generator_case, "decoder": decoder_case}[kind]
    # A generator samples with and without the condition.
    forwards = {"generator": 2 * recipe.generator.sample_steps, "decoder": recipe.decoder.sample_steps}
    return Size(
        weights=weights_of(file), work=work_of(case(recipe, rows)), rows=rows,
        samples=train.steps * train.batch_size, unit=UNITS[kind], forwards=forwards.get(kind, 0),
    )  # fmt: skip


def computed(files: Sequence[Path]) -> dict[str, str]:
    """Return the paragraphs of recipes by name, computed in another process.

    PyTorch 2.13 corrupts memory in some runs over fake tensors, most often with director-qwen3-0.6b, so
    that no test counts with them. A process that dies is followed by one for the recipes that are missing.
    """
    found: dict[str, str] = {}
    for _ in range(ATTEMPTS):
        missing = [str(file) for file in files if file.stem not in found]
        if not missing:
            break
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.recipe_sizes", "--print", *missing],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert done.returncode <= 0, done
        found |= dict(map(json.loads, done.stdout.splitlines()))
    return found


def main(arguments: Sequence[str]) -> None:
    """Write the computed paragraph into each recipe, or print those of some."""
    if arguments[:1] == ["--print"]:
        for name in arguments[1:]:
            print(json.dumps([Path(name).stem, size_of(Path(name)).text()]), flush=True)
        return
    files = [*FILES, *CAPTIONERS]
    paragraphs = computed(files)
    for file in files:
        text, found = file.read_text(), paragraphs[file.stem]
        assert COMPUTED.search(text)
        file.write_text(COMPUTED.sub(found, text, count=1))
        print(file.stem, found, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
