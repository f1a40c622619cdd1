"""CLIP pictures: pooled projection, or the tokens of the last layer but one.

The first is what Stable unCLIP paints from, the second what Wan 2.1 and IP-Adapter-Plus attend to.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModel, CLIPVisionModelWithProjection

from generation.config import State
from generation.core.states import Pictures, StateEncoder
from generation.encoders.vision import load_vision, read_pictures
from generation.encoders.weights import named

ENCODER = "image_encoder"


class ClipPooledEncoder(StateEncoder):
    """One token: ``image_embeds`` of :class:`CLIPVisionModelWithProjection`, as long as its projection.

    Reads the folders ``image_encoder`` and ``feature_extractor`` of a Stable unCLIP pipeline.
    """

    tokens = 1

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._processor = CLIPImageProcessorPil.from_pretrained(
            options.path, subfolder="feature_extractor", local_files_only=True
        )
        self._model = load_vision(CLIPVisionModelWithProjection, options, ENCODER)
        self.name = named("clip-pooled", options.path / ENCODER)
        self.width = self._model.config.projection_dim

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        pooled = read_pictures(self._processor, images, self._model, lambda made: made.image_embeds)
        return pooled.unsqueeze(1)


class ClipTokensEncoder(StateEncoder):
    """Class and patch tokens after all layers but the last, 257 x 1280 for ViT-H/14 at 224 px.

    Attributes:
        kind: transformers' class of the model.
        folder: of the model, in ``state.path``.
        processor: folder of the image processor in ``state.path``; None takes CLIP's own.
    """

    kind: Any = CLIPVisionModel
    folder = ENCODER
    processor: str | None = "image_processor"

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._model = load_vision(self.kind, options, self.folder)
        vision = self._model.config
        if self.processor is None:
            self._processor = clip_processor(vision.image_size)
        else:
            self._processor = CLIPImageProcessorPil.from_pretrained(
                options.path, subfolder=self.processor, local_files_only=True
            )
        self.name = named("clip-tokens", options.path / self.folder)
        self.tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        self.width = vision.hidden_size

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        return read_pictures(self._processor, images, self._model, lambda made: made.hidden_states[-2])


def clip_processor(side_px: int) -> CLIPImageProcessorPil:
    """Return CLIP's image processor for models that read squares of a side."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": side_px}, crop_size={"height": side_px, "width": side_px}
    )
