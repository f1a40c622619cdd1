"""CLIP pictures: pooled projection, or the tokens of the last layer but one.

The first is what Stable unCLIP and IP-Adapters paint from, the second what Wan 2.1 attends to. The backend
of the image processor is Pillow's, whatever else is installed, so that states are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModel, CLIPVisionModelWithProjection

from generation.config import State
from generation.core.states import Pictures, StateEncoder
from generation.encoders.memory import in_parts
from generation.encoders.weights import best_device, named

PICTURES_AT_ONCE = 16


class ClipPooledEncoder(StateEncoder):
    """One token: ``image_embeds`` of :class:`CLIPVisionModelWithProjection`, as long as its projection.

    Reads the folders ``image_encoder`` and ``feature_extractor`` of a Stable unCLIP pipeline.
    """

    tokens = 1

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._processor = _processor(options.path, "feature_extractor")
        self._model = _model(CLIPVisionModelWithProjection, options)
        self.name = named("clip-pooled", options.path / "image_encoder")
        self.width = self._model.config.projection_dim

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        return _read(self._processor, images, self._model, lambda made: made.image_embeds).unsqueeze(1)


class ClipTokensEncoder(StateEncoder):
    """Class and patch tokens after all layers but the last, 257 x 1280 for ViT-H/14 at 224 px.

    Reads the folders ``image_encoder`` and ``image_processor`` of a Wan 2.1 image-to-video pipeline.
    """

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._processor = _processor(options.path, "image_processor")
        self._model = _model(CLIPVisionModel, options)
        vision = self._model.config
        self.name = named("clip-tokens", options.path / "image_encoder")
        self.tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        self.width = vision.hidden_size

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        return _read(self._processor, images, self._model, lambda made: made.hidden_states[-2])


def _processor(path: Path, folder: str) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil.from_pretrained(path, subfolder=folder, local_files_only=True)


def _model(kind: Any, options: State) -> Any:
    model = kind.from_pretrained(
        options.path,
        subfolder="image_encoder",
        dtype=getattr(torch, options.dtype),
        use_safetensors=True,
        local_files_only=True,
    )
    return model.to(best_device()).eval()


def _read(
    processor: CLIPImageProcessorPil, images: Pictures, model: Any, choose: Callable[[Any], Tensor]
) -> Tensor:
    """Return a part of the model's output for pictures, in float32 on the CPU."""
    pixels: Tensor = processor(images=list(images), return_tensors="pt")["pixel_values"]

    def compute(part: Tensor) -> Tensor:
        return choose(model(part.to(model.device, model.dtype), output_hidden_states=True)).float().cpu()

    return in_parts(
        compute,
        pixels,
        at_once=PICTURES_AT_ONCE,
        what="state.path's image encoder; set state.dtype=bfloat16",
    )
