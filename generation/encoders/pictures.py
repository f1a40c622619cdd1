"""Pictures as states and networks want them."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.core.states import Pictures


def covering(picture: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return the centre of a picture, cut to the aspect ratio and scaled to the size."""
    scale = max(height_px / picture.shape[0], width_px / picture.shape[1])
    size = max(width_px, round(picture.shape[1] * scale)), max(height_px, round(picture.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, size, interpolation=method)
    top, left = (size[1] - height_px) // 2, (size[0] - width_px) // 2
    return np.ascontiguousarray(scaled[top : top + height_px, left : left + width_px], np.uint8)


def square(images: Pictures, side_px: int) -> Pictures:
    """The central squares ``[n, side_px, side_px, 3]`` of pictures of any one size."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crops = images[:, top : top + side, left : left + side]
    if side == side_px:
        return np.ascontiguousarray(crops)
    how = cv2.INTER_AREA if side > side_px else cv2.INTER_CUBIC
    return np.stack([cv2.resize(crop, (side_px, side_px), interpolation=how) for crop in crops])


def to_network(images: Pictures | Tensor) -> Tensor:
    """RGB pictures to float32 ``[n, 3, height, width]`` in [-1, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def from_network(tensor: Tensor) -> Pictures:
    """The inverse of :func:`to_network`; what lies outside of [-1, 1] is cut off."""
    levels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
