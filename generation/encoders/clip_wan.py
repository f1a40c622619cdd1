"""Wan 2.1's image-to-video transformer paints CLIP tokens, one frame long.

The pipeline's own call wants the picture itself, which a planned state does not have. So only the CLIP
tokens condition here: the mask says that no frame is known, the latents beside the noise are those of an
empty frame, as the pipeline gives them for unknown frames, and the text is all padding, so that no text
encoder is needed. The model was trained with a known first frame and with text, so this is outside of what
it was trained for: it needs to be looked at with the open weights before it is relied upon.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor

from generation.config import State
from generation.core.flow import guided
from generation.core.states import Pictures, StateDecoder
from generation.encoders.pictures import from_network
from generation.encoders.weights import best_device
from pipeline.platform.config import ConfigError

TEXT_TOKENS = 512
SAMPLE_STEPS = 50


class WanDecoder(StateDecoder):
    """Reads the folders ``transformer``, ``vae`` and ``scheduler`` of ``state.path``.

    Guidance, off by default, is against all-zero CLIP tokens.
    """

    def __init__(self, options: State) -> None:
        path = options.path
        assert path is not None
        self._transformer = WanTransformer3DModel.from_pretrained(
            path,
            subfolder="transformer",
            dtype=getattr(torch, options.dtype),
            use_safetensors=True,
            local_files_only=True,
        )
        self._vae = AutoencoderKLWan.from_pretrained(
            path, subfolder="vae", use_safetensors=True, local_files_only=True
        )
        self._scheduler = UniPCMultistepScheduler.from_pretrained(
            path, subfolder="scheduler", local_files_only=True
        )
        self._device = best_device()
        self._transformer.to(self._device).eval()
        self._vae.to(self._device).eval()
        wan = self._transformer.config
        if wan.image_dim is None:
            raise ConfigError(
                f"{path / 'transformer'} takes no image tokens: state.path needs Wan 2.1 image-to-video"
            )
        if options.width != wan.image_dim:
            raise ConfigError(f"state.width is {options.width}, this transformer wants {wan.image_dim}")
        multiple = self._vae.config.scale_factor_spatial * wan.patch_size[1]
        if options.picture_px % multiple:
            raise ConfigError(
                f"state.picture_px is {options.picture_px}: Wan needs a multiple of {multiple}"
            )
        self.picture_px = options.picture_px
        self._steps = options.sample_steps or SAMPLE_STEPS
        self._guidance = 1.0 if options.guidance is None else options.guidance

    @torch.no_grad()
    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`StateDecoder.decode`. One at a time: a picture does not depend on its neighbours."""
        return from_network(torch.cat([self._paint(state[None], seed) for state in z]))

    def _paint(self, state: Tensor, seed: int) -> Tensor:
        """Paint one picture ``[1, 3, h, w]`` in [-1, 1] of a state ``[1, tokens, width]``."""
        wan, vae = self._transformer.config, self._vae.config
        frame = torch.zeros(1, 3, 1, self.picture_px, self.picture_px, device=self._device)
        mean = torch.tensor(vae.latents_mean, device=self._device).view(1, -1, 1, 1, 1)
        std = torch.tensor(vae.latents_std, device=self._device).view(1, -1, 1, 1, 1)
        empty = (self._vae.encode(frame).latent_dist.mode() - mean) / std
        mask = empty.new_zeros(1, vae.scale_factor_temporal, *empty.shape[2:])
        text = empty.new_zeros(1, TEXT_TOKENS, wan.text_dim)
        tokens = state.to(self._device)
        latents = torch.randn(empty.shape, generator=torch.Generator().manual_seed(seed)).to(self._device)

        def predict(image: Tensor, t: Tensor) -> Tensor:
            parts = [torch.cat([latents, mask, empty], dim=1), text, image]
            hidden, words, seen = (part.to(self._transformer.dtype) for part in parts)
            velocity: Tensor = self._transformer(
                hidden_states=hidden,
                timestep=t.expand(1),
                encoder_hidden_states=words,
                encoder_hidden_states_image=seen,
            ).sample
            return velocity.float()

        self._scheduler.set_timesteps(self._steps, device=self._device)
        for t in self._scheduler.timesteps:
            velocity = predict(tokens, t)
            if self._guidance != 1:
                velocity = guided(velocity, predict(torch.zeros_like(tokens), t), self._guidance)
            latents = self._scheduler.step(velocity, t, latents).prev_sample
        video: Tensor = self._vae.decode(latents * std + mean).sample
        return video[:, :, 0]
