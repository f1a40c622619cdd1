"""Stable unCLIP paints pooled CLIP states (Rombach et al.; diffusers' ``StableUnCLIPImg2ImgPipeline``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from torch import Tensor

from generation.config import State
from generation.core.states import Pictures, StateDecoder
from generation.encoders.weights import best_device
from pipeline.platform.config import ConfigError


class UnclipDecoder(StateDecoder):
    """The whole pipeline in ``state.path``, with an empty prompt and noise level 0."""

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(
            options.path,
            dtype=getattr(torch, options.dtype),
            use_safetensors=True,
            local_files_only=True,
        ).to(best_device())
        self._pipeline.set_progress_bar_config(disable=True)
        scale = self._pipeline.vae_scale_factor
        if options.picture_px % scale:
            raise ConfigError(
                f"state.picture_px is {options.picture_px}: unCLIP needs a multiple of {scale}"
            )
        self.picture_px = options.picture_px
        self._chosen: dict[str, Any] = {}
        if options.sample_steps is not None:
            self._chosen["num_inference_steps"] = options.sample_steps
        if options.guidance is not None:
            self._chosen["guidance_scale"] = options.guidance

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`StateDecoder.decode`. One at a time: a picture does not depend on its neighbours."""
        pictures = [
            self._pipeline(
                prompt="",
                image_embeds=state.to(self._pipeline.device, self._pipeline.dtype),
                noise_level=0,
                height=self.picture_px,
                width=self.picture_px,
                generator=torch.Generator().manual_seed(seed),
                output_type="np",
                **self._chosen,
            ).images
            for state in z
        ]
        return (np.concatenate(pictures) * 255).round().astype(np.uint8)
