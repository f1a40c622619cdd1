"""Videos to latents and back, through the real classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray

from generation import config
from generation.encoders.codecs import load_codec
from pipeline.platform.config import ConfigError

MEAN, STD = [0.5, -0.25, 0.0, 1.0], [2.0, 0.5, 1.0, 4.0]


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small AutoencoderKLWan with Wan's strides."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wan") / "vae"
    AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=MEAN, latents_std=STD
    ).save_pretrained(folder)
    return folder


def video(frames: int, side_px: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (frames, side_px, side_px, 3), np.uint8)


def test_pixels_come_back_as_they_were() -> None:
    codec = load_codec(config.Codec())
    clip = video(3)
    latents = codec.encode(clip)
    assert latents.shape == (3, 3, 16, 16) and latents.dtype == torch.float32
    assert latents.min() >= -1 and latents.max() <= 1
    assert latents[0, 1, 2, 3].item() == pytest.approx(clip[1, 2, 3, 0] / 127.5 - 1)
    assert np.array_equal(codec.decode(latents[None])[0], clip)
    assert codec.decode(torch.full((1, 3, 1, 2, 2), 9.0)).max() == 255


def test_wan_latents_are_standardised_by_its_constants(wan: Path) -> None:
    codec = load_codec(config.Codec(kind="wan", path=wan))
    assert (codec.channels, codec.temporal_stride, codec.spatial_stride) == (4, 4, 8)
    clip = video(5)
    latents = codec.encode(clip)
    assert latents.shape == (4, 2, 2, 2)
    model = AutoencoderKLWan.from_pretrained(wan).eval()
    with torch.no_grad():
        pixels = torch.from_numpy(clip).permute(3, 0, 1, 2).float()[None] / 127.5 - 1
        raw = model.encode(pixels).latent_dist.mode()[0]
        back = model.decode(raw[None]).sample[0]
    for channel in range(4):
        torch.testing.assert_close(latents[channel] * STD[channel] + MEAN[channel], raw[channel])
    expected = ((back + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 3, 0).numpy()
    decoded = codec.decode(latents[None].repeat(2, 1, 1, 1, 1))
    assert decoded.shape == (2, 5, 16, 16, 3) and decoded.dtype == np.uint8
    assert np.abs(decoded[0].astype(float) - expected).max() <= 1
    assert np.array_equal(decoded[0], decoded[1])


def test_the_first_frame_alone_decides_the_first_latent(wan: Path) -> None:
    codec = load_codec(config.Codec(kind="wan", path=wan))
    clip = video(5)
    torch.testing.assert_close(codec.encode(clip)[:, :1], codec.encode(clip[:1]))


def test_wrong_numbers_of_frames_are_refused_with_the_nearest_right_one(wan: Path) -> None:
    codec = load_codec(config.Codec(kind="wan", path=wan))
    with pytest.raises(ValueError, match=r"4k \+ 1 frames, not 8: set generator\.frames to 9"):
        codec.encode(video(8))
    with pytest.raises(ConfigError, match=r"generator\.frames: .* not 8; 9 would do"):
        codec.latent_shape(config.GeneratorSettings(frames=8))
    with pytest.raises(ConfigError, match=r"generator\.width_px: the codec takes multiples of 8, not 50"):
        codec.latent_shape(config.GeneratorSettings(width_px=50))
    assert codec.latent_shape(config.GeneratorSettings(frames=81, height_px=480, width_px=832)) == (
        4,
        21,
        60,
        104,
    )


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"generator\.codec\.path: {tmp_path} holds no config\.json"):
        load_codec(config.Codec(kind="wan", path=tmp_path))
