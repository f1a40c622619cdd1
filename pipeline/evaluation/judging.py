"""Common parts of judging by a vision model: the pictures it is sent, the scores it returns."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_SIDE_PX = 768
JPEG_QUALITY = 88


def as_jpeg(picture: NDArray[np.uint8], max_width_px: int = MAX_SIDE_PX) -> bytes:
    """A picture as JPEG, no larger than it needs to be; nothing but the picture is in it."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((max_width_px, 2 * max_width_px))
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=JPEG_QUALITY)
    return data.getvalue()


def smaller(jpeg: bytes, max_width_px: int) -> bytes:
    """Return a JPEG file of ours again, at most that wide."""
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        return as_jpeg(np.asarray(image.convert("RGB")), max_width_px)


def is_score(value: object, lowest: int, highest: int) -> bool:
    """A whole number on the scale; booleans are none."""
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest
