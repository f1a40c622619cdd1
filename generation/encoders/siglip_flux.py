"""SigLIP tokens, and FLUX.1 Redux, which paints them (diffusers' ``FluxPriorReduxPipeline``).

The weights lie in two folders: ``state.path`` is FLUX.1 Redux with its SigLIP, ``state.base`` FLUX.1 dev.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import Tensor, nn
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


class ReduxText(nn.Module):
    """FLUX.1 Redux, which maps a state to as many text tokens of FLUX.1.

    The tokens of the prompt before them are zeros, as in diffusers' pipeline without text encoders.

    Args:
        options: of the states.
        flux: configuration of the transformer that reads the tokens.

    Raises:
        ConfigError: it reads tokens of another width.
    """

    def __init__(self, options: State, flux: Any) -> None:
        super().__init__()
        self.redux = load_part(ReduxImageEncoder, options.path, options, subfolder="image_embedder")
        made, wanted = self.redux.config.txt_in_features, flux.joint_attention_dim
        if made != wanted:
            raise ConfigError(
                f"state.path makes text tokens of {made}, state.base reads {wanted}: "
                "set both to folders of FLUX.1"
            )
        self.width = int(self.redux.config.redux_dim)
        self._text, self._pooled = (TEXT_TOKENS, wanted), flux.pooled_projection_dim

    def forward(self, states: Tensor) -> dict[str, Tensor]:
        """Return the pipeline's inputs for states ``[n, tokens, width]``."""
        seen = self.redux(states).image_embeds
        return {
            "prompt_embeds": torch.cat([seen.new_zeros(len(states), *self._text), seen], dim=1),
            "pooled_prompt_embeds": seen.new_zeros(len(states), self._pooled),
        }


class ReduxDecoder(PipelineDecoder):
    """FLUX.1 dev without its text encoders, which paints the tokens of Redux."""

    def __init__(self, options: State) -> None:
        pipeline = load_part(FluxPipeline, options.base, options, **WITHOUT_TEXT)
        text = ReduxText(options, pipeline.transformer.config)
        # Latents are packed in squares of two.
        super().__init__(pipeline, options, width=text.width, multiple_px=2 * pipeline.vae_scale_factor)
        self._text = text.to(self._pipeline.device).eval()

    def condition(self, state: Tensor) -> dict[str, Any]:
        """See :meth:`PipelineDecoder.condition`."""
        found: dict[str, Any] = self._text(state)
        return found
