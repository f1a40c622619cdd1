"""The choice of the pictures that are decoded: those that others refer to, and some more.

Encoders store a third to three quarters of the pictures so that no other picture refers to them; leaving
them out changes no other picture. Around a change of the scene all pictures are wanted: there the encoder
spends more bytes than before, or a key frame, so all pictures that follow such a packet are decoded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from typing import TypeAlias

from models.media.losses import AnyPacket
from models.media.pictures import seconds

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


class Choice:
    """Chooses for every packet, in the order of the file, whether its picture must be decoded.

    Args:
        wanted: whether a picture must be decoded in any case; called with the times of the one before and
            of its own, in seconds.
        origin_s: the time that counts as 0; see :func:`models.media.start_of`.
    """

    def __init__(self, wanted: Wanted, origin_s: float) -> None:
        self._wanted, self._origin_s = wanted, origin_s
        self._sizes: deque[int] = deque([0], maxlen=LOOK_BACK)
        self._sent: deque[int] = deque(maxlen=LOOK_BACK)
        self._following = 0

    def __call__(self, packet: AnyPacket) -> bool:
        large = packet.is_keyframe or packet.size > LARGE * max(self._sizes)
        if not packet.is_keyframe:
            self._sizes.append(packet.size)
        self._following = FOLLOWING if large else self._following - 1
        if packet.pts is None or packet.time_base is None:
            return True
        # A picture that others do not refer to is sent after those shown before and after it.
        before = max((pts for pts in self._sent if pts < packet.pts), default=packet.pts)
        self._sent.append(packet.pts)
        before_s, time_s = (seconds(pts, packet.time_base, self._origin_s) for pts in (before, packet.pts))
        return self._following >= 0 or self._wanted(before_s, time_s)


class Skips:
    """Pictures that need not be decoded, until those behind them come out."""

    def __init__(self, origin_s: float) -> None:
        self._origin_s = origin_s
        self._waiting: list[tuple[int, int, Fraction]] = []

    def sent(self, packet: AnyPacket) -> None:
        """Record a packet whose picture may be skipped."""
        assert packet.pts is not None and packet.time_base is not None
        heappush(self._waiting, (packet.pts, packet.duration or 0, packet.time_base))

    def before(self, pts: float) -> Iterator[Skipped]:
        """Yield the pictures before one that comes out, in order, and forget them."""
        while self._waiting and self._waiting[0][0] <= pts:
            at, duration, base = heappop(self._waiting)
            if at < pts:
                yield Skipped(time_s=seconds(at, base, self._origin_s), duration_s=float(duration * base))


def is_near(times_s: Sequence[float], time_s: float) -> bool:
    """Return whether a time is one of some, which are in order."""
    at = bisect_left(times_s, time_s - NEAR_S)
    return at < len(times_s) and times_s[at] < time_s + NEAR_S
