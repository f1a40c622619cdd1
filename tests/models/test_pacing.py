"""Rate at which an endpoint is asked."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from models.pacing import FIRST_WAIT_S, LONGEST_WAIT_S, SILENCES, Pace, backoff_s, retry_after_s

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Fri, 01 May 2026 12:00:09 GMT"}, 9.0),
        ({"retry-after": "Fri, 01 May 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Fri, 01 May 2026 12:00:09 +99999999999999999999"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_to_be_left_alone(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOON) == seconds


def test_a_busy_server_halves_the_pace_once_for_all_that_was_on_its_way() -> None:
    pace = Pace("here", 8)
    sent = time.monotonic()
    for _ in range(8):
        pace.busy(sent, None)
    assert pace.limit == 4
    pace.busy(time.monotonic(), None)
    assert pace.limit == 2
    for _ in range(9):
        pace.busy(time.monotonic(), None)
    assert pace.limit == 1 and pace.has_room, "one is always tried"


def test_the_pace_grows_by_one_a_round_up_to_what_is_allowed() -> None:
    pace = Pace("here", 4)
    pace.busy(time.monotonic(), None)
    assert pace.limit == 2
    for _ in range(2):
        pace.answered()
    assert 2.8 < pace.limit <= 3
    for _ in range(50):
        pace.answered()
    assert pace.limit == 4


def test_an_address_that_is_silent_rests_until_it_is_heard() -> None:
    pace = Pace("here", 4)
    for number in range(SILENCES):
        assert not pace.resting, number
        pace.silent()
    assert pace.resting
    pace.spoke()
    assert not pace.resting


def test_waits_double_up_to_a_bound() -> None:
    for tries in range(1, 40):
        most = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1))
        assert 0.75 * most <= backoff_s(tries) <= most
