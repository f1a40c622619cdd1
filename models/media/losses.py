"""Pictures that a damaged file lost."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from fractions import Fraction
from itertools import pairwise
from typing import Any, TypeAlias

from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

MAX_WAITING = 256
"""Packets whose picture may still come: decoder threads and pictures that refer to later ones."""
MAX_SMEAR_S = 10.0
"""Bound on how long damage is visible where no key frame ends it: encoders refresh blocks one by one."""

HOLE_BYTES = 200
"""Bytes of a file between two packets from which some of them were no packet: headers take less."""
HOLE_S = 0.1
HOLE_PICTURES = 2.5
"""Time between two pictures, in seconds and in usual distances, from which others are missing."""
HOLE_REACH = 16
"""Usual distances around a hole within which they lie: pictures are not shown in the order of the file."""
HOLE_PACKETS = 3
"""Packets behind one that the container calls corrupt before which others may be missing."""

AnyPacket: TypeAlias = "Packet[Any]"
Gap = tuple[float, float]
"""Start and end in seconds."""


class Losses:
    """Pictures of a stream that were lost while it was decoded.

    A decoder with threads reports a damaged packet late, so a lost picture is recognised by its packet's
    time: it was sent before an error was reported and never came out. Some decoders show nothing more until
    the next key frame: so pictures are lost, too, that were sent for a time in which none came out after an
    error. Pictures whose packets the demuxer did not find are recognised where bytes, or packets of a
    transport stream, and time are missing at the same place. Pictures that came out incomplete belong to
    the gaps and are not counted.

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
        self._place: tuple[int, int] | None = None
        self._hole = 0
        self._holes: list[tuple[float, float, float]] = []
        self._shown = array("q")
        self._latest = 0
        self._last_came: int | None = None
        self._silent = 0

    @property
    def num_lost(self) -> int:
        """Number of pictures that were lost or could not be placed in time."""
        return max(self.failed_packets, self._silent) + self.missing + self.skipped

    @property
    def damaged(self) -> bool:
        """Tell whether pictures were lost so far."""
        return bool(self.failed_packets or self._lost or self._holes)

    def key_times(self, origin_s: float) -> list[float]:
        """Return the times of the key frames in seconds, in order; see :meth:`gaps`."""
        base = self._base or Fraction(1)
        return [round(float(pts * base) - origin_s, 6) for pts in sorted(set(self._keys))]

    def read(self, packet: AnyPacket, *, in_line: bool = False) -> None:
        """Record a packet of any stream that was read.

        Args:
            in_line: whether the file's packets lie one after the other, with little between them.
        """
        if in_line and packet.pos is not None and packet.pos >= 0:
            before, size = self._place or (packet.pos, 0)
            if packet.pos - (before + size) > HOLE_BYTES:
                self._hole = max(1, self._hole)
            # Packets may share a block, and its place.
            self._place = packet.pos, packet.size + (size if packet.pos == before else 0)
        if packet.pts is not None and packet.time_base is not None:
            self.end_s = max(self.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def sent(self, packet: AnyPacket) -> None:
        """Record a packet that goes to the decoder."""
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            return
        self._base = packet.time_base
        self._look_for_hole(pts)
        self._waiting[pts] = None
        if len(self._waiting) > MAX_WAITING:
            self._silent_at([next(iter(self._waiting))])
        if packet.is_keyframe:
            self._keys.append(pts)
        if packet.is_corrupt:
            self._lost.add(pts)
            self._hole = HOLE_PACKETS

    def _look_for_hole(self, pts: int) -> None:
        """Record a hole before a picture."""
        if self._shown and self._hole:
            reach = HOLE_REACH * self._usual
            low, high = sorted((self._latest, pts))
            self._holes.append((low - reach, high + reach, self._usual))
        self._hole = max(0, self._hole - 1)
        self._latest = max(self._latest, pts) if self._shown else pts
        self._shown.append(pts)

    @property
    def _usual(self) -> float:
        """Distance of two pictures so far, in the stream's units."""
        return max(1.0, (self._latest - self._shown[0]) / max(1, len(self._shown) - 1))

    @property
    def missing(self) -> int:
        """Number of pictures whose packets were not found."""
        return sum(number for _, number in self._missing().values())

    def _missing(self) -> dict[int, tuple[int, int]]:
        """Return (first, number) of pictures whose packets were not found, by the picture before."""
        shown = sorted(self._shown) if self._holes else []
        found = {}
        done = 0
        for low, high, usual in sorted(self._holes):
            least = max(HOLE_PICTURES * usual, HOLE_S / (self._base or 1))
            # Stretches around holes overlap: each picture is looked at once.
            start, end = max(done, bisect_left(shown, low)), bisect_right(shown, high)
            for before, after in pairwise(shown[start:end]):
                if after - before > least:
                    found[before] = before + max(1, round(usual)), round((after - before) / usual) - 1
            done = max(done, end - 1)
        return found

    def failed(self) -> None:
        """Record that the decoder reported damage."""
        self.failed_packets += 1
        self._lost.update(self._waiting)

    def came(self, frame: VideoFrame | AudioFrame) -> None:
        """Record a frame that came out of the decoder."""
        if frame.pts is None:
            return
        self._waiting.pop(frame.pts, None)
        self._look_for_silence(frame.pts)
        self._last_came = frame.pts
        if frame.is_corrupt:
            self._lost.add(frame.pts)
        else:
            self._lost.discard(frame.pts)

    def ended(self) -> None:
        """Record that the decoder has no more frames."""
        self._look_for_silence(self._latest + 1)

    def _look_for_silence(self, following: int) -> None:
        """Record pictures that did not come out before another one, which is shown later."""
        # Frames come out in the order in which they are shown.
        over = [pts for pts in self._waiting if pts < following]
        silent_for = following - (following if self._last_came is None else self._last_came)
        if over and silent_for > HOLE_PICTURES * self._usual:
            self._silent_at(over)
        for pts in over:
            self._waiting.pop(pts, None)

    def _silent_at(self, times: list[int]) -> None:
        """Record pictures that will not come out; only after an error are they lost."""
        for pts in times:
            del self._waiting[pts]
        if self.failed_packets:
            self._silent += len(times)
            self._lost.update(times)

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
        for pts in sorted(self._lost | {first for first, _ in self._missing().values()}):
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
