"""One process at a time works in a place of a bucket, whatever happens to the one before."""

from __future__ import annotations

import json
import platform
import time

import pytest

from models.errors import UsageError
from pipeline.platform import lease
from pipeline.platform.lease import LEASE, Lease
from pipeline.platform.storage import Store
from tests.support.buckets import bucket, s3_server

__all__ = ["bucket", "s3_server"]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    monkeypatch.setattr(lease, "SILENT_S", 0.5)
    monkeypatch.setattr(lease, "POLL_S", 0.1)


def claim_on(url: str) -> Lease:
    return Lease(Store(url), f"OUTPUT {url}", "run")


def test_a_holder_that_lives_keeps_its_place(bucket: str) -> None:
    beats: list[float] = []
    first = claim_on(bucket)
    first.claim(on_beat=lambda: beats.append(time.monotonic()))
    with pytest.raises(
        UsageError, match=r"OUTPUT s3://.*: another run is at work in it on .*, process \d+"
    ):
        claim_on(bucket).claim()
    assert beats and not first.lost
    first.release()
    assert Store(bucket).head(LEASE) is None


def test_a_silent_holder_loses_its_place_and_notices_when_it_wakes(bucket: str) -> None:
    first, second = claim_on(bucket), claim_on(bucket)
    first.claim()
    first.stop()
    second.claim()
    assert not second.lost
    # It wakes up: its next renewal finds the lease of the other one.
    asleep = claim_on(bucket)
    Store(bucket).delete([LEASE])
    end = time.monotonic() + 5
    while not second.lost:
        assert time.monotonic() < end
        time.sleep(0.01)
    asleep.claim()
    second.release()
    assert Store(bucket).head(LEASE) is not None, "the lease of another one stays"
    asleep.release()


@pytest.mark.parametrize("content", ["{}", "not JSON", '{"host": "elsewhere", "pid": 1}'])
def test_a_lease_that_nobody_renews_is_taken_after_a_while(bucket: str, content: str) -> None:
    Store(bucket).put(LEASE, content.encode())
    started = time.monotonic()
    held = claim_on(bucket)
    held.claim()
    assert time.monotonic() - started >= 0.5
    held.release()


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_taken_at_once(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SILENT_S", 60.0)
    Store(bucket).put(LEASE, json.dumps({"host": platform.node(), "pid": 2**22 + 1}).encode())
    held = claim_on(bucket)
    held.claim()
    held.release()
