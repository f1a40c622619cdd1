"""SigLIP tokens, and FLUX.1 Redux, which paints them (diffusers' ``FluxPriorReduxPipeline``).

The weights lie in two folders: ``state.path`` is FLUX.1 Redux with its SigLIP, ``state.base`` FLUX.1 dev.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import Tensor
from transformers import SiglipImageProcessorPil, SiglipVisionModel

from generation.config import State
from generation.core.states import Pictures, StateEncoder
from generation.encoders.pictures import square
from generation.encoders.pipelines import PipelineDecoder, load_part
from generation.encoders.vision import load_vision, read_pictures
from generation.encoders.weights import named
from pipeline.platform.config import ConfigError

ENCODER = "image_encoder"
TEXT_TOKENS = 512
WITHOUT_TEXT = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))


class SiglipEncoder(StateEncoder):
    """Patch tokens of the last layer, 729 x 1152 for SO400M/14 at 384 px, of the centres of pictures.

    Reads the folders ``image_encoder`` and ``feature_extractor`` of FLUX.1 Redux.
    """

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._processor = SiglipImageProcessorPil.from_pretrained(
            options.path, subfolder="feature_extractor", local_files_only=True
        )
        self._model = load_vision(SiglipVisionModel, options, ENCODER)
        vision = self._model.config
        self.name = named("siglip", options.path / ENCODER)
        self.tokens = (vision.image_size // vision.patch_size) ** 2
        self.width = vision.hidden_size

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        # SigLIP's processor would squeeze a wide picture; a state of aspect 1 holds its centre.
        centres = square(images, min(images.shape[1:3]))
        return read_pictures(self._processor, centres, self._model, lambda made: made.last_hidden_state)


class ReduxDecoder(PipelineDecoder):
    """FLUX.1 dev without its text encoders; Redux maps a state to as many text tokens.

    The tokens of the prompt before them are zeros, as in diffusers' pipeline without text encoders.
    """

    def __init__(self, options: State) -> None:
        redux = load_part(ReduxImageEncoder, options.path, options, subfolder="image_embedder")
        pipeline = load_part(FluxPipeline, options.base, options, **WITHOUT_TEXT)
        flux, made = pipeline.transformer.config, redux.config.txt_in_features
        if made != flux.joint_attention_dim:
            raise ConfigError(
                f"state.path makes text tokens of {made}, state.base reads {flux.joint_attention_dim}: "
                "set both to folders of FLUX.1"
            )
        # Latents are packed in squares of two.
        multiple = 2 * pipeline.vae_scale_factor
        super().__init__(pipeline, options, width=redux.config.redux_dim, multiple_px=multiple)
        self._redux = redux.to(self._pipeline.device).eval()
        self._text = (1, TEXT_TOKENS, flux.joint_attention_dim)
        self._pooled = (1, flux.pooled_projection_dim)

    def condition(self, state: Tensor) -> dict[str, Any]:
        """See :meth:`PipelineDecoder.condition`."""
        seen = self._redux(state).image_embeds
        return {
            "prompt_embeds": torch.cat([seen.new_zeros(self._text), seen], dim=1),
            "pooled_prompt_embeds": seen.new_zeros(self._pooled),
        }
