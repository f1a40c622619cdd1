"""Image tags and features without a download: EfficientNet-Lite0 on ImageNet's 1,000 classes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import Tensor

from models import weights

SIDE_PX = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class ImageTagger:
    """Classifier of pictures into a closed vocabulary, and the features behind its classes.

    Args:
        threads: fixed, so that results are the same wherever they are computed.
    """

    name = "efficientnet-lite0"

    def __init__(self, *, threads: int) -> None:
        torch.set_num_threads(threads)
        state = torch.load(weights.efficientnet_lite0(), map_location="cpu", weights_only=True)
        self._network = EfficientNet.from_name("efficientnet-lite0").eval()
        self._network.load_state_dict(state)
        self._names: list[str] = json.loads(weights.imagenet_names().read_text(encoding="utf-8"))

    def tag(self, images: Sequence[NDArray[np.uint8]], *, top: int) -> list[tuple[str, float]]:
        """Return the classes most probable over all pictures together.

        Args:
            images: BGR pictures ``[h, w, 3]`` of any size.
            top: how many to return.

        Returns:
            (name, mean probability), most probable first.
        """
        with torch.inference_mode():
            logits = self._network(_batch(images))
            probability = torch.softmax(logits, dim=1).mean(dim=0)
        order = torch.argsort(probability, descending=True)[:top]
        return [(self._names[int(i)], float(probability[i])) for i in order]

    def features(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return the last layer's features, averaged over the places of each picture.

        Args:
            images: BGR pictures ``[h, w, 3]`` of any size.

        Returns:
            float32 ``[n, 1280]``.
        """
        with torch.inference_mode():
            maps: Tensor = self._network.extract_features(_batch(images))
        return maps.mean(dim=(2, 3))


def _batch(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack([_prepare(image) for image in images]))


def _prepare(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Crop to the centre square, 224 x 224, RGB, normalised, channels first."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    small = cv2.resize(square, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    rgb = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
    return np.ascontiguousarray(((rgb - MEAN) / STD).transpose(2, 0, 1))
