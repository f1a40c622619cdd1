"""Takes one video through some stages and never raises for it.

What goes wrong is sorted: bad input is a reject, what is transient is tried again, an endpoint that
refuses us ends the whole job, a spent budget ends all that was not yet done, everything else is a bug of
ours and fails this one video.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json, to_jsonable_python

from models.budget import Cost
from models.errors import BudgetError, EndpointError, MediaError, TransientError
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Stage, Workspace
from stages.records import FAILURES, VIDEO_JSON, Reason, Video

Outcome = Literal["measured", "remembered", "rejected", "failed"]
FIRST_RETRY_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEvent:
    """What happened to one video in one stage.

    Attributes:
        outcome: ``rejected`` and ``failed`` end the video.
        drops: things dropped here, by ``kind/reason``.
        asked: requests to models, and what they cost; see :attr:`models.ledger.Ledger.here`.
        retries: further tries after transient errors.
        video_s: length of the video; 0 where it is unknown.
    """

    stage: str
    outcome: Outcome
    seconds: float
    drops: dict[str, int] = field(default_factory=dict)
    asked: Cost = field(default_factory=Cost)
    retries: int = 0
    video_s: float = 0.0


EVENTS_JSON = TypeAdapter(list[StageEvent])
EventSink = Callable[[StageEvent], None]


class ChainWorker:
    """Holds opened stages and runs videos through them.

    Args:
        stages: in order; opened here.
        scan: makes packed frames anew where the scratch folder was emptied.
        retries: further tries for what is transient.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        scan: Stage | None,
        workspace: Workspace,
        memo: Memo,
        retries: int,
    ) -> None:
        self._stages = stages
        self._scan = scan
        self._workspace = workspace
        self._memo = memo
        self._retries = retries
        self._opened: set[str] = set()
        self._retried = 0
        if scan is not None:
            scan.workspace = workspace

    def process(self, video: Video, sink: EventSink) -> Video:
        """The video after these stages, or with the reason why it ended in one of them."""
        for stage in self._stages:
            if video.rejected:
                break
            started = time.perf_counter()
            before = len(video.drops)
            asked = self._asked()
            self._retried = 0
            try:
                video, outcome = self._attempt(stage, video)
            except BadInputError as error:
                video = video.reject(stage.name, error.reason, error.detail)
            except MediaError as error:
                video = video.reject(stage.name, Reason(error.problem), error.detail)
            except TransientError as error:
                video = video.reject(stage.name, Reason.RETRIES_EXHAUSTED, str(error))
            except EndpointError as error:
                video = video.reject(stage.name, Reason.ENDPOINT_REFUSED, str(error))
            except BudgetError as error:
                video = video.reject(stage.name, Reason.BUDGET_SPENT, str(error))
            except Exception as error:
                detail = f"{type(error).__name__}: {error}"
                video = video.reject(stage.name, Reason.BUG, detail[:500])
            end = video.rejected
            if end is not None:
                outcome = "failed" if end.reason in FAILURES else "rejected"
            drops = Counter(f"{drop.kind}/{drop.reason}" for drop in video.drops[before:])
            seconds = time.perf_counter() - started
            sink(
                StageEvent(
                    stage=stage.name,
                    outcome=outcome,
                    seconds=seconds,
                    drops=dict(drops),
                    asked=self._asked() - asked,
                    retries=self._retried,
                    video_s=video.facts.duration_s if video.facts else 0.0,
                )
            )
        if video.rejected and video.rejected.reason not in FAILURES:
            # No stage needs them any more; a failed video goes on in the next run.
            self._workspace.frames_path(video).unlink(missing_ok=True)
        return video

    def close(self) -> None:
        """Close all stages."""
        for stage in self._stages:
            if stage.name in self._opened:
                stage.close()

    def _asked(self) -> Cost:
        return self._workspace.ledger.here if self._workspace.ledger else Cost()

    def _attempt(self, stage: Stage, video: Video) -> tuple[Video, Outcome]:
        for attempt in range(self._retries + 1):
            try:
                return self._measure_and_judge(stage, video)
            except TransientError:
                if attempt == self._retries:
                    raise
                self._retried += 1
                time.sleep(FIRST_RETRY_WAIT_S * 2**attempt)
        raise AssertionError("unreachable")

    def _measure_and_judge(self, stage: Stage, video: Video) -> tuple[Video, Outcome]:
        key = memo_key(stage, video)
        stored = self._memo.get(key)
        if stored is not None:
            return stage.judge(_fill(video, from_json(stored))), "remembered"
        # What is remembered is finished without a request; nothing new is begun that could need one.
        if self._workspace.ledger and (why := self._workspace.ledger.stopped()):
            raise BudgetError(f"not reached before the budget was spent: {why}")
        # Opened on first need: a run that finds everything in the memo loads no model.
        if stage.name not in self._opened:
            stage.open(self._workspace)
            self._opened.add(stage.name)
        if stage.needs_frames and self._scan and not self._scan.has_packed(video):
            self._scan.measure(video)
        measured = stage.measure(video)
        result = {name: to_jsonable_python(getattr(measured, name)) for name in stage.writes}
        self._memo.put(key, json.dumps(result))
        return stage.judge(_fill(video, result)), "measured"


def memo_key(stage: Stage, video: Video) -> str:
    """Hash of all that a stage's result depends on."""
    reads = {name: getattr(video, name) for name in stage.reads}
    text = to_json([stage.name, stage.version, stage.measures_with(), stage.also_reads(video), reads])
    return f"{stage.name}-{hashlib.sha256(text).hexdigest()}"


def recalled(stages: Sequence[Stage], video: Video, memo: Memo) -> tuple[Video, list[Stage]]:
    """A video as far as its results are remembered, and the stages whose results they are."""
    known: list[Stage] = []
    for stage in stages:
        stored = memo.get(memo_key(stage, video))
        if stored is None or video.rejected:
            break
        video = stage.judge(_fill(video, from_json(stored)))
        known.append(stage)
    return video, known


def _fill(video: Video, result: dict[str, Any]) -> Video:
    """The video with a stage's result, read back as it will be from the memo."""
    return VIDEO_JSON.validate_python({**to_jsonable_python(video), **result})


def crashed(video: Video) -> Video:
    """The video whose worker died twice."""
    detail = "the process that worked on it died, and died again when it was alone"
    return video.reject("run", Reason.WORKER_CRASHED, detail)
