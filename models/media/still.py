"""One picture of a video at a given time, without decoding all that comes before it."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.errors import MediaError
from models.media.container import DAMAGE, open_media, start_of
from models.media.pictures import Frame, frames

MAX_PICTURES = 1500
"""Pictures decoded behind the key frame: about a minute of video."""
MICROSECONDS = 1_000_000


def picture_at(source: Path | BinaryIO, time_s: float, *, max_side_px: int) -> NDArray[np.uint8]:
    """Return the picture that is on display at a time, as BGR ``[height, width, 3]``.

    After the end it is the last one. Where key frames are more than ``MAX_PICTURES`` pictures apart, it is
    an earlier one.

    Args:
        source: path, or a seekable file of bytes.
        max_side_px: longer sides are reduced to it.

    Raises:
        MediaError: there is no picture, or the file cannot be opened.
        TransientError: the disk or the network failed.
    """
    shown: Frame | None = None
    with open_media(source) as container:
        target = round((max(0.0, time_s) + start_of(container)) * MICROSECONDS)
        # A container without an index is decoded from its start.
        with suppress(*DAMAGE):
            container.seek(target)
        for frame in islice(frames(container), MAX_PICTURES):
            if shown is not None and frame.time_s > time_s:
                break
            shown = frame
        if shown is None:
            raise MediaError("no picture at that time")
        upright = shown.picture.rotation % 180 == 0
        width, height = shown.picture.width, shown.picture.height
        width, height = (width, height) if upright else (height, width)
        scale = min(1.0, max_side_px / max(width, height))
        return shown.bgr(max(1, round(width * scale)), max(1, round(height * scale)))
