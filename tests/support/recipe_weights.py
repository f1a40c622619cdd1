"""Weights of the shipped recipes, from the published configurations, on the meta device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxTransformer2DModel,
    WanTransformer3DModel,
)
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from diffusers.training_utils import cast_training_params
from peft import inject_adapter_in_model
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config, Qwen3VLVisionModel
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig

from generation import config
from generation.config import RECIPES, Recipe
from generation.core.learner import Learner
from generation.core.states import Statistics
from generation.director.recalling import new_director
from generation.encoders.backbones import Language, lora_config
from generation.encoders.rolling import RollingDecoder
from generation.encoders.siglip_flux import WITHOUT_TEXT
from generation.generator.model import GeneratorModel
from pipeline.platform.config import load

HALF_BYTES = 2
WAN_SMALL = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
WAN_IMAGES = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
WAN = {"T2V-1.3B": WAN_SMALL, "T2V-14B": {}, "I2V-14B": WAN_IMAGES}
"""Published configurations of Wan 2.1, where they differ from the defaults of diffusers."""
FLUX = {"in_channels": 384, "out_channels": 64, "guidance_embeds": True}
"""Published configuration of FLUX.1 Fill, where it differs from the defaults of diffusers."""
FLUX_VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16,
    "shift_factor": 0.1159, "scaling_factor": 0.3611, "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
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
EYES: dict[str, Callable[[], nn.Module]] = {
    "Qwen2.5-VL-7B": lambda: Qwen2_5_VisionTransformerPretrainedModel(
        Qwen2_5_VLVisionConfig(hidden_size=1280, out_hidden_size=3584)
    ),
    "Qwen3-VL-8B": lambda: Qwen3VLVisionModel(Qwen3VLVisionConfig(out_hidden_size=4096)),
}
CAPTIONERS = sorted(RECIPES.glob("captioner-*.yaml"))
KINDS = ("director", "generator", "decoder")
FILES = sorted(path for kind in KINDS for path in RECIPES.glob(f"{kind}-*.yaml")
               if "/models/" in path.read_text())  # fmt: skip
COMPUTED = re.compile(r"^# Computed: .*\n(?:# .*\n)*", re.M)


@dataclass(frozen=True)
class Weights:
    """Weights of a recipe's model.

    Attributes:
        weights, trained: their numbers.
        gpu_bytes: of weights, gradients and AdamW's moments on one GPU.
    """

    weights: int
    trained: int
    gpu_bytes: float

    def text(self) -> str:
        """Return the beginning of the recipe's paragraph."""
        return (
            f"Computed: {self.weights / 1e9:.2f} G weights, {self.trained / 1e9:.2f} G of them trained; "
            f"weights, gradients and moments take {self.gpu_bytes / 1e9:.1f} GB a GPU"
        )


class Codec:
    channels, temporal_stride, spatial_stride = 16, 4, 8

    def latent_shape(self, options: config.GeneratorSettings) -> tuple[int, int, int, int]:
        return 16, (options.frames - 1) // 4 + 1, options.height_px // 8, options.width_px // 8


class _Text:
    width = 4096


def _wan(layers: int | None) -> Callable[..., WanTransformer3DModel]:
    """Return the loader of a published Wan, or of its first layers."""

    def build(path: Path, **given: Any) -> WanTransformer3DModel:
        settings = next(found for name, found in WAN.items() if name in str(path))
        few = {} if layers is None else {"num_layers": layers}
        with torch.device("meta") if layers is None else ExitStack():
            return _in_dtype(lambda: WanTransformer3DModel(**settings | few), given["torch_dtype"])

    return build


def _flux(layers: int | None) -> Callable[..., Any]:
    """Return the loader of the parts of FLUX.1 Fill and Redux.

    Args:
        layers: so many of its 19 double layers, each with two of its 38 single ones; None for all.
    """
    few = {} if layers is None else {"num_layers": layers, "num_single_layers": 2 * layers}

    def build(kind: Any, path: Path, options: config.State, **given: Any) -> Any:
        with torch.device("meta") if layers is None else ExitStack():
            if kind is ReduxImageEncoder:
                return _in_dtype(ReduxImageEncoder, getattr(torch, options.dtype))
            assert kind is FluxFillPipeline
            return FluxFillPipeline(
                scheduler=FlowMatchEulerDiscreteScheduler(), **WITHOUT_TEXT,
                vae=_in_dtype(lambda: AutoencoderKL(**FLUX_VAE), getattr(torch, options.dtype)),
                transformer=_in_dtype(
                    lambda: FluxTransformer2DModel(**FLUX | few), getattr(torch, options.dtype)
                ),
            )  # fmt: skip

    return build


def _in_dtype(build: Callable[[], Any], dtype: torch.dtype) -> Any:
    torch.set_default_dtype(dtype)
    try:
        return build()
    finally:
        torch.set_default_dtype(torch.float32)


def language_loader(layers: int | None) -> Callable[[config.Backbone], Language]:
    """Return the loader of a published language model, or of its first layers."""

    def build(options: config.Backbone) -> Language:
        name = next(name for name in sorted(QWEN, key=len, reverse=True) if name in str(options.path))
        settings = QWEN[name].to_dict()
        if layers is not None:
            settings |= {"num_hidden_layers": layers, "layer_types": None}
        few = type(QWEN[name])(**settings)
        model: Any = AutoModelForCausalLM.from_config(few, dtype=getattr(torch, options.dtype))
        if options.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        model.requires_grad_(options.train == "full")
        if options.train == "lora":
            inject_adapter_in_model(lora_config(options.lora), model.model)
            cast_training_params(model.model, dtype=torch.float32)
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        width = embedding.weight.shape[1]
        return Language(model, model.model, embedding, head, None, width, end=0, start=[])

    return build


def set_data(tensor: torch.Tensor, other: torch.Tensor) -> None:
    """Change the type of a fake tensor; swapping it with another, as PyTorch does, is not possible."""
    tensor.data = other.data


def learner_of(recipe: Recipe, kind: str, layers: int | None = None) -> Learner:
    """Return the learner of a recipe without memory; with ``layers``, so many of them, as fake tensors."""
    shape = (recipe.state.tokens, recipe.state.width)
    with ExitStack() as stack:
        if layers is None:
            stack.enter_context(torch.device("meta"))
        for name, value in {
            "generation.director.model.load_backbone": language_loader(layers),
            "generation.generator.model.load_codec": lambda options: Codec(),
            "generation.generator.model.load_text": lambda options: _Text(),
            "generation.generator.families._loaded_class": lambda folder: "WanTransformer3DModel",
            "diffusers.WanTransformer3DModel.from_pretrained": _wan(layers),
            "generation.encoders.rolling.load_part": _flux(layers),
            "generation.encoders.siglip_flux.load_part": _flux(layers),
            "torch.Tensor.item": lambda tensor: 0.02,
            "torch.utils.swap_tensors": set_data,
        }.items():
            stack.enter_context(mock.patch(name, value))
        statistics = Statistics(torch.zeros(shape), torch.ones(shape))
        if kind == "director":
            return new_director(recipe.director, recipe.state, statistics)
        if kind == "decoder":
            return RollingDecoder(recipe.decoder, recipe.state, statistics)
        return GeneratorModel(recipe.generator, recipe.state, statistics)


def captioner_backbone(options: config.Captioner, checkpointing: bool) -> config.Backbone:
    return config.Backbone(
        kind="pretrained", path=Path(str(options.model)), train="lora", dtype=options.dtype,
        lora=options.lora.model_copy(update={"targets": r".*_proj"}),
        gradient_checkpointing=checkpointing,
    )  # fmt: skip


def eyes_of(options: config.Captioner) -> str:
    return next(name for name in EYES if name in str(options.model))


def captioner_weights(options: config.Captioner) -> Weights:
    """Return the weights of a captioner on one GPU, its frozen eyes in half precision."""
    with torch.device("meta"):
        eyes = count(list(EYES[eyes_of(options)]().parameters()))
        parameters = list(language_loader(None)(captioner_backbone(options, True)).model.parameters())
    return Weights(
        weights=count(parameters) + eyes, trained=count(_trained(parameters)),
        gpu_bytes=_state_bytes(parameters) + HALF_BYTES * eyes,
    )  # fmt: skip


def count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def _state_bytes(parameters: Sequence[nn.Parameter]) -> int:
    """Return bytes of weights, and of gradients and two moments of 4 bytes each."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    return weights + 12 * count(_trained(parameters))


def recipe_of(file: Path) -> tuple[Recipe, str]:
    """Return a recipe, and its kind: director, generator or captioner."""
    return load(file, [], Recipe).config, file.name.partition("-")[0]


def weights_of(file: Path) -> Weights:
    """Return the weights of a recipe's model, without fake tensors."""
    recipe, kind = recipe_of(file)
    if kind == "captioner":
        return captioner_weights(recipe.captioner)
    train: config.Train = getattr(recipe, kind).train
    parameters = list(learner_of(recipe, kind).parameters())
    return Weights(
        weights=count(parameters), trained=count(_trained(parameters)),
        gpu_bytes=_state_bytes(parameters) / (train.processes if train.fsdp else 1),
    )  # fmt: skip
