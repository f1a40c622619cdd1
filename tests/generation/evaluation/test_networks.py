"""Figures from networks: tiny local models of the real classes, held against the classes themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    SiglipImageProcessorPil,
    SiglipModel,
    VideoMAEImageProcessorPil,
    VideoMAEModel,
)

from generation.core.states import Pictures
from generation.evaluation.frechet import frechet_distance
from generation.evaluation.networks import VideoFeatures, VideoMae
from generation.evaluation.text_image import ClipModel, clip_i, clip_t
from tests.support.networks import save_tiny_clip, save_tiny_videomae

TEXTS = ["chop the onion", "a very long text " * 9]


def clips(count: int, frames: int, seed: int = 0) -> list[Pictures]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (frames, 40, 56, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("siglip", [False, True])
def test_clip_t_is_the_models_own_cosine(tmp_path: Path, siglip: bool) -> None:
    """Eight frames, so that all are looked at; the model's logits undone by its scale and bias."""
    folder = save_tiny_clip(tmp_path / "clip", siglip=siglip)
    videos = clips(2, 8)
    found = clip_t(ClipModel(folder), TEXTS, videos)

    model = (SiglipModel if siglip else CLIPModel).from_pretrained(folder)
    prepare = (SiglipImageProcessorPil if siglip else CLIPImageProcessorPil).from_pretrained(folder)
    tokens = CLIPTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt"
    )
    for row, video in enumerate(videos):
        with torch.inference_mode():
            pixels = prepare(list(video), return_tensors="pt")["pixel_values"]
            logits = model(**tokens, pixel_values=pixels).logits_per_image[:, row]
            logits = (logits - (model.logit_bias if siglip else 0)) / model.logit_scale.exp()
        assert found[row] == pytest.approx(100 * float(logits.mean()), abs=1e-3)


def test_clip_i_of_equal_and_of_other_clips(tmp_path: Path) -> None:
    clip = ClipModel(save_tiny_clip(tmp_path / "clip"))
    made, real = clips(3, 5), clips(3, 5, seed=1)
    assert clip_i(clip, made, made) == pytest.approx([100] * 3, abs=1e-3)
    others = clip_i(clip, made, real)
    assert (others < 99.99).all()
    still = np.repeat(made[0][2:3], 4, axis=0)
    assert clip_i(clip, [still], [still[:1]]) == pytest.approx([100], abs=1e-3)


def test_long_texts_are_counted(tmp_path: Path) -> None:
    assert ClipModel(save_tiny_clip(tmp_path / "clip")).cut(TEXTS) == 1


def test_another_model_is_no_clip(tmp_path: Path) -> None:
    save_tiny_videomae(tmp_path / "mae")
    with pytest.raises(ValueError, match="holds a videomae model; CLIP-T and CLIP-I want one of clip"):
        ClipModel(tmp_path / "mae")


def test_videomae_gives_a_distance_that_may_be_called_fvd(tmp_path: Path) -> None:
    network = VideoMae(save_tiny_videomae(tmp_path / "tiny-mae"))
    assert network.distance == "FVD(VideoMAE, tiny-mae)"
    (four,) = clips(1, 4)
    features = network.features([four, np.repeat(four, 2, axis=0)[:7], four[:2]])
    assert features.shape == (3, 16)
    model = VideoMAEModel.from_pretrained(tmp_path / "tiny-mae")
    prepare = VideoMAEImageProcessorPil.from_pretrained(tmp_path / "tiny-mae")
    with torch.inference_mode():
        hidden = model(**prepare(list(four), return_tensors="pt")).last_hidden_state
    assert features[0] == pytest.approx(hidden.mean(dim=1)[0].numpy(), abs=1e-5)
    assert features[1] == pytest.approx(features[0]), "frames 0, 2, 4 and 6 of the doubled clip"


def test_no_other_network_is_called_fvd(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds a clip model; a video network must be a VideoMAE"):
        VideoMae(save_tiny_clip(tmp_path / "clip"))
    assert VideoFeatures(Brightness()).distance == "frechet(mean and change of brightness)"


class Brightness:
    """A picture network whose features can be worked out by hand."""

    name = "brightness"

    def encode(self, images: Pictures) -> Tensor:
        return torch.from_numpy(images.reshape(len(images), 1, -1).mean(axis=2, keepdims=True))


def test_video_features_are_mean_and_change() -> None:
    video = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (10, 30, 20)])
    assert VideoFeatures(Brightness()).features([video]).tolist() == [[20.0, 15.0]]
    with pytest.raises(ValueError, match="at least 2 frames of a clip, found 1"):
        VideoFeatures(Brightness()).features([video[:1]])


def test_video_features_tell_frozen_and_shuffled_clips_from_moving_ones() -> None:
    """Every frame of these clips is a true one; only their motion is wrong."""
    random = np.random.default_rng(3)
    ramps = [
        np.clip(np.arange(8)[:, None, None, None] * 9 + random.integers(0, 150), 0, 255).astype(np.uint8)
        * np.ones((1, 4, 4, 3), np.uint8)
        for _ in range(60)
    ]
    network = VideoFeatures(Brightness())
    real = network.features(ramps[:30])
    moving = frechet_distance(network.features(ramps[30:]), real)
    frozen = [np.repeat(ramp[4:5], 8, axis=0) for ramp in ramps[30:]]
    shuffled = [ramp[random.permutation(8)] for ramp in ramps[30:]]
    assert frechet_distance(network.features(frozen), real) > moving + 50
    assert frechet_distance(network.features(shuffled), real) > moving + 50
