"""Pictures that a damaged file lost."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from fractions import Fraction
from typing import Any, TypeAlias

from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

MAX_WAITING = 256
"""Packets whose picture may still come: decoder threads and pictures that refer to later ones."""
MAX_SMEAR_S = 10.0
"""Bound on how long damage is visible where no key frame ends it: encoders refresh blocks one by one."""

AnyPacket: TypeAlias = "Packet[Any]"
Gap = tuple[float, float]
"""Start and end in seconds."""


class Losses:
    """Pictures of a stream that were lost while it was decoded.

    A decoder with threads reports a damaged packet late, so a lost picture is recognised by its packet's
    time: it was sent before an error was reported and never came out.

    Attributes:
        failed_packets: packets that the decoder refused.
        skipped: pictures that came out and could not be placed in time.
        end_s: end of the last packet of any stream, by the container's clock.
    """

    def __init__(self) -> None:
        self.failed_packets = 0
        self.skipped = 0
        self.end_s = -math.inf
        self._waiting: dict[int, None] = {}
        self._lost: set[int] = set()
        self._keys = array("q")
        self._base: Fraction | None = None

    @property
    def damaged(self) -> bool:
        """Tell whether pictures were lost so far."""
        return bool(self.failed_packets or self._lost)

    def key_times(self, origin_s: float) -> list[float]:
        """Return the times of the key frames in seconds, in order; see :meth:`gaps`."""
        base = self._base or Fraction(1)
        return [round(float(pts * base) - origin_s, 6) for pts in sorted(set(self._keys))]

    def read(self, packet: AnyPacket) -> None:
        """Record a packet of any stream that was read."""
        if packet.pts is not None and packet.time_base is not None:
            self.end_s = max(self.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def sent(self, packet: AnyPacket) -> None:
        """Record a packet that goes to the decoder."""
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            return
        self._base = packet.time_base
        self._waiting[pts] = None
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        if packet.is_keyframe:
            self._keys.append(pts)
        if packet.is_corrupt:
            self._lost.add(pts)

    def failed(self) -> None:
        """Record that the decoder reported damage."""
        self.failed_packets += 1
        self._lost.update(self._waiting)

    def came(self, frame: VideoFrame | AudioFrame) -> None:
        """Record a frame that came out of the decoder."""
        if frame.pts is not None:
            self._waiting.pop(frame.pts, None)
            if not frame.is_corrupt:
                self._lost.discard(frame.pts)

    def gaps(self, origin_s: float) -> list[Gap]:
        """Stretches of lost or smeared pictures, in order, without overlap.

        Each reaches from a lost picture to the next key frame, because pictures in between refer to it.

        Args:
            origin_s: the time that counts as 0; see :func:`models.media.start_of`.
        """
        found: list[Gap] = []
        if self._base is None:
            return found
        keys = sorted(set(self._keys) - self._lost)
        for pts in sorted(self._lost):
            start_s = float(pts * self._base) - origin_s
            end_s = start_s + MAX_SMEAR_S
            after = bisect_right(keys, pts)
            if after < len(keys):
                end_s = min(end_s, float(keys[after] * self._base) - origin_s)
            if found and start_s <= found[-1][1]:
                found[-1] = (found[-1][0], max(end_s, found[-1][1]))
            else:
                found.append((start_s, end_s))
        return [(round(start_s, 6), round(end_s, 6)) for start_s, end_s in found]
