"""Wan 2.1 and 2.2, and a small transformer of the same class that is trained from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from generation.config import Transformer
from generation.encoders.codecs import VideoCodec
from generation.encoders.weights import description
from generation.generator.backbone import Condition, VideoBackbone, show_states
from pipeline.platform.config import ConfigError

TIME_SCALE = 1000
"""Wan reads times as 0..1000."""
LEAST_TIME = 0.05
"""Bounds the velocity that follows from clean latents."""
IMAGE_MODEL_TEXT_TOKENS = 512
"""Caption tokens that a Wan transformer with image tokens expects; diffusers' attention has it fixed."""


class WanBackbone(VideoBackbone):
    """Wan's transformer, or its two experts.

    Wan 2.2 A14B has one transformer for times from ``boundary`` on and one below. Its TI2V-5B takes a known
    first frame as clean latents whose tokens have time 0 (``expand_timesteps``); Wan's other image-to-video
    models take mask and latents as channels.

    Args:
        experts: one, or that for high noise and that for low noise.
        codec: of the latents.
        boundary: time that separates the experts.
        clean_first_frame: as TI2V-5B has it.

    Raises:
        ConfigError: the transformer's channels do not fit the codec's.
    """

    def __init__(
        self,
        experts: list[WanTransformer3DModel],
        codec: VideoCodec,
        *,
        boundary: float | None = None,
        clean_first_frame: bool = False,
    ) -> None:
        super().__init__()
        self.transformer = experts[0]
        self.transformer_2 = experts[1] if len(experts) > 1 else None
        self.boundary = boundary
        self.clean_first_frame = clean_first_frame
        wan = experts[0].config
        self.channels = codec.channels
        self.text_width = int(wan.text_dim)
        self.image_width = wan.image_dim
        self.patch = tuple(wan.patch_size)
        self._stride = codec.temporal_stride
        plain, with_known = codec.channels, 2 * codec.channels + codec.temporal_stride
        if wan.out_channels != codec.channels or wan.in_channels not in (plain, with_known):
            raise ConfigError(
                f"generator.transformer.path: the transformer takes {wan.in_channels} and gives "
                f"{wan.out_channels} channels; with this generator.codec it must take {plain} (or "
                f"{with_known}, with key frames) and give {codec.channels}"
            )
        self.known_channels = wan.in_channels - plain

    @classmethod
    def load(cls, options: Transformer, codec: VideoCodec) -> WanBackbone:
        """Load a pipeline's transformers; its ``model_index.json`` beside them has the conventions."""
        assert options.path is not None
        whole, index = options.path.parent, "model_index.json"
        settings: dict[str, Any] = {}
        if (whole / index).is_file():
            option = "generator.transformer.path"
            settings = description(whole, index, option=option, of="a diffusers pipeline")
        folders = [options.path]
        boundary = settings.get("boundary_ratio")
        if boundary is not None:
            folders.append(whole / "transformer_2")
        dtype = getattr(torch, options.dtype)
        experts = [
            WanTransformer3DModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype
            )
            for folder in folders
        ]
        return cls(
            experts, codec, boundary=boundary, clean_first_frame=bool(settings.get("expand_timesteps"))
        )

    def transformers(self) -> Mapping[str, nn.Module]:
        """See :meth:`VideoBackbone.transformers`."""
        found: dict[str, nn.Module] = {"transformer": self.transformer}
        return found if self.transformer_2 is None else found | {"transformer_2": self.transformer_2}

    def velocity(self, noisy: Tensor, t: Tensor, condition: Condition, unknown: Tensor | None) -> Tensor:
        """See :meth:`VideoBackbone.velocity`."""
        if self.transformer_2 is None or self.boundary is None:
            return self._velocity(self.transformer, noisy, t, condition, unknown)
        found = torch.zeros_like(noisy)
        high = t >= self.boundary
        for expert, chosen in ((self.transformer, high), (self.transformer_2, ~high)):
            if chosen.any():
                found[chosen] = self._velocity(
                    expert, noisy[chosen], t[chosen], condition.rows(chosen), unknown
                )
            elif self.training:
                # Every process must use every weight, or sharded training waits for ever.
                one = torch.zeros_like(chosen)
                one[0] = True
                found = found + 0 * self._velocity(expert, noisy[one], t[one], condition.rows(one), unknown)
        return found

    def _velocity(
        self, expert: Any, noisy: Tensor, t: Tensor, condition: Condition, unknown: Tensor | None
    ) -> Tensor:
        x, times, tokens = noisy, t * TIME_SCALE, condition.text
        known = condition.known
        if self.known_channels:
            mask = noisy.new_zeros(len(noisy), self._stride, *noisy.shape[2:])
            if known is not None:
                mask[:, :, :1] = 1
            else:
                assert unknown is not None
                known = unknown.to(noisy).expand_as(noisy)
            x = torch.cat([noisy, mask, known.to(noisy)], dim=1)
        elif self.clean_first_frame and known is not None:
            x = torch.cat([known[:, :, :1].to(noisy), noisy[:, :, 1:]], dim=2)
            times = self._token_times(times, noisy)
        if self.image_width is not None:
            tokens = nn.functional.pad(tokens, (0, 0, 0, IMAGE_MODEL_TEXT_TOKENS - tokens.shape[1]))
        dtype = expert.patch_embedding.weight.dtype
        show_states(expert, condition)
        predicted: Tensor = expert(
            hidden_states=x.to(dtype),
            timestep=times,
            encoder_hidden_states=tokens.to(dtype),
            encoder_hidden_states_image=None if condition.images is None else condition.images.to(dtype),
            return_dict=False,
        )[0]
        return predicted.float()

    def _token_times(self, times: Tensor, noisy: Tensor) -> Tensor:
        """Return the time of each token ``[n, tokens]``, 0 in the first latent frame."""
        frames, rows, columns = (
            size // patch for size, patch in zip(noisy.shape[2:], self.patch, strict=True)
        )
        each = times[:, None].expand(-1, frames * rows * columns).clone()
        each[:, : rows * columns] = 0
        return each


class NewWan(WanBackbone):
    """A small Wan transformer with random weights, which predicts clean latents.

    The velocity follows from them (Li and He 2025, arXiv 2511.13720). After minutes of training it renders
    blurred clips, where a small network that predicts the velocity itself still renders noise.
    """

    def __init__(
        self,
        options: Transformer,
        codec: VideoCodec,
        latent_shape: tuple[int, int, int, int],
        *,
        text_width: int,
        keyframe: bool,
    ) -> None:
        known = codec.temporal_stride + codec.channels if keyframe else 0
        transformer = WanTransformer3DModel(
            patch_size=options.patch,
            num_attention_heads=options.heads,
            attention_head_dim=options.head_width,
            in_channels=codec.channels + known,
            out_channels=codec.channels,
            text_dim=text_width,
            ffn_dim=4 * options.heads * options.head_width,
            num_layers=options.layers,
        )
        frames, rows, columns = (
            max(1, size // patch) for size, patch in zip(latent_shape[1:], options.patch, strict=True)
        )
        transformer.patch_embedding = PlacedPatches(
            codec.channels + known,
            options.heads * options.head_width,
            options.patch,
            (frames, rows, columns),
        )
        nn.init.normal_(transformer.proj_out.weight, std=0.02)
        super().__init__([transformer], codec)

    def velocity(self, noisy: Tensor, t: Tensor, condition: Condition, unknown: Tensor | None) -> Tensor:
        """See :meth:`VideoBackbone.velocity`."""
        clean = super().velocity(noisy, t, condition, unknown)
        time = t.float().clamp_min(LEAST_TIME).view(-1, 1, 1, 1, 1)
        return (noisy - clean) / time


class PlacedPatches(nn.Conv3d):
    """Patches to tokens, with a learned vector for each place.

    Wan's rotary positions encode only how far apart two patches are; learning absolute places from them
    takes long training.

    Args:
        channels: of the latents, with those beside them.
        width: of a token.
        patch: frames, rows, columns.
        places: patches along each of them.
    """

    def __init__(
        self, channels: int, width: int, patch: tuple[int, int, int], places: tuple[int, int, int]
    ) -> None:
        super().__init__(channels, width, kernel_size=patch, stride=patch)
        nn.init.orthogonal_(self.weight.view(width, -1))
        self.places = nn.Parameter(torch.randn(width, *places))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens ``[n, width, frames, rows, columns]``."""
        return super().forward(x) + self.places
