"""The project's own painter: a small diffusion decoder from states to pictures, trained with flow matching.

A diffusers U-Net works on pixels (family imagenet) or on AutoencoderKL's latents (family clip_vae). The
standardised state reaches it twice: as tokens for its cross-attention, and all together beside the time.
A share of the states is replaced by learned tokens, which gives the unconditional half of classifier-free
guidance. The network predicts the clean picture, and the loss is that of the velocity that follows from it
(Li and He 2025, arXiv 2511.13720): after minutes of training this paints blurred pictures, where a network
that predicts the velocity itself still paints noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from generation.config import Decoder, State
from generation.core import flow
from generation.core.learner import Batch, Row
from generation.core.states import Pictures, Statistics
from generation.encoders.pictures import from_network, to_network
from generation.encoders.trained_decoder import TrainedDecoder
from generation.encoders.vae import latent_shape, load_vae
from pipeline.platform.config import ConfigError

PICTURES_AT_ONCE = 32
NORM_GROUPS = 8
HEAD_WIDTH = 32
TIME_SCALE = 1000.0
"""U-Nets embed times of 0 to 1,000."""
LEAST_TIME = 0.05
"""Bounds the weight of nearly clean pictures."""


class FlowDecoder(TrainedDecoder):
    """Paints pictures ``[n, picture_px, picture_px, 3]`` from states.

    Args:
        options: of the decoder.
        state: what is painted from.
        statistics: of the states of the training set.

    Raises:
        ConfigError: statistics, channels or ``state.picture_px`` do not fit the rest.
    """

    def __init__(self, options: Decoder, state: State, statistics: Statistics) -> None:
        super().__init__()
        if statistics.mean.shape != (state.tokens, state.width):
            raise ConfigError(
                f"the statistics are of states {list(statistics.mean.shape)}, state.tokens and state.width "
                f"are {state.tokens} and {state.width}: make the features again, or set these to the former"
            )
        if any(channels % HEAD_WIDTH for channels in options.channels):
            raise ConfigError(f"decoder.channels {list(options.channels)}: take multiples of {HEAD_WIDTH}")
        self.picture_px = state.picture_px
        self.options = options
        self.statistics = statistics
        self.vae: AutoencoderKL | None = None
        if state.path is not None:
            self.vae = load_vae(state.path).requires_grad_(False).eval()
        self._shape = self._space(state, options)
        context = options.channels[-1]
        self.project = nn.Linear(state.width, options.state_tokens * context)
        self.no_state = nn.Parameter(torch.randn(1, state.tokens * options.state_tokens, context) * 0.02)
        self.norm = nn.LayerNorm(context)
        self.unet = _unet(self._shape, options, tokens=state.tokens * options.state_tokens)

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """See :meth:`Learner.collate`; reads ``state`` and ``keyframe`` of clip rows."""
        draws = torch.stack([torch.rand((), generator=flow.stream(seed, "drop")) for seed in seeds])
        return {
            "state": torch.stack([torch.as_tensor(row["state"]) for row in rows]).float(),
            "picture": self.keyframes_of(rows),
            "noise": flow.noise_like(torch.empty(len(rows), *self._shape), seeds),
            "time": flow.sample_times(seeds, shift=self.options.time_shift),
            "keep": draws >= self.options.drop_state,
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the squared error of the velocity, ``loss [batch]``. See :meth:`Learner.forward`."""
        clean = self._clean(batch["picture"])
        noisy = flow.interpolate(clean, batch["noise"], batch["time"])
        found = self._predicted(noisy, batch["time"], self._context(batch["state"], batch["keep"]))
        error = (found.float() - clean).square().flatten(1).mean(dim=1)
        return {"loss": error / batch["time"].clamp_min(LEAST_TIME).square()}

    @torch.no_grad()
    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`StateDecoder.decode`. A picture does not depend on its neighbours."""
        parts = [self._paint(part, seed) for part in torch.split(z, PICTURES_AT_ONCE)]
        return np.concatenate(parts)

    def repaint(self, rows: Sequence[Row], *, seed: int) -> Pictures:
        """See :meth:`TrainedDecoder.repaint`."""
        return self.decode(torch.stack([torch.as_tensor(row["state"]) for row in rows]), seed=seed)

    def _space(self, state: State, options: Decoder) -> tuple[int, int, int]:
        """Return channels, height and width of the space that is painted in."""
        if self.vae is not None:
            shape = latent_shape(self.vae, state.picture_px)
        else:
            side, rest = divmod(state.picture_px, options.patch)
            if rest:
                raise ConfigError(
                    f"state.picture_px ({state.picture_px}) must be a multiple of decoder.patch"
                )
            shape = (3 * options.patch**2, side, side)
        halvings = 2 ** (len(options.channels) - 1)
        if shape[1] % halvings:
            raise ConfigError(
                f"decoder.channels has {len(options.channels)} levels, which needs sides that {halvings} "
                f"divides; state.picture_px ({state.picture_px}) gives {shape[1]}"
            )
        return shape

    def _clean(self, pictures: Tensor) -> Tensor:
        """Map uint8 ``[n, h, w, 3]`` to the space that is painted in."""
        images = to_network(pictures)
        if self.vae is None:
            return functional.pixel_unshuffle(images, self.options.patch)
        with torch.no_grad():
            latents: Tensor = self.vae.encode(images).latent_dist.mode()
        scaled: Tensor = (latents - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor
        return scaled

    def _pictures(self, clean: Tensor) -> Pictures:
        """Invert :meth:`_clean`."""
        if self.vae is None:
            return from_network(functional.pixel_shuffle(clean, self.options.patch))
        latents = clean / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0)
        return from_network(self.vae.decode(latents).sample)

    def _context(self, states: Tensor, keep: Tensor) -> Tensor:
        """Return tokens ``[n, tokens x state_tokens, channels]``; without ``keep``, those of no state."""
        tokens = self.project(self.statistics.standardise(states))
        tokens = tokens.reshape(len(states), -1, self.no_state.shape[-1])
        context: Tensor = self.norm(torch.where(keep[:, None, None], tokens, self.no_state))
        return context

    def _predicted(self, noisy: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """Predict the clean picture or latents from noise and context."""
        found: Tensor = self.unet(
            noisy, time * TIME_SCALE, encoder_hidden_states=context, class_labels=context.flatten(1)
        ).sample
        return found

    def _paint(self, z: Tensor, seed: int) -> Pictures:
        device = self.no_state.device
        z, many = z.to(device), len(z)
        noise = flow.noise_like(torch.empty(many, *self._shape, device=device), [seed] * many)
        kept = torch.ones(many, dtype=torch.bool, device=device)
        context = torch.cat([self._context(z, kept), self._context(z, ~kept)])

        def predict(x: Tensor, t: Tensor) -> Tensor:
            if self.options.guidance == 1:
                found = self._predicted(x, t, context[:many])
            else:
                both = self._predicted(torch.cat([x, x]), torch.cat([t, t]), context)
                found = flow.guided(both[:many], both[many:], self.options.guidance)
            return (x - found) / t[0]

        training = self.training
        self.eval()
        options = self.options
        clean = flow.euler(predict, noise, steps=options.sample_steps, shift=options.time_shift)
        painted = self._pictures(clean)
        self.train(training)
        return painted


def _unet(shape: tuple[int, int, int], options: Decoder, *, tokens: int) -> UNet2DConditionModel:
    """Build a U-Net: plain convolutions at the finest level, cross-attention at the others.

    ``attention_head_dim`` is the number of heads: the library keeps the name for old weights.
    """
    attending = len(options.channels) - 1
    return UNet2DConditionModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=options.channels,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * attending),
        up_block_types=(*["CrossAttnUpBlock2D"] * attending, "UpBlock2D"),
        layers_per_block=options.layers_per_block,
        cross_attention_dim=options.channels[-1],
        attention_head_dim=tuple(channels // HEAD_WIDTH for channels in options.channels),
        norm_num_groups=NORM_GROUPS,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=tokens * options.channels[-1],
        resnet_time_scale_shift="scale_shift",
    )
