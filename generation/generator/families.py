"""From a recipe to its video backbone, with adapters and state branches, ready to be trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from generation import config
from generation.encoders.backbones import add_lora
from generation.encoders.codecs import VideoCodec
from generation.encoders.weights import description, loading
from generation.generator.backbone import VideoBackbone
from generation.generator.ltx import LtxBackbone
from generation.generator.wan import NewWan, WanBackbone
from pipeline.platform.config import ConfigError

FAMILIES: dict[str, Callable[[config.GeneratorSettings, VideoCodec], VideoBackbone]] = {
    "WanTransformer3DModel": lambda options, codec: WanBackbone.load(options.transformer, codec),
    "LTXVideoTransformer3DModel": LtxBackbone.load,
}
"""Loaders by the class that a transformer's ``config.json`` names."""


def load_video_backbone(
    options: config.GeneratorSettings,
    codec: VideoCodec,
    latent_shape: tuple[int, int, int, int],
    *,
    text_width: int,
) -> VideoBackbone:
    """Return the backbone of a recipe, with what is not trained frozen.

    Raises:
        ConfigError: the folder holds no transformer of a known family, or it does not fit the codec.
    """
    backbone = _loaded(options, codec, latent_shape, text_width)
    chosen = options.transformer
    transformer: Any
    for transformer in backbone.transformers().values():
        if chosen.train == "lora":
            add_lora(transformer, chosen.lora)
        if chosen.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
    return backbone


def _loaded(
    options: config.GeneratorSettings,
    codec: VideoCodec,
    latent_shape: tuple[int, int, int, int],
    text_width: int,
) -> VideoBackbone:
    folder = options.transformer.path
    if folder is None:
        return NewWan(
            options.transformer, codec, latent_shape,
            text_width=text_width, keyframe=options.condition == "keyframe",
        )  # fmt: skip
    load = FAMILIES[_loaded_class(folder)]
    with loading(f"generator.transformer.path {folder}"):
        return load(options, codec)


def _loaded_class(folder: Path) -> str:
    """Return the class that a transformer's folder names."""
    option = "generator.transformer.path"
    name = str(description(folder, "config.json", option=option, of="a transformer").get("_class_name"))
    if name not in FAMILIES:
        raise ConfigError(f"{option}: {folder} holds a {name}; trained can be {', '.join(FAMILIES)}")
    return name
