"""Stable unCLIP paints pooled CLIP states (Rombach et al.; diffusers' ``StableUnCLIPImg2ImgPipeline``)."""

from __future__ import annotations

from typing import Any

from diffusers import StableUnCLIPImg2ImgPipeline
from torch import Tensor

from generation.config import State
from generation.encoders.pipelines import PipelineDecoder, load_part


class UnclipDecoder(PipelineDecoder):
    """The whole pipeline in ``state.path``, with an empty prompt and noise level 0."""

    def __init__(self, options: State) -> None:
        pipeline = load_part(StableUnCLIPImg2ImgPipeline, options.path, options)
        width = pipeline.image_normalizer.config.embedding_dim
        super().__init__(pipeline, options, width=width, multiple_px=pipeline.vae_scale_factor)

    def condition(self, state: Tensor) -> dict[str, Any]:
        """See :meth:`PipelineDecoder.condition`."""
        return {"prompt": "", "image_embeds": state[0], "noise_level": 0}
