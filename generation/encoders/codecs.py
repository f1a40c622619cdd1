"""Videos to the latents that the generator works in, and back."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from torch import Tensor

from generation import config
from pipeline.platform.config import ConfigError

Videos = NDArray[np.uint8]
"""RGB videos ``[n, frames, height, width, 3]``."""


class VideoCodec(ABC):
    """Latents of about unit scale.

    Attributes:
        channels: of a latent.
        temporal_stride: frames that share one latent frame; the first frame has its own.
        spatial_stride: pixels along a side of one latent place.
        device: where it runs; may be changed.
    """

    channels: int
    temporal_stride: int
    spatial_stride: int
    device: str | torch.device = "cpu"

    @abstractmethod
    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """One video ``[frames, height, width, 3]`` to float32 latents ``[channels, f', h', w']``."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Videos:
        """Latents ``[n, channels, f', h', w']`` to videos."""

    def latent_shape(self, options: config.Generator) -> tuple[int, int, int, int]:
        """``(channels, f', h', w')`` of a clip of these options.

        Raises:
            ConfigError: the codec cannot make latents of this size.
        """
        if (options.frames - 1) % self.temporal_stride:
            raise ConfigError(
                f"generator.frames: the codec takes {self.temporal_stride}k + 1 frames, not "
                f"{options.frames}; {_nearest(options.frames, self.temporal_stride)} would do"
            )
        for key, size in (("height_px", options.height_px), ("width_px", options.width_px)):
            if size % self.spatial_stride:
                raise ConfigError(
                    f"generator.{key}: the codec takes multiples of {self.spatial_stride}, not {size}"
                )
        return (
            self.channels,
            (options.frames - 1) // self.temporal_stride + 1,
            options.height_px // self.spatial_stride,
            options.width_px // self.spatial_stride,
        )


def load_codec(options: config.Codec, *, device: str | torch.device = "cpu") -> VideoCodec:
    """The codec that the recipe names; its weights are read at first use."""
    if options.path is None:
        return Pixels()
    return WanCodec(options.path, device=device)


class Pixels(VideoCodec):
    """No compression: the values themselves, in [-1, 1]."""

    channels, temporal_stride, spatial_stride = 3, 1, 1

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        return _to_unit(video)

    def decode(self, latents: Tensor) -> Videos:
        return _to_bytes(latents)


class WanCodec(VideoCodec):
    """Wan's causal video autoencoder: 4k + 1 frames to k + 1, 8 x 8 pixels to one place.

    Latents are the mean of the posterior, standardised by the constants of the weights' configuration,
    as in diffusers' ``WanPipeline``.

    Args:
        path: folder with the weights of ``AutoencoderKLWan``.
        device: where it runs.
    """

    def __init__(self, path: Path, *, device: str | torch.device = "cpu") -> None:
        if not (path / "config.json").is_file():
            raise ConfigError(f"generator.codec.path: {path} holds no config.json of an AutoencoderKLWan")
        self._path, self.device = path, device
        options = AutoencoderKLWan.load_config(path, local_files_only=True)
        self.channels = int(options["z_dim"])
        self.temporal_stride = 2 ** sum(options["temperal_downsample"])
        self.spatial_stride = 2 ** len(options["temperal_downsample"]) * (options.get("patch_size") or 1)
        self._mean = torch.tensor(options["latents_mean"]).view(-1, 1, 1, 1)
        self._std = torch.tensor(options["latents_std"]).view(-1, 1, 1, 1)
        if self._mean.numel() != self.channels or self._std.numel() != self.channels:
            raise ConfigError(
                f"generator.codec.path: {path}: latents_mean and latents_std do not fit z_dim"
            )

    @functools.cached_property
    def _model(self) -> AutoencoderKLWan:
        model = AutoencoderKLWan.from_pretrained(self._path, local_files_only=True, use_safetensors=True)
        return model.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """As the interface says.

        Raises:
            ValueError: not 4k + 1 frames.
        """
        if (len(video) - 1) % self.temporal_stride:
            raise ValueError(
                f"Wan's codec takes {self.temporal_stride}k + 1 frames, not {len(video)}: set "
                f"generator.frames to {_nearest(len(video), self.temporal_stride)}"
            )
        posterior = self._model.to(self.device).encode(_to_unit(video)[None].to(self.device)).latent_dist
        latents: Tensor = posterior.mode()[0].cpu()
        return ((latents - self._mean) / self._std).clone()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Videos:
        raw = latents.float().cpu() * self._std + self._mean
        # One at a time: the decoder's activations are far larger than the videos.
        model = self._model.to(self.device)
        videos = [model.decode(one[None].to(self.device)).sample.cpu() for one in raw]
        return _to_bytes(torch.cat(videos))


def _nearest(frames: int, stride: int) -> int:
    return max(1, round((frames - 1) / stride)) * stride + 1


def _to_unit(video: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(video).permute(3, 0, 1, 2).float() / 127.5 - 1


def _to_bytes(videos: Tensor) -> Videos:
    levels = ((videos.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    result: Videos = levels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
    return result
