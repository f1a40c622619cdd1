"""Pictures of a video file, decoded in order of presentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from models.media.container import picture_stream, start_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A decoded picture and the time at which it is shown.

    Attributes:
        time_s: presentation time in seconds, 0 at the container's start.
        duration_s: how long it is shown, 0 where the file does not say.
    """

    time_s: float
    duration_s: float
    picture: VideoFrame

    def bgr(self, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """The picture scaled by averaging, upright, as ``[height, width, 3]`` in BGR order."""
        turn = self.picture.rotation % 360
        width, height = (height_px, width_px) if turn in (90, 270) else (width_px, height_px)
        # Two steps: swscale's scaling straight into bgr24 tints what is nearly black.
        scaled = self.picture.reformat(width=width, height=height, interpolation="AREA")
        image = scaled.to_ndarray(format="bgr24")
        # PyAV's rotation is counter-clockwise, and so is numpy's.
        return np.ascontiguousarray(np.rot90(image, turn // 90) if turn else image, dtype=np.uint8)


def frames(container: InputContainer) -> Iterator[Frame]:
    """Decode the picture stream, in order of presentation.

    AVI tells only when a picture is decoded, and what the demuxer makes a presentation time of leaps
    to and fro where pictures refer to later ones. They leave the decoder in order and a constant delay
    after their own decoding times, so these place them.

    Pictures without a time, or with one that does not advance, are passed over: they cannot be
    placed. Decoding ends quietly at damage that the decoder cannot cross; the caller sees how far it
    came.
    """
    stream = picture_stream(container)
    if stream is None:
        return
    stream.thread_type = "AUTO"
    origin_s = start_of(container)
    only_decoding_times = container.format.name == "avi"
    delay = 0
    last_pts: int | None = None
    try:
        for picture in container.decode(stream):
            pts, dts, base = picture.pts, picture.dts, picture.time_base
            if only_decoding_times and pts is not None:
                if last_pts is None:
                    delay = 0 if dts is None else pts - dts
                else:
                    # The last pictures come out when nothing is left to decode.
                    pts = last_pts + max(1, picture.duration or 0) if dts is None else dts + delay
            if pts is None or base is None or (last_pts is not None and pts <= last_pts):
                continue
            last_pts = pts
            yield Frame(
                time_s=round(float(pts * base) - origin_s, 6),
                duration_s=float((picture.duration or 0) * base),
                picture=picture,
            )
    except FFmpegError:
        return
