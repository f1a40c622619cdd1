"""States that are a picture's latents: AutoencoderKL in both directions."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from generation.config import State
from generation.core.states import Pictures, StateDecoder, StateEncoder
from generation.encoders.memory import in_parts
from generation.encoders.pictures import from_network, square, to_network
from generation.encoders.weights import best_device, named
from pipeline.platform.config import ConfigError

PICTURES_AT_ONCE = 8
SMALLER = "state.path's autoencoder; lower state.picture_px"


def load_vae(path: Path) -> AutoencoderKL:
    """Load the autoencoder in the folder ``vae`` of a diffusers pipeline, in float32."""
    return AutoencoderKL.from_pretrained(path, subfolder="vae", use_safetensors=True, local_files_only=True)


def latent_shape(vae: AutoencoderKL, picture_px: int) -> tuple[int, int, int]:
    """Return channels, height and width of a picture's latents.

    Raises:
        ConfigError: the autoencoder cannot divide ``picture_px``.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    side, rest = divmod(picture_px, scale)
    if rest:
        raise ConfigError(f"state.picture_px is {picture_px}: this autoencoder needs a multiple of {scale}")
    return int(vae.config.latent_channels), side, side


class VaeEncoder(StateEncoder):
    """A token for each place of the latents, row by row: the posterior's mode, not scaled."""

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._vae = load_vae(options.path).to(best_device()).eval()
        self._picture_px = options.picture_px
        channels, height, width = latent_shape(self._vae, options.picture_px)
        self.name = named("vae", options.path / "vae")
        self.tokens, self.width = height * width, channels

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`; pictures become central squares of ``state.picture_px``."""
        pictures = to_network(square(images, self._picture_px))

        def compute(part: Tensor) -> Tensor:
            mode: Tensor = self._vae.encode(part.to(self._vae.device)).latent_dist.mode()
            return mode.float().cpu()

        latents = in_parts(compute, pictures, at_once=PICTURES_AT_ONCE, what=SMALLER)
        return latents.flatten(2).transpose(1, 2).contiguous()


class VaeDecoder(StateDecoder):
    """Latents back to pictures; nothing is sampled."""

    def __init__(self, options: State) -> None:
        assert options.path is not None
        self._vae = load_vae(options.path).to(best_device()).eval()
        self._shape = latent_shape(self._vae, options.picture_px)
        self.picture_px = options.picture_px

    @torch.no_grad()
    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`StateDecoder.decode`. The seed changes nothing."""
        latents = z.transpose(1, 2).reshape(-1, *self._shape).to(self._vae.device)
        made = in_parts(
            lambda part: self._vae.decode(part).sample, latents, at_once=PICTURES_AT_ONCE, what=SMALLER
        )
        return from_network(made)
