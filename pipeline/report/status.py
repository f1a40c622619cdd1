"""State of a run, read from the files in OUTPUT: no connection to the run is needed."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import UsageError
from pipeline.dataset import RUN_STATE, SCRATCH
from pipeline.platform.storage import is_url, store_of

RUN_FILE = "run.json"
STATUS_FILE = "status.json"
SILENT_S = 120.0
"""Age of the last report from which on a running run may have died: a stage can take minutes a video."""


class NoRunError(UsageError):
    """OUTPUT holds no run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """A stage of a run.

    Attributes:
        waiting: videos before or in the stage.
        done: videos that left it.
        dropped: of these, those that it ended.
        seconds: that workers have spent in it.
        share: of the seconds of all stages, in [0, 1].
    """

    name: str
    waiting: int
    done: int
    dropped: int
    seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """State of a run.

    Attributes:
        status: ``running``, ``done``, ``interrupted`` or ``budget_spent``.
        silent_s: age of the last report.
        left_s: expected time to the end, by the pace so far; None before the first video is finished.
    """

    status: str
    where: str
    started_s: float
    silent_s: float
    planned: int
    finished: int
    stages: list[StageStatus]
    left_s: float | None
    tokens: int
    usd: float


def read_status(output: Path | str, *, now_s: float | None = None) -> RunStatus:
    """Read how the last run of OUTPUT stands.

    Raises:
        NoRunError: there is none.
    """
    now_s = time.time() if now_s is None else now_s
    run = read_run(output)
    try:
        found = json.loads(_state(output, STATUS_FILE))
    except FileNotFoundError:
        raise NoRunError(
            f"{output}: the run has not begun with its videos, or its _work was deleted"
        ) from None
    planned, finished = found["planned"], found["finished"]
    took_s = found["updated_s"] - found["started_s"]
    pace_known = finished > 0 and run["status"] == "running"
    return RunStatus(
        status=run["status"],
        where=f"{found['host']}, process {found['pid']}",
        started_s=found["started_s"],
        silent_s=max(0.0, now_s - found["updated_s"]),
        planned=planned,
        finished=finished,
        stages=_stages(found["stages"]),
        left_s=took_s / finished * (planned - finished) if pace_known else None,
        tokens=sum(each["tokens"] for each in found["stages"].values()),
        usd=sum(each["usd"] for each in found["stages"].values()),
    )


def read_run(output: Path | str) -> dict[str, Any]:
    """Read the run file of the last run: in the scratch folder until the run has written its tables.

    Raises:
        NoRunError: there is none, or it is damaged.
    """
    for read in (_state, _file):
        with suppress(FileNotFoundError, NotADirectoryError):
            content = read(output, RUN_FILE)
            try:
                run: dict[str, Any] = json.loads(content)
            except ValueError as error:
                raise NoRunError(f"{output}: its {RUN_FILE} is damaged ({error}); curate again") from error
            return run
    raise NoRunError(f"{output}: no {RUN_FILE} in it; name the OUTPUT of `videoauteur curate`")


def _state(output: Path | str, name: str) -> bytes:
    """Return a file of the run at work, which is gone or old when it has written its tables."""
    return _file(output, f"{RUN_STATE if is_url(output) else SCRATCH}/{name}")


def _file(output: Path | str, name: str) -> bytes:
    return store_of(str(output)).get(name) if is_url(output) else (Path(output) / name).read_bytes()


def _stages(found: dict[str, dict[str, Any]]) -> list[StageStatus]:
    total_s = sum(each["seconds"] for each in found.values())
    return [
        StageStatus(
            name=name,
            waiting=each["waiting"],
            done=sum(each.get(outcome, 0) for outcome in ("measured", "remembered", "rejected", "failed")),
            dropped=each.get("rejected", 0) + each.get("failed", 0),
            seconds=each["seconds"],
            share=each["seconds"] / total_s if total_s else 0.0,
        )
        for name, each in found.items()
    ]


def as_text(status: RunStatus) -> str:
    """Return the status for a terminal."""
    lines = [f"{status.status} ({status.where})"]
    if status.status == "running":
        lines[0] += f", last report {duration(status.silent_s)} ago"
        if status.silent_s > SILENT_S:
            lines.append("No report for long: the run is at a long video, or it was killed.")
    left = "" if status.left_s is None else f"; at this pace {duration(status.left_s)} are left"
    lines.append(f"videos     {status.finished} of {status.planned} finished{left}")
    slowest = max(status.stages, key=lambda stage: stage.share, default=None)
    if slowest is not None and slowest.seconds:
        lines.append(
            f"slowest    {slowest.name}: {slowest.share:.0%} of the workers' time, "
            f"{slowest.waiting} videos before or in it"
        )
    if status.tokens or status.usd:
        lines.append(f"models     {status.tokens:,} tokens, {status.usd:.4f} USD at most in this run")
    lines.append(f"{'stage':<11}{'waiting':>8}{'done':>8}{'dropped':>8}{'s a video':>11}")
    for stage in status.stages:
        each_s = stage.seconds / stage.done if stage.done else 0.0
        lines.append(f"{stage.name:<11}{stage.waiting:>8}{stage.done:>8}{stage.dropped:>8}{each_s:>11.2f}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
