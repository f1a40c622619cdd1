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


def fitted(images: Pictures, height_px: int, width_px: int) -> Pictures:
    """Return the centres of pictures of any one size, cut to the aspect ratio and scaled to the size."""
    height, width = images.shape[1:3]
    # At least one: a picture may be a thin line.
    rows = max(1, min(height, round(width * height_px / width_px)))
    columns = max(1, min(width, round(height * width_px / height_px)))
    top, left = (height - rows) // 2, (width - columns) // 2
    crops = images[:, top : top + rows, left : left + columns]
    return resized(crops, height_px, width_px)


def square(images: Pictures, side_px: int) -> Pictures:
    """Return the central squares ``[n, side_px, side_px, 3]`` of pictures of any one size."""
    return fitted(images, side_px, side_px)


def resized(images: Pictures, height_px: int, width_px: int) -> Pictures:
    """Return pictures scaled to a size, squeezed where their aspect ratio is another."""
    if images.shape[1:3] == (height_px, width_px):
        return np.ascontiguousarray(images)
    how = cv2.INTER_AREA if images.shape[1] > height_px else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, (width_px, height_px), interpolation=how) for image in images])


def to_network(images: Pictures | Tensor) -> Tensor:
    """Map RGB pictures to float32 ``[n, 3, height, width]`` in [-1, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def from_network(tensor: Tensor) -> Pictures:
    """Invert :func:`to_network`; values outside of [-1, 1] are clipped."""
    levels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
