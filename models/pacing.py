"""Pace of the requests to an endpoint, and the choice among several.

Requests in flight are halved when an endpoint says that it is busy or says nothing, and grow by one for
each round that goes well, as TCP's congestion avoidance does (Chiu and Jain, 1989). A ``Retry-After``
holds back all requests to the address that sent it, not only the one that it answered.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from models.errors import EndpointError

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
SILENCES = 3
"""Requests in a row without any HTTP answer, after which an address rests while others can be asked."""
LONGEST_REST_S = 60.0

Place = TypeVar("Place")


class Pace(Generic[Place]):
    """State of one address, as its client has learned it.

    Args:
        place: the address.
        most: requests in flight that it is ever sent.

    Attributes:
        limit: requests in flight that it is sent now.
        in_flight: those on their way.
        not_before: time of the monotonic clock until which it asked to be left alone.
        silences: requests in a row that got no HTTP answer.
        abandoned: a question used up all its tries here, and heard nothing since.
        refusal: why it will never answer, once it said so.
    """

    def __init__(self, place: Place, most: int) -> None:
        self.place = place
        self.limit = float(most)
        self.in_flight = 0
        self.not_before = 0.0
        self.silences = 0
        self.abandoned = False
        self.refusal: EndpointError | None = None
        self._most = most
        self._slowed = 0.0
        self._rests_until = 0.0

    @property
    def resting(self) -> bool:
        """Return whether the address was unreachable and its next test is not due yet."""
        return time.monotonic() < self._rests_until

    @property
    def has_room(self) -> bool:
        """Return whether another request may be sent."""
        return self.in_flight < max(1, int(self.limit))

    def answered(self) -> None:
        """Record a request that succeeded."""
        self.spoke()
        self.limit = min(self._most, self.limit + 1 / self.limit)

    def spoke(self) -> None:
        """Record that the address is reachable, whatever it answered."""
        self.silences = 0
        self.abandoned = False
        self._rests_until = 0.0

    def busy(self, sent: float, wait_s: float | None) -> None:
        """Record that the address is overloaded.

        Args:
            sent: when the request was sent; one sent before the last slow-down carries no news.
            wait_s: how long it asks to be left alone.
        """
        now = time.monotonic()
        if sent >= self._slowed:
            self.limit = max(1.0, self.limit / 2)
            self._slowed = now
        if wait_s is not None:
            self.not_before = max(self.not_before, now + wait_s)

    def silent(self) -> None:
        """Record a request without any HTTP answer."""
        self.silences += 1
        if self.silences >= SILENCES:
            rest_s = min(LONGEST_REST_S, 2.0 ** (self.silences - SILENCES))
            self._rests_until = time.monotonic() + rest_s


class WaitTooLongError(Exception):
    """Demand of all addresses to wait for longer than there is time."""


class Traffic:
    """Requests of one event loop."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def slot(
        self, paces: Sequence[Pace[Place]], failures: Counter[int], until: float | None, patience_s: float
    ) -> AsyncIterator[Pace[Place]]:
        """Reserve a place at the least busy of the addresses that have failed least.

        Args:
            paces: of which at least one has not refused.
            failures: of this question, by position in ``paces``.
            until: time of the monotonic clock at which to give up; None: waiting for others costs nothing.
            patience_s: longest pause that is waited for if there is no ``until``.

        Raises:
            WaitTooLongError: no address may be asked in time.
        """
        async with self._changed:
            while (pace := self._next(paces, failures)) is None:
                now = time.monotonic()
                opens = min(
                    (max(each.not_before, now) for each in paces if each.refusal is None),
                    default=float("inf"),
                )
                if opens > (now + patience_s if until is None else until):
                    raise WaitTooLongError(f"it asks to be left alone for {opens - now:.0f} s")
                ends = opens if opens > now else until
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if ends is None else max(0.0, ends - now)):
                        await self._changed.wait()
                if until is not None and time.monotonic() >= until:
                    raise WaitTooLongError("too many requests are before this one")
            pace.in_flight += 1
        try:
            yield pace
        finally:
            pace.in_flight -= 1
            async with self._changed:
                self._changed.notify_all()

    @staticmethod
    def _next(paces: Sequence[Pace[Place]], failures: Counter[int]) -> Pace[Place] | None:
        now = time.monotonic()
        able = [
            (number, pace)
            for number, pace in enumerate(paces)
            if pace.refusal is None and pace.not_before <= now
        ]
        able = [item for item in able if not item[1].resting] or able
        least = min((failures[number] for number, _ in able), default=0)
        free = [pace for number, pace in able if failures[number] == least and pace.has_room]
        return min(free, key=lambda pace: pace.in_flight / pace.limit, default=None)


def backoff_s(tries: int) -> float:
    """Return the wait after some failed tries, in seconds: doubling, with a jitter."""
    wait_s: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1))
    return wait_s * random.uniform(0.75, 1.0)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the wait that a server asks for, in seconds; None if it does not say.

    Args:
        headers: of its answer: ``retry-after-ms``, which some providers send, or ``Retry-After``, seconds
            or a date (RFC 9110, 10.2.3).
        now: with a time zone.
    """
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            seconds = float(headers[name]) * factor
            if 0 <= seconds < float("inf"):
                return seconds
    with suppress(KeyError, ValueError, OverflowError):
        date = parsedate_to_datetime(headers["retry-after"])
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - now).total_seconds())
    return None
