"""Videos to the latents that the generator works in, and back."""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo, AutoencoderKLWan
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from generation import config
from generation.encoders.memory import in_parts
from generation.encoders.weights import loading
from pipeline.platform.config import ConfigError

YCC = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))
"""Rows: luma and the two chromas of JPEG, of red, green and blue."""
DCT_SCALE = 3.0
"""Deviation of the lowest frequency over real clips; it falls about as one over the frequency."""
SMALLER = (
    "generator.codec, also in tiles; set generator.codec.dtype=bfloat16, or lower generator.frames, "
    "height_px and width_px"
)
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
    def encode_levels(self, video: Tensor) -> Tensor:
        """Return float32 latents ``[channels, f', h', w']`` of levels ``[3, frames, height, width]``.

        Levels are in [-1, 1]; 0 is grey.

        Raises:
            ValueError: a number of frames that the codec does not take.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Videos:
        """Return the videos of latents ``[n, channels, f', h', w']``."""

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Return the latents of a video ``[frames, height, width, 3]``; see :meth:`encode_levels`."""
        return self.encode_levels(_to_unit(video))

    def encode_beginning(
        self, first: NDArray[np.uint8] | None, options: config.GeneratorSettings
    ) -> Tensor:
        """Return the latents of a grey clip, whose first frame is ``first`` if it is given.

        Image-to-video models were trained with these latents where frames are unknown.

        Args:
            first: picture of the clip's size.
            options: frames and size of the clip.
        """
        levels = torch.zeros(3, options.frames, options.height_px, options.width_px)
        if first is not None:
            levels[:, :1] = _to_unit(first[None])
        return self.encode_levels(levels)

    def latent_shape(self, options: config.GeneratorSettings) -> tuple[int, int, int, int]:
        """Return ``(channels, f', h', w')`` of a clip of these options.

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
    """Return the codec that the recipe names; its weights are read at first use.

    Raises:
        ConfigError: the folder holds no such autoencoder.
    """
    if options.kind == "pixels":
        return Pixels()
    if options.kind == "dct":
        return DctCodec()
    return (WanCodec if options.kind == "wan" else LtxCodec)(options, device=device)


class Pixels(VideoCodec):
    """No compression: the levels themselves."""

    channels, temporal_stride, spatial_stride = 3, 1, 1

    def encode_levels(self, video: Tensor) -> Tensor:
        """See :meth:`VideoCodec.encode_levels`."""
        return video

    def decode(self, latents: Tensor) -> Videos:
        """See :meth:`VideoCodec.decode`."""
        return _to_bytes(latents)


class DctCodec(VideoCodec):
    """Blocks of 8 x 8 pixels to the low frequencies of their cosine transform, frame by frame.

    Nothing is trained, so latents mean the same for every dataset. 40 of 192 numbers of a block stay (28 of
    luma, 6 of each chroma), as in a strongly compressed JPEG.
    """

    channels, temporal_stride, spatial_stride = 40, 1, 8

    def __init__(self) -> None:
        places = sorted(itertools.product(range(8), range(8)), key=lambda place: (sum(place), place))
        columns = torch.arange(8)
        cosines = torch.cos((2 * columns[None] + 1) * columns[:, None] * torch.pi / 16) / 2
        cosines[0] /= 2**0.5
        rows, scales = [], []
        for weights, count in zip(YCC, (28, 6, 6), strict=True):
            for u, v in places[:count]:
                pattern = torch.outer(cosines[u], cosines[v])
                rows.append((torch.tensor(weights)[:, None, None] * pattern).flatten())
                scales.append(DCT_SCALE / (1 + u + v))
        self._bases = torch.stack(rows)
        self._scales = torch.tensor(scales)
        self._inverse = torch.linalg.pinv(self._bases)

    def encode_levels(self, video: Tensor) -> Tensor:
        """See :meth:`VideoCodec.encode_levels`."""
        colours, frames, height, width = video.shape
        blocks = video.view(colours, frames, height // 8, 8, width // 8, 8).permute(1, 2, 4, 0, 3, 5)
        values = blocks.flatten(3) @ self._bases.T / self._scales
        return values.permute(3, 0, 1, 2).contiguous()

    def decode(self, latents: Tensor) -> Videos:
        """See :meth:`VideoCodec.decode`."""
        values = latents.float().cpu().permute(0, 2, 3, 4, 1) * self._scales
        blocks = (values @ self._inverse.T).unflatten(-1, (3, 8, 8))
        count, frames, rows, columns = blocks.shape[:4]
        pixels = blocks.permute(0, 4, 1, 2, 5, 3, 6).reshape(count, 3, frames, 8 * rows, 8 * columns)
        return _to_bytes(pixels)


class AutoencoderCodec(VideoCodec):
    """A causal video autoencoder of diffusers.

    Latents are the posterior's mode, standardised as the model's own pipeline does it.

    Args:
        options: with the folder of the weights.
        device: where it runs.
    """

    kind: type[Any]

    def __init__(self, options: config.Codec, *, device: str | torch.device = "cpu") -> None:
        path = options.path
        if path is None or not (path / "config.json").is_file():
            raise ConfigError(
                f"generator.codec.path: {path} holds no config.json of an {self.kind.__name__}"
            )
        self._path, self.device = path, device
        self._dtype = getattr(torch, options.dtype)
        self._mean, self._std = self._read(self.kind.load_config(path, local_files_only=True))

    @abstractmethod
    def _read(self, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Set channels and strides; return mean and deviation of latents ``[channels, 1, 1, 1]``."""

    @functools.cached_property
    def _model(self) -> Any:
        with loading(f"generator.codec.path {self._path}"):
            model = self.kind.from_pretrained(
                self._path, local_files_only=True, use_safetensors=True, torch_dtype=self._dtype
            )
        return model.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode_levels(self, video: Tensor) -> Tensor:
        """See :meth:`VideoCodec.encode_levels`."""
        frames = video.shape[1]
        if (frames - 1) % self.temporal_stride:
            raise ValueError(
                f"the codec takes {self.temporal_stride}k + 1 frames, not {frames}: set generator.frames "
                f"to {_nearest(frames, self.temporal_stride)}"
            )

        def compute(one: Tensor) -> Tensor:
            mode: Tensor = (
                self._model.to(self.device).encode(one.to(self.device, self._dtype)).latent_dist.mode()
            )
            return mode.float().cpu()

        latents = self._tiled_if_needed(compute, video[None])[0]
        return ((latents - self._mean) / self._std).clone()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Videos:
        """See :meth:`VideoCodec.decode`."""
        raw = latents.float().cpu() * self._std + self._mean

        # One at a time: the decoder's activations are far larger than the videos.
        def compute(one: Tensor) -> Tensor:
            return self._decode(one.to(self.device, self._dtype)).cpu()

        return _to_bytes(torch.cat([self._tiled_if_needed(compute, one[None]) for one in raw]))

    def _tiled_if_needed(self, compute: Callable[[Tensor], Tensor], one: Tensor) -> Tensor:
        """Return ``compute`` of one video; in overlapping tiles from when the memory has run out once."""
        try:
            return compute(one)
        except torch.OutOfMemoryError:
            self._model.enable_tiling()
        torch.cuda.empty_cache()
        return in_parts(compute, one, at_once=1, what=SMALLER)

    def _decode(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self._model.to(self.device).decode(latents).sample
        return decoded


class WanCodec(AutoencoderCodec):
    """Wan's autoencoder: 4k + 1 frames to k + 1, 8 x 8 pixels to one place (Wan 2.2 TI2V: 16 x 16)."""

    kind = AutoencoderKLWan

    def _read(self, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
        halves = settings["temperal_downsample"]
        self.channels = int(settings["z_dim"])
        self.temporal_stride = 2 ** sum(halves)
        self.spatial_stride = 2 ** len(halves) * (settings.get("patch_size") or 1)
        mean = torch.tensor(settings["latents_mean"]).view(-1, 1, 1, 1)
        std = torch.tensor(settings["latents_std"]).view(-1, 1, 1, 1)
        if mean.numel() != self.channels or std.numel() != self.channels:
            raise ConfigError(
                f"generator.codec.path: {self._path}: latents_mean and latents_std do not fit z_dim"
            )
        return mean, std


class LtxCodec(AutoencoderCodec):
    """LTX-Video's autoencoder: 8k + 1 frames to k + 1, 32 x 32 pixels to one place.

    Mean and deviation of the latents are tensors among its weights.
    """

    kind = AutoencoderKLLTXVideo

    def _read(self, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
        self.channels = int(settings["latent_channels"])
        patch, patch_t = settings["patch_size"], settings["patch_size_t"]
        halves = settings["spatio_temporal_scaling"]
        self.spatial_stride = settings.get("spatial_compression_ratio") or patch * 2 ** sum(halves)
        self.temporal_stride = settings.get("temporal_compression_ratio") or patch_t * 2 ** sum(halves)
        self._timed = bool(settings.get("timestep_conditioning"))
        found: dict[str, Tensor] = {}
        for file in sorted(self._path.glob("*.safetensors")):
            with safe_open(file, "pt") as opened:
                for name in {"latents_mean", "latents_std"} & set(opened.keys()):
                    found[name] = opened.get_tensor(name).float()
        if len(found) < 2:
            raise ConfigError(f"generator.codec.path: {self._path} holds no latents_mean and latents_std")
        std = found["latents_std"] / settings.get("scaling_factor", 1.0)
        return found["latents_mean"].view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def _decode(self, latents: Tensor) -> Tensor:
        time = latents.new_zeros(len(latents)) if self._timed else None
        decoded: Tensor = self._model.to(self.device).decode(latents, time).sample
        return decoded


def _nearest(frames: int, stride: int) -> int:
    return max(1, round((frames - 1) / stride)) * stride + 1


def _to_unit(video: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(video).permute(3, 0, 1, 2).float() / 127.5 - 1


def _to_bytes(videos: Tensor) -> Videos:
    levels = ((videos.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    result: Videos = levels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
    return result
