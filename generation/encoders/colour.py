"""States with colour, without a download: ImageNet features, a histogram and a thumbnail.

Pooled ImageNet features name the kind of scene; they lose most of its colours and layout. The histogram
(hue, saturation, value) and the 8 x 8 thumbnail (CIE Lab) add both: pictures of one kitchen are then
closer to each other than pictures of the same action elsewhere.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.core.states import Pictures, StateEncoder
from generation.encoders.imagenet import ImagenetEncoder

BINS = (12, 3, 3)
"""Of hue, saturation and value."""
SIDE_PX = 8
PARTS = (ImagenetEncoder.width, BINS[0] * BINS[1] * BINS[2], 3 * SIDE_PX * SIDE_PX)
"""Widths of the three parts."""
COLOURS = PARTS[1] + PARTS[2]


class ColourEncoder(StateEncoder):
    """One token: 1,280 pooled features, 108 square roots of histogram shares, 192 Lab values."""

    name = "efficientnet-lite0-pooled+hsv+lab"
    tokens = 1
    width = ImagenetEncoder.width + COLOURS

    def __init__(self) -> None:
        self._features = ImagenetEncoder()

    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        colours = torch.from_numpy(np.stack([colours_of(image) for image in images]))
        return torch.cat([self._features.encode(images), colours[:, None]], 2)


def colours_of(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return histogram and thumbnail ``[300]`` of an RGB picture."""
    # Square roots: the distance of two histograms is then that of Hellinger.
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, list(BINS), [0, 180, 0, 256, 0, 256])
    shares = np.sqrt(counts.ravel() / counts.sum())
    small = cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    thumbnail = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.concatenate([shares, thumbnail.ravel()]).astype(np.float32)
