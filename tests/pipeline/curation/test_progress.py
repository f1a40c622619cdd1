"""Counts of a run and their look, on and off a terminal."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


def test_off_a_terminal_there_are_log_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    with Tally(["probe", "scan"], 2, tmp_path) as tally:
        for told in (event("probe"), event("probe", "rejected"), event("scan", "remembered")):
            tally.event(told)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [json.loads(line) for line in err.splitlines()]
    assert [(line["event"], line["videos"], line["finished"], line["stages"]) for line in lines] == [
        ("progress", 2, 0, {"probe": 1, "scan": 0}),
        ("progress", 2, 1, {"probe": 2, "scan": 0}),
        ("progress", 2, 2, {"probe": 2, "scan": 1}),
    ]


def test_log_lines_of_progress_are_rare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Tally(["probe"], 1000, tmp_path) as tally:
        for _ in range(1000):
            tally.event(event("probe"))
    assert len(capsys.readouterr().err.splitlines()) < 100


def test_on_a_terminal_there_is_a_bar_a_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Tally(["probe", "scan", "clip"], 3, tmp_path) as tally:
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


def test_nothing_is_lost_between_threads(tmp_path: Path) -> None:
    stages = ["probe", "scan"]
    outcomes: list[Outcome] = ["measured", "remembered", "rejected", "failed"]
    with Tally(stages, 4000, tmp_path) as tally, ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                tally.event,
                [event(stage, outcome) for stage in stages for outcome in outcomes for _ in range(500)],
            )
        )
    expected = dict.fromkeys(outcomes, 500)
    assert tally.outcomes == {"probe": expected, "scan": expected}
    assert tally.seconds == {"probe": 1000.0, "scan": 1000.0}


def test_the_state_of_a_run_is_left_in_a_file_while_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "STATUS_EVERY_S", -1.0)
    with Tally(["probe", "scan", "clip"], 5, tmp_path) as tally:
        for outcome in ("measured", "measured", "remembered", "rejected"):
            tally.event(event("probe", outcome))
        tally.event(event("scan", "failed"))
        tally.event(event("scan"))
        status = json.loads((tmp_path / "status.json").read_text())
        assert {name: each["waiting"] for name, each in status["stages"].items()} == {
            "probe": 1, "scan": 1, "clip": 1,
        }  # fmt: skip
        # One was rejected and one failed.
        assert (status["planned"], status["finished"]) == (5, 2)
        assert status["stages"]["probe"]["seconds"] == 2.0
