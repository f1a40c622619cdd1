"""The state of a run, as somebody reads it who sees only OUTPUT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.report.status import NoRunError, as_text, duration, read_status


def output(folder: Path, status: str = "running", finished: int = 10) -> Path:
    (folder / "_work").mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"status": status}))
    stages = {
        "probe": {"waiting": 20, "seconds": 5.0, "measured": 60, "rejected": 20, "tokens": 0, "usd": 0.0},
        "caption": {"waiting": 50, "seconds": 15.0, "remembered": 10, "tokens": 1200, "usd": 0.5},
    }
    state = {
        "host": "h", "pid": 7, "started_s": 1000.0, "updated_s": 1100.0, "planned": 100,
        "finished": finished, "stages": stages,
    }  # fmt: skip
    (folder / "_work" / "status.json").write_text(json.dumps(state))
    return folder


def test_pace_queue_and_the_slowest_stage(tmp_path: Path) -> None:
    found = read_status(output(tmp_path, finished=25), now_s=1103.0)
    assert (found.left_s, found.silent_s, found.tokens, found.usd) == (300.0, 3.0, 1200, 0.5)
    assert [(stage.name, stage.done, stage.dropped, stage.share) for stage in found.stages] == [
        ("probe", 80, 20, 0.25), ("caption", 10, 0, 0.75),
    ]  # fmt: skip
    text = as_text(found)
    assert "25 of 100 finished; at this pace 5 min 0 s are left" in text
    assert "caption: 75% of the workers' time, 50 videos before or in it" in text
    assert "killed" not in text
    assert "killed" in as_text(read_status(tmp_path, now_s=1400.0))


def test_what_has_ended_has_nothing_left(tmp_path: Path) -> None:
    found = read_status(output(tmp_path, "done"), now_s=9999.0)
    assert found.left_s is None
    assert as_text(found).startswith("done (h, process 7)\n")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRunError, match=r"no run\.json"):
        read_status(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "running"}')
    with pytest.raises(NoRunError, match="not begun"):
        read_status(tmp_path)


def test_durations_in_two_units() -> None:
    assert [duration(s) for s in (0.4, 59.6, 61, 3600, 93784)] == [
        "0 s", "1 min 0 s", "1 min 1 s", "1 h 0 min", "26 h 3 min",
    ]  # fmt: skip
