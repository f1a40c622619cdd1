"""The network evaluated with numpy, and what it makes of drawn text."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from stages.watermark.appearance import STRIDE, Appearance, Layer, convolved


@pytest.mark.parametrize("layer", [Layer(3, 4, stride=2), Layer(2, 5, dilation=3), Layer(4, 1, side=1)])
@pytest.mark.parametrize("size", [(16, 24), (17, 23)])
def test_a_convolution_is_that_of_torch(layer: Layer, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(layer.inputs, *size)).astype(np.float32)
    weight = rng.normal(size=(layer.outputs, layer.inputs, layer.side, layer.side)).astype(np.float32)
    bias = rng.normal(size=layer.outputs).astype(np.float32)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(planes)[None], torch.from_numpy(weight), torch.from_numpy(bias),
        stride=layer.stride, padding=layer.dilation * (layer.side // 2), dilation=layer.dilation,
    )[0].numpy()  # fmt: skip
    np.testing.assert_allclose(
        convolved(planes, layer, weight.reshape(layer.outputs, -1), bias), expected, atol=1e-4
    )


def test_drawn_words_stand_out_from_a_soft_scene() -> None:
    rng = np.random.default_rng(1)
    scene = cv2.GaussianBlur(rng.normal(128, 400, (216, 384)), (0, 0), 6).clip(0, 255).astype(np.uint8)
    words = cv2.putText(
        scene.copy(), "cook.example", (200, 200), cv2.FONT_HERSHEY_DUPLEX, 0.7, 255, 1, cv2.LINE_AA
    )
    clean, drawn = (Appearance().probability(np.asarray(gray)) for gray in (scene, words))
    assert drawn.shape == (216 // STRIDE, 384 // STRIDE)
    assert drawn[21:26, 25:45].max() > 0.8
    assert clean.max() < 0.5
