"""Counts of a curation run by stage: shown on the terminal, exported, and left in a file for `status`."""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic_core import to_json

from models.budget import Budget, Cost
from models.files import write_whole
from pipeline.curation.worker import NOTHING, StageEvent
from pipeline.platform import metrics
from pipeline.platform.log import log
from pipeline.platform.progress import LINE_EVERY_S, Live

STATUS_FILE = "status.json"
STATUS_EVERY_S = 2.0


class Tally(Live):
    """Counts events by stage, and shows them: live bars on a terminal, log lines elsewhere.

    Args:
        stages: names, in order.
        total: videos to run.
        folder: where ``status.json`` is kept up to date for ``videoauteur status``.
        budget: bounds of the run, for the exported share that is spent.
        spent: requests of earlier runs, which count against the budget.
    """

    def __init__(
        self,
        stages: Sequence[str],
        total: int,
        folder: Path,
        *,
        budget: Budget | None = None,
        spent: Cost | None = None,
    ) -> None:
        super().__init__()
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, float] = defaultdict(float)
        self.video_s: dict[str, float] = defaultdict(float)
        self.cost: dict[str, Cost] = defaultdict(Cost)
        self._stages = stages
        self._total = total
        self._path = folder / STATUS_FILE
        self._budget, self._spent = budget or Budget(), spent or Cost()
        self._lock = threading.Lock()
        self._started_s = time.time()
        self._last_line = self._last_status = time.monotonic()
        self._tasks = (
            {name: self._bars.add_task(name, total=total, note="") for name in stages} if self._bars else {}
        )

    def __enter__(self) -> Self:
        self._publish()
        super().__enter__()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        if not isinstance(error, OSError):
            self._publish()

    def event(self, event: StageEvent) -> None:
        """Count one event; safe from any thread."""
        with self._lock:
            self.outcomes[event.stage][event.outcome] += 1
            self.seconds[event.stage] += event.seconds
            self.video_s[event.stage] += event.video_s
            if event.asked != NOTHING:
                self.cost[event.stage] += event.asked
            now = time.monotonic()
            if now - self._last_status > STATUS_EVERY_S:
                self._last_status = now
                self._publish()
            if self._bars:
                self._move(event)
            elif now - self._last_line > LINE_EVERY_S:
                self._last_line = now
                log("progress", videos=self._total, finished=self.finished(), stages=self._counts())

    def waiting(self) -> dict[str, int]:
        """Videos before or in each stage."""
        waiting: dict[str, int] = {}
        arrived = self._total
        for name in self._stages:
            counts = self.outcomes[name]
            waiting[name] = arrived - counts.total()
            arrived = counts["measured"] + counts["remembered"]
        return waiting

    def finished(self) -> int:
        """Videos that left the last stage, or ended before it."""
        return self._total - sum(self.waiting().values())

    def figures(self) -> dict[str, dict[str, float]]:
        """Return ``seconds`` and the number of videos by outcome, for each stage in order."""
        return {
            name: {
                "seconds": round(self.seconds[name], 3),
                "video_s": round(self.video_s[name], 3),
                **{kind: self.outcomes[name][kind] for kind in sorted(self.outcomes[name])},
            }
            for name in self._stages
        }

    def _publish(self) -> None:
        """Write ``status.json``, whole or not at all, and set the gauges of the run."""
        waiting, finished = self.waiting(), self.finished()
        status = {
            "host": platform.node(),
            "pid": os.getpid(),
            "started_s": self._started_s,
            "updated_s": time.time(),
            "planned": self._total,
            "finished": finished,
            "stages": {
                name: {
                    "waiting": waiting[name],
                    "tokens": self.cost[name].tokens,
                    "usd": self.cost[name].usd,
                    **figures,
                }
                for name, figures in self.figures().items()
            },
        }
        write_whole(self._path, to_json(status))
        for name in self._stages:
            metrics.put("videoauteur_stage_waiting", waiting[name], stage=name)
        metrics.put("videoauteur_run_videos", self._total, state="planned")
        metrics.put("videoauteur_run_videos", finished, state="finished")
        disk = shutil.disk_usage(self._path.parent)
        metrics.put("videoauteur_run_disk_free_share", disk.free / disk.total)
        spent = sum(self.cost.values(), self._spent)
        for bound in ("usd", "tokens", "requests"):
            if most := getattr(self._budget, f"max_{bound}"):
                metrics.put("videoauteur_run_budget_share", getattr(spent, bound) / most, bound=bound)

    def _move(self, event: StageEvent) -> None:
        assert self._bars is not None
        ended = event.outcome in ("rejected", "failed")
        at = self._stages.index(event.stage)
        self._bars.advance(self._tasks[event.stage])
        counts = self.outcomes[event.stage]
        dropped = counts["rejected"] + counts["failed"]
        self._bars.update(self._tasks[event.stage], note=f"{dropped} dropped" if dropped else "")
        if ended:
            # Later stages will never see this video.
            for name in self._stages[at + 1 :]:
                task = self._bars.tasks[self._tasks[name]]
                self._bars.update(task.id, total=(task.total or 0) - 1)

    def _counts(self) -> dict[str, int]:
        return {name: self.outcomes[name].total() for name in self._stages}
