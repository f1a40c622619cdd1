"""Sizes of the models that recipes name, from their published configurations on the meta device.

``python -m tests.support.recipe_sizes`` writes the figures into the recipes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import WanTransformer3DModel
from diffusers.training_utils import cast_training_params
from peft import inject_adapter_in_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

from generation import config
from generation.config import RECIPES, Recipe
from generation.core.learner import Learner
from generation.core.states import Statistics
from generation.director.recalling import new_director
from generation.encoders.backbones import Language, lora_config
from generation.generator.model import GeneratorModel
from pipeline.platform.config import load

WAN_SMALL = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
WAN_IMAGES = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
WAN = {"T2V-1.3B": WAN_SMALL, "T2V-14B": {}, "I2V-14B": WAN_IMAGES}
"""What the published configurations of Wan 2.1 say beyond diffusers' defaults."""
QWEN3 = {"vocab_size": 151_936, "head_dim": 128, "num_key_value_heads": 8}
EIGHT = {
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
}
QWEN: dict[str, Any] = {
    "Qwen3-0.6B": Qwen3Config(
        **QWEN3, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        tie_word_embeddings=True,
    ),
    "Qwen3-4B": Qwen3Config(
        **QWEN3, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        tie_word_embeddings=True,
    ),
    "Qwen3-8B": Qwen3Config(**QWEN3, **EIGHT),
    "Qwen3-VL-8B": Qwen3Config(**QWEN3, **EIGHT),
    "Qwen2.5-VL-7B": Qwen2Config(
        vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28,
        num_attention_heads=28, num_key_value_heads=4,
    ),
}  # fmt: skip
"""Of vision-language models the language half; their vision towers are frozen and not loaded to train."""
FILES = sorted(path for kind in ("director", "generator") for path in RECIPES.glob(f"{kind}-*.yaml")
               if "/models/" in path.read_text())  # fmt: skip
LINE = re.compile(r"^# Computed: .*$", re.M)


@dataclass(frozen=True)
class Size:
    """Numbers of weights, and bytes of weights, gradients and AdamW's moments on one GPU."""

    weights: int
    trained: int
    gpu_bytes: float

    def line(self) -> str:
        return (
            f"# Computed: {self.weights / 1e9:.2f} G weights, {self.trained / 1e9:.2f} G of them trained; "
            f"{self.gpu_bytes / 1e9:.1f} GB a GPU before activations."
        )


class _Codec:
    channels, temporal_stride, spatial_stride = 16, 4, 8

    def latent_shape(self, options: config.GeneratorSettings) -> tuple[int, int, int, int]:
        return 16, (options.frames - 1) // 4 + 1, options.height_px // 8, options.width_px // 8


class _Text:
    width = 4096


def _wan(path: Path, **given: Any) -> WanTransformer3DModel:
    settings = next(given for name, given in WAN.items() if name in str(path))
    return WanTransformer3DModel(**settings).to(given["torch_dtype"])


def _language(options: config.Backbone) -> Language:
    name = next(name for name in sorted(QWEN, key=len, reverse=True) if name in str(options.path))
    model: Any = AutoModelForCausalLM.from_config(QWEN[name], dtype=getattr(torch, options.dtype))
    model.requires_grad_(options.train == "full")
    if options.train == "lora":
        inject_adapter_in_model(lora_config(options.lora), model.model)
        cast_training_params(model.model, dtype=torch.float32)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    width = embedding.weight.shape[1]
    return Language(model, model.model, embedding, head, None, width, end=0, start=[])


def learner_of(recipe: Recipe, kind: str) -> Learner:
    """The learner of a recipe on the meta device."""
    shape = (recipe.state.tokens, recipe.state.width)
    with (
        torch.device("meta"),
        mock.patch("generation.director.model.load_backbone", _language),
        mock.patch("generation.generator.model.load_codec", lambda options: _Codec()),
        mock.patch("generation.generator.model.load_text", lambda options: _Text()),
        mock.patch("generation.generator.families._loaded_class", lambda folder: "WanTransformer3DModel"),
        mock.patch.object(WanTransformer3DModel, "from_pretrained", _wan),
        mock.patch.object(torch.Tensor, "item", lambda tensor: 0.02),
    ):
        statistics = Statistics(torch.zeros(shape), torch.ones(shape))
        if kind == "director":
            return new_director(recipe.director, recipe.state, statistics)
        return GeneratorModel(recipe.generator, recipe.state, statistics)


def size_of(file: Path) -> Size:
    """The size of a recipe's model."""
    recipe = load(file, [], Recipe).config
    kind = file.name.partition("-")[0]
    train: config.Train = getattr(recipe, kind).train
    parameters = list(learner_of(recipe, kind).parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    # Gradients and two moments, each of 4 bytes.
    all_bytes = sum(p.numel() * p.element_size() for p in parameters) + 12 * trained
    gpus = train.processes if train.fsdp else 1
    return Size(sum(p.numel() for p in parameters), trained, all_bytes / gpus)


def main() -> None:
    """Write the computed line into each recipe."""
    for file in FILES:
        text, line = file.read_text(), size_of(file).line()
        if LINE.search(text):
            text = LINE.sub(line, text)
        else:
            text = text.replace("# Calculated, not measured.", f"{line}\n#\n# Calculated, not measured.", 1)
        file.write_text(text)
        print(file.stem, line)


if __name__ == "__main__":
    main()
