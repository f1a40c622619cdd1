"""Counts of a curation run by stage, shown while it works."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from pipeline.curation.worker import StageEvent
from pipeline.platform.progress import LINE_EVERY_S, Live


class Tally(Live):
    """Counts events by stage, and shows them: live bars on a terminal, plain lines elsewhere."""

    def __init__(self, stages: Sequence[str], total: int) -> None:
        super().__init__()
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, float] = defaultdict(float)
        self._stages = stages
        self._total = total
        self._lock = threading.Lock()
        self._last_line = time.monotonic()
        self._tasks = (
            {name: self._bars.add_task(name, total=total, note="") for name in stages} if self._bars else {}
        )

    def event(self, event: StageEvent) -> None:
        """Count one event; safe from any thread."""
        with self._lock:
            self.outcomes[event.stage][event.outcome] += 1
            self.seconds[event.stage] += event.seconds
            if self._bars:
                self._move(event)
            elif time.monotonic() - self._last_line > LINE_EVERY_S:
                self._last_line = time.monotonic()
                print(self._line(), file=sys.stderr, flush=True)

    def figures(self) -> dict[str, dict[str, float]]:
        """Return ``seconds`` and the number of videos by outcome, for each stage in order."""
        return {
            name: {
                "seconds": round(self.seconds[name], 3),
                **{kind: self.outcomes[name][kind] for kind in sorted(self.outcomes[name])},
            }
            for name in self._stages
        }

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

    def _line(self) -> str:
        done = {name: sum(self.outcomes[name].values()) for name in self._stages}
        return f"of {self._total} videos: " + ", ".join(f"{n} {done[n]}" for n in self._stages)
