"""Pictures of a video file of which only those are decoded that others refer to, and some more.

Encoders store a third to three quarters of the pictures so that no other picture refers to them; leaving
them out changes no other picture. Around a change of the scene all pictures are wanted: there the encoder
spends more bytes than before, or a key frame, so all pictures that follow such a packet are decoded.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TypeAlias

from av.container import InputContainer
from av.video.stream import VideoStream

from models.media.container import DAMAGE, decoded, picture_stream
from models.media.losses import AnyPacket, Losses
from models.media.pictures import Bounds, Frame, Timeline

LOOK_BACK = 12
"""Packets that a packet's size is compared with."""
LARGE = 1.25
"""Size from which a packet is large, as a multiple of the largest of them."""
FOLLOWING = 3
"""Packets after a large one whose pictures are all decoded: they are shown before it."""

NEAR_S = 1e-4
"""Times of a picture in two decodings may differ by rounding."""

Wanted: TypeAlias = Callable[[float, float], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A picture that was not decoded; see :class:`Frame` for its times."""

    time_s: float
    duration_s: float


class NotSparseError(Exception):
    """The file is damaged or cannot be sought in: all of its pictures must be decoded in order."""


class _Choice:
    """Chooses before every packet whether the decoder may skip its picture.

    Attributes:
        waiting: durations of pictures that did not come out, by presentation time, in ticks.
    """

    def __init__(self, stream: VideoStream, wanted: Wanted, origin_s: float) -> None:
        self._context, self._base = stream.codec_context, stream.time_base or Fraction(1)
        self._wanted, self._origin_s = wanted, origin_s
        self._sizes: deque[int] = deque([0], maxlen=LOOK_BACK)
        self._sent: deque[int] = deque(maxlen=LOOK_BACK)
        self._following = 0
        self.waiting: dict[int, int] = {}

    def __call__(self, packet: AnyPacket) -> None:
        large = packet.is_keyframe or packet.size > LARGE * max(self._sizes)
        if not packet.is_keyframe:
            self._sizes.append(packet.size)
        self._following = FOLLOWING if large else self._following - 1
        needed = self._following >= 0
        if packet.pts is not None:
            # A picture that others do not refer to is sent after those shown before and after it.
            before = max((pts for pts in self._sent if pts < packet.pts), default=packet.pts)
            needed = needed or self._wanted(self.seconds(before), self.seconds(packet.pts))
            self._sent.append(packet.pts)
            self.waiting[packet.pts] = packet.duration or 0
        self._context.skip_frame = "DEFAULT" if needed else "NONREF"

    def seconds(self, pts: int) -> float:
        """Return the time of a picture in seconds."""
        return round(float(pts * self._base) - self._origin_s, 6)

    def passed(self, pts: float) -> list[Skipped]:
        """Return and forget the pictures before a time that did not come out."""
        gone = sorted(at for at in self.waiting if at < pts)
        return [
            Skipped(time_s=self.seconds(at), duration_s=float(self.waiting.pop(at) * self._base))
            for at in gone
        ]


def sparse_frames(
    container: InputContainer, wanted: Wanted, *, bounds: Bounds, losses: Losses
) -> Iterator[Frame | Skipped]:
    """Decode the pictures that others refer to, in order of presentation, with a mark for each skipped one.

    Args:
        wanted: whether a picture must be decoded in any case; called with the times of the one before and
            of its own, in seconds.
        losses: records the key frames.

    Raises:
        MediaError: the file exceeds ``bounds``.
        NotSparseError: pictures are lost; only a full decode can tell which.
    """
    stream = picture_stream(container)
    if stream is None:
        return
    if container.format.name == "avi":
        raise NotSparseError("AVI stores no presentation times")
    stream.thread_type = "AUTO"
    timeline = Timeline(container, bounds)
    choice = _Choice(stream, wanted, timeline.origin_s)
    started = False
    for picture in decoded(container, stream, losses, before=choice):
        frame = timeline.place(picture)
        if frame is None or losses.damaged or picture.pts is None:
            raise NotSparseError("pictures are lost")
        skipped = choice.passed(picture.pts)
        choice.waiting.pop(picture.pts, None)
        # Before the first picture there is none that they could refer to.
        if started:
            yield from skipped
        started = True
        yield frame
    if losses.damaged:
        raise NotSparseError("pictures are lost")
    if started:
        yield from choice.passed(math.inf)


def read_again(
    container: InputContainer, wanted: Sequence[Sequence[float]], keys_s: Sequence[float], *, bounds: Bounds
) -> Iterator[tuple[int, Frame]]:
    """Decode the pictures of some times: (number of the stretch, picture).

    Args:
        wanted: times of the pictures of each stretch; all in order.
        keys_s: times of the key frames, in order.

    Raises:
        NotSparseError: the container cannot go to the place before a stretch.
    """
    stream = picture_stream(container)
    if stream is None:
        return
    base = stream.time_base or Fraction(1)
    for group in _grouped(wanted, keys_s):
        timeline = Timeline(container, bounds)
        times_s = [time_s for number in group for time_s in wanted[number]]
        key_s = keys_s[max(0, bisect_right(keys_s, times_s[0]) - 1)]
        try:
            container.seek(round((key_s + timeline.origin_s) / base), stream=stream)
        except DAMAGE as error:
            raise NotSparseError("the container cannot seek") from error

        started = False
        for picture in decoded(
            container, stream, before=partial(_choose, stream, times_s, timeline.origin_s)
        ):
            frame = timeline.place(picture)
            if frame is None:
                continue
            if not started and frame.time_s > times_s[0] + NEAR_S:
                raise NotSparseError("the container went behind the place")
            started = True
            if frame.time_s > times_s[-1] + NEAR_S:
                break
            if is_near(times_s, frame.time_s):
                yield next(n for n in group if frame.time_s < wanted[n][-1] + NEAR_S), frame


def is_near(times_s: Sequence[float], time_s: float) -> bool:
    """Return whether a time is one of some, which are in order."""
    at = bisect_left(times_s, time_s - NEAR_S)
    return at < len(times_s) and times_s[at] < time_s + NEAR_S


def _choose(stream: VideoStream, times_s: Sequence[float], origin_s: float, packet: AnyPacket) -> None:
    """Let the decoder skip pictures of other times."""
    time_s = float((packet.pts or 0) * (stream.time_base or 1)) - origin_s
    needed = packet.pts is None or is_near(times_s, time_s)
    stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"


def _grouped(wanted: Sequence[Sequence[float]], keys_s: Sequence[float]) -> list[list[int]]:
    """Numbers of the stretches, those together between which there is no key frame."""
    groups: list[list[int]] = []
    for number, times_s in enumerate(wanted):
        before_s = wanted[number - 1][-1] if number else -math.inf
        if groups and bisect_right(keys_s, times_s[0]) == bisect_right(keys_s, before_s):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups
