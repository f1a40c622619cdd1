"""IP-Adapter-Plus and Stable Diffusion XL paint CLIP ViT-H tokens (Ye et al., 2023; diffusers).

The weights lie in two folders: ``state.path`` is IP-Adapter with its image encoder, as on the hub, and
``state.base`` Stable Diffusion XL. The hub's folder has no image processor; CLIP's own is meant.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from generation.config import State
from generation.encoders.clip import ClipTokensEncoder, clip_processor
from generation.encoders.pipelines import PipelineDecoder, load_part
from generation.encoders.vision import load_vision

ENCODER = "models/image_encoder"
ADAPTER_FOLDER, ADAPTER = "sdxl_models", "ip-adapter-plus_sdxl_vit-h.safetensors"
MULTIPLE_PX = 8
"""The pipeline refuses other sides, whatever its autoencoder."""
GUIDANCE = 5.0
"""The pipeline's own; above 1 it wants the states of no picture too."""


class IpAdapterEncoder(ClipTokensEncoder):
    """The tokens that IP-Adapter-Plus was trained with, 257 x 1280."""

    kind, folder, processor = CLIPVisionModelWithProjection, ENCODER, None


class IpAdapterDecoder(PipelineDecoder):
    """Stable Diffusion XL with IP-Adapter-Plus at scale 1 and an empty prompt.

    Guidance is against the tokens of a grey picture, as in diffusers' pipeline.
    """

    def __init__(self, options: State) -> None:
        encoder = load_vision(CLIPVisionModelWithProjection, options, ENCODER)
        side_px = encoder.config.image_size
        pipeline = load_part(
            StableDiffusionXLPipeline, options.base, options,
            image_encoder=encoder, feature_extractor=clip_processor(side_px),
        )  # fmt: skip
        pipeline.load_ip_adapter(
            options.path, subfolder=ADAPTER_FOLDER, weight_name=ADAPTER, local_files_only=True
        )
        super().__init__(pipeline, options, width=encoder.config.hidden_size, multiple_px=MULTIPLE_PX)
        with torch.no_grad():
            grey = torch.zeros(1, 3, side_px, side_px)
            _, self._unknown = self._pipeline.encode_image(grey, self._pipeline.device, 1, True)

    def condition(self, state: Tensor) -> dict[str, Any]:
        """See :meth:`PipelineDecoder.condition`."""
        guided = self._chosen.get("guidance_scale", GUIDANCE) > 1
        states = torch.cat([self._unknown, state]) if guided else state
        return {"prompt": "", "ip_adapter_image_embeds": [states[:, None]]}
