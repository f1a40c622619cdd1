"""What is counted, and how it looks on and off a terminal."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.curation import progress
from pipeline.curation.progress import Tally
from pipeline.curation.worker import Outcome, StageEvent


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def event(stage: str, outcome: Outcome = "measured", seconds: float = 0.5) -> StageEvent:
    return StageEvent(stage=stage, outcome=outcome, seconds=seconds)


def test_off_a_terminal_there_are_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    with Tally(["probe", "scan"], 2) as tally:
        for told in (event("probe"), event("probe", "rejected"), event("scan", "remembered")):
            tally.event(told)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "of 2 videos: probe 1, scan 0",
        "of 2 videos: probe 2, scan 0",
        "of 2 videos: probe 2, scan 1",
    ]


def test_plain_lines_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    with Tally(["probe"], 1000) as tally:
        for _ in range(1000):
            tally.event(event("probe"))
    assert len(capsys.readouterr().err.splitlines()) < 100


def test_on_a_terminal_there_is_a_bar_a_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Tally(["probe", "scan", "clip"], 3) as tally:
        for told in (
            event("probe"), event("probe"), event("probe", "rejected"),
            event("scan"), event("scan", "failed"), event("clip"),
        ):  # fmt: skip
            tally.event(told)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    last = plain.replace("\r", "\n").splitlines()[-3:]
    shown = [re.sub(r"[━╸╺]+|\d+:\d+:\d+", "", line).split() for line in last]
    assert shown == [
        ["probe", "3/3", "1", "dropped"],
        ["scan", "2/2", "1", "dropped"],
        ["clip", "1/1"],
    ]


def test_nothing_is_lost_between_threads() -> None:
    stages = ["probe", "scan"]
    outcomes: list[Outcome] = ["measured", "remembered", "rejected", "failed"]
    with Tally(stages, 4000) as tally, ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                tally.event,
                [event(stage, outcome) for stage in stages for outcome in outcomes for _ in range(500)],
            )
        )
    expected = dict.fromkeys(outcomes, 500)
    assert tally.outcomes == {"probe": expected, "scan": expected}
    assert tally.seconds == {"probe": 1000.0, "scan": 1000.0}
