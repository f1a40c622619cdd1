"""The rolling renderer: FLUX.1 Fill, trained to paint the key frame of a state in view of earlier ones.

Earlier key frames fill the first cells of a grid of four, the new one is painted into the next cell. Tokens
that Redux makes of the state replace the text. Low-rank adapters are trained with flow matching; diffusers'
``FluxFillPipeline`` samples. The loss is that of the whole grid, because the pipeline denoises the whole
grid; ``cell`` reports the error of the new picture alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import FluxFillPipeline
from PIL import Image
from torch import Tensor

from generation.config import Decoder, State
from generation.core import flow
from generation.core.learner import Batch, Row
from generation.core.states import Picture, Pictures, Statistics
from generation.encoders.backbones import add_lora
from generation.encoders.grid import MASKED, SIDE, cells_of, masked_grid
from generation.encoders.pictures import to_network
from generation.encoders.pipelines import check_side, load_part
from generation.encoders.siglip_flux import WITHOUT_TEXT, ReduxText
from generation.encoders.trained_decoder import TrainedDecoder
from pipeline.platform.config import ConfigError


class RollingDecoder(TrainedDecoder):
    """Paints pictures ``[n, picture_px, picture_px, 3]`` from states of SigLIP and earlier pictures.

    Args:
        options: of the decoder, with ``rolling``.
        state: ``path`` is FLUX.1 Redux, ``base`` FLUX.1 Fill.
        statistics: of the states of the training set; Redux reads states as they are.

    Raises:
        ConfigError: ``state.base`` is not FLUX.1 Fill, or ``state.picture_px`` does not fit it.
    """

    def __init__(self, options: Decoder, state: State, statistics: Statistics) -> None:
        super().__init__()
        if options.rolling is None or state.family != "siglip_flux":
            raise ConfigError("decoder.rolling: paints states of the family siglip_flux alone")
        self.options, self.statistics, self.rolling = options, statistics, options.rolling
        self.picture_px, self.memory = state.picture_px, options.rolling.memory
        pipeline: Any = load_part(FluxFillPipeline, state.base, state, **WITHOUT_TEXT)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline, self._scale = pipeline, pipeline.vae_scale_factor
        self._channels = int(pipeline.vae.config.latent_channels)
        self.vae = pipeline.vae.requires_grad_(False).eval()
        self.transformer = add_lora(pipeline.transformer, options.rolling.lora)
        flux = self.transformer.config
        self._guided = bool(flux.guidance_embeds)
        # Latents are packed in squares of two.
        wanted = 4 * (2 * self._channels + self._scale**2)
        if flux.in_channels != wanted:
            raise ConfigError(
                f"state.base: the transformer in {state.base} reads {flux.in_channels} channels, that of "
                f"FLUX.1 Fill {wanted}: set it to the folder of FLUX.1 Fill"
            )
        check_side(state, 2 * self._scale, type(pipeline).__name__)
        if options.rolling.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.redux = ReduxText(state, flux).requires_grad_(False).eval()

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """See :meth:`Learner.collate`; reads ``state``, ``keyframe`` and ``earlier`` of clip rows."""
        grids, masks = [], []
        for row, picture in zip(rows, self.keyframes_of(rows).numpy(), strict=True):
            earlier = list(np.asarray(row["earlier"]))
            grid, mask = self._grid([*earlier, picture], new=len(earlier))
            grids.append(torch.from_numpy(grid))
            masks.append(torch.from_numpy(mask))
        side = SIDE * self.picture_px // self._scale
        return {
            "state": torch.stack([torch.as_tensor(row["state"]) for row in rows]).float(),
            "grid": torch.stack(grids),
            "mask": torch.stack(masks),
            "noise": flow.noise_like(torch.empty(len(rows), self._channels, side, side), seeds),
            "time": flow.sample_times(seeds, shift=self.options.time_shift),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return squared errors of the velocity, ``[batch]`` each. See :meth:`Learner.forward`."""
        images, mask = to_network(batch["grid"]), batch["mask"][:, None].float() / MASKED
        clean = self._scaled(self._latents(images))
        noisy = flow.interpolate(clean, batch["noise"], batch["time"])
        velocity = self.velocity(noisy, batch["time"], self._known(images, mask), batch["state"])
        error = (velocity - flow.velocity(clean, batch["noise"])).square().mean(dim=1)
        cell = mask[:, 0, :: self._scale, :: self._scale]
        shares = cell / cell.sum(dim=(1, 2), keepdim=True)
        return {"loss": error.mean(dim=(1, 2)), "cell": (error * shares).sum(dim=(1, 2))}

    def velocity(self, noisy: Tensor, time: Tensor, known: Tensor, states: Tensor) -> Tensor:
        """Predict ``noise - clean`` as the pipeline does.

        Args:
            noisy: scaled latents of grids ``[n, channels, height, width]``.
            time: ``[n]`` in [0, 1]; 1 is noise.
            known: masked grids and masks, packed.
            states: ``[n, tokens, width]``.

        Returns:
            float32, of the shape of ``noisy``.
        """
        count, channels, height, width = noisy.shape
        pipeline, dtype, device = self._pipeline, self.vae.dtype, noisy.device
        text = self.redux(states.to(dtype))
        tokens = text["prompt_embeds"].shape[1]
        packed = pipeline._pack_latents(noisy, count, channels, height, width)
        velocity = self.transformer(
            hidden_states=torch.cat([packed, known], dim=2).to(dtype),
            timestep=time.to(dtype),
            guidance=torch.full_like(time, self.rolling.guidance) if self._guided else None,
            encoder_hidden_states=text["prompt_embeds"],
            pooled_projections=text["pooled_prompt_embeds"],
            txt_ids=torch.zeros(tokens, 3, dtype=dtype, device=device),
            img_ids=pipeline._prepare_latent_image_ids(count, height // 2, width // 2, device, dtype),
            return_dict=False,
        )[0]
        scale = self._scale
        unpacked: Tensor = pipeline._unpack_latents(velocity.float(), height * scale, width * scale, scale)
        return unpacked

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`StateDecoder.decode`: pictures in view of none."""
        return np.stack([self.decode_next(state, (), seed=seed) for state in z])

    @torch.no_grad()
    def decode_next(self, z: Tensor, earlier: Sequence[Picture], *, seed: int) -> Picture:
        """See :meth:`StateDecoder.decode_next`."""
        seen = earlier[max(0, len(earlier) - self.memory) :]
        grid, mask = self._grid(seen, new=len(seen))
        side = len(grid)
        text = self.redux(z[None].to(self.vae.device, self.vae.dtype))
        painted = self._pipeline(
            image=Image.fromarray(grid), mask_image=Image.fromarray(mask), height=side, width=side,
            num_inference_steps=self.options.sample_steps, guidance_scale=self.rolling.guidance,
            generator=torch.Generator().manual_seed(seed % 2**63), output_type="np", **text,
        ).images[0]  # fmt: skip
        picture: Picture = cells_of(np.asarray((painted * 255).round(), np.uint8))[len(seen)]
        return picture

    def repaint(self, rows: Sequence[Row], *, seed: int) -> Pictures:
        """See :meth:`TrainedDecoder.repaint`; each row in view of its own earlier key frames."""
        return np.stack([
            self.decode_next(torch.as_tensor(row["state"]), list(np.asarray(row["earlier"])), seed=seed)
            for row in rows
        ])  # fmt: skip

    def _grid(self, pictures: Sequence[Picture], *, new: int) -> tuple[Picture, Picture]:
        """Return a grid and its mask, which leaves the cell ``new`` to be painted."""
        return masked_grid(pictures, self.picture_px, slice(new, new + 1))

    @torch.no_grad()
    def _latents(self, images: Tensor) -> Tensor:
        """Return float32 latents, not scaled, of pictures in [-1, 1]."""
        latents: Tensor = self.vae.encode(images.to(self.vae.dtype)).latent_dist.mode()
        return latents.float()

    def _scaled(self, latents: Tensor) -> Tensor:
        scaled: Tensor = (latents - self.vae.config.shift_factor) * self.vae.config.scaling_factor
        return scaled

    def _known(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return what the pipeline shows of a grid: its masked latents and its mask, packed."""
        count, _, height, width = images.shape
        latents = self._latents(images * (1 - mask))
        shown, packed = self._pipeline.prepare_mask_latents(
            mask, latents, count, self._channels, 1, height, width, torch.float32, images.device, None
        )
        return torch.cat([packed, shown], dim=-1)
