"""Pictures of a video file, decoded in order of presentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from models.errors import MediaError
from models.media.container import decoded, picture_stream, start_of
from models.media.losses import Losses


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
        """Return the picture scaled by averaging, upright, as ``[height, width, 3]`` in BGR order."""
        return Scaler(width_px, height_px)(self.picture)


class Scaler:
    """Scales pictures of one stream to one size, by averaging, upright, in BGR order.

    It keeps swscale's tables from picture to picture: they cost more than a small picture itself.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        self._size = width_px, height_px
        self._scale, self._convert = VideoReformatter(), VideoReformatter()

    def __call__(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """Return the picture as ``[height, width, 3]``."""
        turn = picture.rotation % 360
        width, height = self._size[::-1] if turn in (90, 270) else self._size
        # Two steps: swscale's scaling straight into bgr24 tints what is nearly black.
        scaled = self._scale.reformat(picture, width, height, interpolation="AREA", threads=1)
        image = self._convert.reformat(scaled, format="bgr24", threads=1).to_ndarray()
        # PyAV's rotation is counter-clockwise, and so is numpy's.
        return np.ascontiguousarray(np.rot90(image, turn // 90) if turn else image, dtype=np.uint8)


class GrayScaler:
    """Scales grey pictures to one size, by averaging.

    At ratios that are not whole, swscale takes a third to a quarter of OpenCV's time; grey levels differ by
    one at most.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        self._size = width_px, height_px
        self._scale = VideoReformatter()

    def __call__(self, gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a picture ``[h, w]`` as ``[height, width]``."""
        picture = VideoFrame.from_ndarray(gray, format="gray")
        scaled = self._scale.reformat(picture, *self._size, interpolation="AREA", threads=1)
        return np.ascontiguousarray(scaled.to_ndarray(), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits within which a file's pictures are read, whatever its header says.

    Attributes:
        max_span_s: time from the first picture to the last.
        max_hold_s: time between two pictures; a longer one is a leap of the time stamps.
        max_pictures: pictures decoded.
    """

    max_span_s: float = 7200.0
    max_hold_s: float = 60.0
    max_pictures: int = 1_000_000


class Timeline:
    """Places the pictures of a file in time, in order and within bounds.

    AVI stores decoding times only, and the presentation times that the demuxer derives from them leap
    to and fro where pictures refer to later ones. They leave the decoder in order and a constant delay
    after their own decoding times, so these place them.
    """

    def __init__(self, container: InputContainer, bounds: Bounds) -> None:
        self.origin_s = start_of(container)
        self._bounds = bounds
        self._only_decoding_times = container.format.name == "avi"
        self._delay = 0
        self._last_pts: int | None = None
        self._first_s: float | None = None
        self._last_s = 0.0
        self._count = 0

    def place(self, picture: VideoFrame) -> Frame | None:
        """Return the picture with its time; None where it has none, or one that does not advance.

        Raises:
            MediaError: it exceeds a bound.
        """
        pts, base = self._pts(picture), picture.time_base
        if pts is None or base is None:
            self._add()
            return None
        frame = placed(picture, pts, base, self.origin_s)
        return frame if self.follows(pts, frame.time_s) else None

    def follows(self, pts: int, time_s: float) -> bool:
        """Record the next picture, by its time in the stream's units and in seconds.

        Returns:
            Whether it advances.

        Raises:
            MediaError: it exceeds a bound.
        """
        self._add()
        if self._last_pts is not None and pts <= self._last_pts:
            return False
        self._last_pts = pts
        self._check(time_s)
        return True

    def _add(self) -> None:
        self._count += 1
        if self._count > self._bounds.max_pictures:
            raise MediaError(f"more than {self._bounds.max_pictures} pictures", "too_long")

    def _pts(self, picture: VideoFrame) -> int | None:
        pts, dts = picture.pts, picture.dts
        if pts is None and self._last_pts is not None and picture.duration:
            # Transport streams may leave out times: the picture follows the one before.
            return self._last_pts + picture.duration
        if not self._only_decoding_times or pts is None:
            return pts
        if self._last_pts is None:
            self._delay = 0 if dts is None else pts - dts
            return pts
        # The last pictures come out when nothing is left to decode.
        return self._last_pts + max(1, picture.duration or 0) if dts is None else dts + self._delay

    def _check(self, time_s: float) -> None:
        """Refuse time stamps that leap, and pictures beyond the span."""
        if self._first_s is None:
            if abs(time_s) > self._bounds.max_span_s:
                raise MediaError(f"the first picture is at {time_s:.0f} s", "bad_timestamps")
            self._first_s = time_s
        elif time_s - self._last_s > self._bounds.max_hold_s:
            detail = f"time stamps leap from {self._last_s:.2f} s to {time_s:.2f} s"
            raise MediaError(detail, "bad_timestamps")
        elif time_s - self._first_s > self._bounds.max_span_s:
            raise MediaError(f"pictures go on after {self._bounds.max_span_s:g} s", "too_long")
        self._last_s = time_s


def placed(picture: VideoFrame, pts: int, base: Fraction, origin_s: float) -> Frame:
    """Return a picture with its times, given in units of a base."""
    duration_s = float((picture.duration or 0) * base)
    return Frame(time_s=seconds(pts, base, origin_s), duration_s=duration_s, picture=picture)


def seconds(pts: int, base: Fraction, origin_s: float) -> float:
    """Return a time of presentation in seconds.

    Args:
        origin_s: the time that counts as 0.
    """
    return round(float(pts * base) - origin_s, 6)


def frames(
    container: InputContainer, *, bounds: Bounds | None = None, losses: Losses | None = None
) -> Iterator[Frame]:
    """Decode the picture stream, in order of presentation.

    Pictures without a time, or with one that does not advance, are skipped: they cannot be placed.
    Damaged ones are skipped too.

    Args:
        losses: records which pictures are missing.

    Raises:
        MediaError: the file exceeds ``bounds``.
    """
    stream = picture_stream(container)
    if stream is None:
        return
    stream.thread_type = "AUTO"
    losses = losses or Losses()
    timeline = Timeline(container, bounds or Bounds())
    for picture in decoded(container, stream, losses):
        frame = timeline.place(picture)
        if frame is None:
            losses.skipped += 1
        else:
            yield frame
