"""Pictures of a short span of a video, read by a seek."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import av
import numpy as np

from models.errors import MediaError
from models.media.container import DAMAGE, open_media, start_of
from models.media.picking import Image, covering
from models.media.pictures import Frame, frames


def read_span(path: Path, times_s: Sequence[float], *, height_px: int, width_px: int) -> Image:
    """Return the pictures that are on display at some times, as RGB ``[n, height, width, 3]``.

    Decoding starts at the key frame before the first time and ends behind the last.

    Args:
        times_s: seconds of presentation time, in order.

    Raises:
        MediaError: the file has no pictures there, or cannot be opened.
        TransientError: the disk or the network failed.
    """
    pictures: list[Image] = []
    shown: Frame | None = None
    with open_media(path) as container:
        # A container that cannot seek is decoded from its start.
        with suppress(*DAMAGE):
            container.seek(max(0, int((start_of(container) + times_s[0]) * av.time_base)))
        for frame in chain(frames(container), [None]):
            while len(pictures) < len(times_s) and (frame is None or times_s[len(pictures)] < frame.time_s):
                source = shown or frame
                if source is None:
                    raise MediaError(f"no pictures at {times_s[0]:g} s")
                pictures.append(covering(source, height_px, width_px))
            if len(pictures) == len(times_s):
                break
            shown = frame
    return np.stack(pictures)
