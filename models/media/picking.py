"""Pictures of a video at given times, in one pass over the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import MediaError
from models.media.container import open_media
from models.media.pictures import Frame, frames

Image = NDArray[np.uint8]
"""RGB pictures ``[height, width, 3]`` or ``[n, height, width, 3]``."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pictures to be taken out of a video: at these times, in order, of one size."""

    times_s: list[float]
    height_px: int
    width_px: int


def pick(path: Path, wanted: Sequence[Wanted]) -> Iterator[tuple[int, Image]]:
    """Decode a file once: (place, RGB pictures ``[n, height, width, 3]``) of each wanted, once complete.

    A time gets the frame that is on display then; one after the end gets the last.

    Raises:
        MediaError: it has no pictures, or cannot be opened.
    """
    due = sorted(
        (time_s, index, place)
        for index, one in enumerate(wanted)
        for place, time_s in enumerate(one.times_s)
    )
    done = 0
    pictures: dict[int, list[Image]] = {}
    shown: Frame | None = None
    with open_media(path) as container:
        for frame in chain(frames(container), [None]):
            while done < len(due) and (frame is None or due[done][0] < frame.time_s):
                # Before the first frame, the first is taken.
                source = shown or frame
                if source is None:
                    raise MediaError("no pictures in it")
                _, index, _ = due[done]
                one = wanted[index]
                pictures.setdefault(index, []).append(covering(source, one.height_px, one.width_px))
                done += 1
                if len(pictures[index]) == len(one.times_s):
                    yield index, np.stack(pictures.pop(index))
            if done == len(due):
                return
            shown = frame


def covering(frame: Frame, height_px: int, width_px: int) -> Image:
    """The centre of a frame in RGB, cut to the aspect and scaled to the size."""
    upright = frame.picture.rotation % 180 == 0
    source = (frame.picture.height, frame.picture.width)
    rows, columns = source if upright else source[::-1]
    scale = max(height_px / rows, width_px / columns)
    height, width = max(height_px, round(rows * scale)), max(width_px, round(columns * scale))
    image = frame.bgr(width, height)
    top, left = (height - height_px) // 2, (width - width_px) // 2
    return np.ascontiguousarray(image[top : top + height_px, left : left + width_px, ::-1])
