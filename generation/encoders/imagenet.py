"""States without a download: pooled ImageNet features of the packaged EfficientNet-Lite0.

They say what kind of thing is seen and in which surroundings, and little of where it is: a picture made
from them shares theme, colours and rough layout with the true one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generation.core.states import Pictures, StateEncoder
from models.image_tags import ImageTagger

PICTURES_AT_ONCE = 32


class ImagenetEncoder(StateEncoder):
    """One token of 1,280 non-negative numbers."""

    name = "efficientnet-lite0-pooled"
    tokens = 1
    width = 1280

    def __init__(self) -> None:
        self._network = ImageTagger(threads=torch.get_num_threads())

    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        bgr = images[..., ::-1]
        parts = [
            self._network.features(list(bgr[start : start + PICTURES_AT_ONCE]))
            for start in range(0, len(bgr), PICTURES_AT_ONCE)
        ]
        return torch.cat(parts).unsqueeze(1)
