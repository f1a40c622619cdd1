"""Worker that takes one video through some stages and never raises for it.

Bad input is a reject, a transient failure is tried again, an endpoint that refuses us or a store that
cannot be written ends the whole job, a spent budget ends all that was not yet done, everything else is a
bug of ours and fails this one video.
"""

from __future__ import annotations

import errno
import functools
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from models.budget import Cost
from models.errors import BudgetError, EndpointError, StoreError, TransientError, unwritable
from pipeline.curation.crashes import Watch
from pipeline.curation.files import VideoFiles, content_key
from pipeline.curation.results import (
    Result,
    judges_only,
    measured,
    memo_key,
    recall,
    reject_key,
    rejection,
)
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Stage, Workspace
from stages.reasons import FAILURES, Reason
from stages.records import Video, video_id_of

Outcome = Literal["measured", "remembered", "rejected", "failed"]
FIRST_RETRY_WAIT_S = 1.0
NOTHING = Cost()
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of a disk that every other video would meet too."""
PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET})
"""Errors of a disk or a network that may pass."""
DETAIL_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEvent:
    """Event of one video in one stage.

    Attributes:
        outcome: ``rejected`` and ``failed`` end the video.
        drops: things dropped here, by ``kind/reason``.
        asked: requests to models, and what they cost; see :attr:`models.ledger.Ledger.here`.
        retries: further tries after transient errors.
        video_s: length of the video; 0 where it is unknown.
        traceback: of a bug; empty without one.
        video: id of the video; empty for a file that was never read.
        reason: why the video ended here, with ``detail`` in words; empty if it did not.
    """

    stage: str
    outcome: Outcome
    seconds: float
    video: str = ""
    reason: str = ""
    detail: str = ""
    drops: dict[str, int] = field(default_factory=dict)
    asked: Cost = field(default_factory=Cost)
    retries: int = 0
    video_s: float = 0.0
    traceback: str = ""


EventSink = Callable[[StageEvent], None]
Step = Callable[[], tuple[Video, Outcome]]


class ChainWorker:
    """Opened stages that videos run through.

    Args:
        stages: in order; opened on first need.
        packer: packs frames again where the scratch folder was emptied.
        retries: further tries after transient failures.
        watch: ends the process where a video hangs; None lets it hang.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        packer: Stage | None,
        workspace: Workspace,
        memo: Memo,
        retries: int,
        watch: Watch | None = None,
        files: VideoFiles | None = None,
    ) -> None:
        self._stages = stages
        self._watch = watch
        self._files = files or VideoFiles()
        self._packer = packer
        self._workspace = workspace
        self._memo = memo
        self._retries = retries
        self._opened: set[str] = set()
        self._retried = 0
        self._traceback = ""
        if packer is not None:
            packer.workspace = workspace

    def process(self, videos: Iterable[Video], sink: EventSink) -> Iterator[Video]:
        """Yield each video after these stages, or with the reason why it ended in one of them."""
        with self._watch.armed() if self._watch else nullcontext() as watch:
            for video in videos:
                known = video if video.content_id else self._identified(video, sink)
                with watch.over(known) if watch else nullcontext():
                    done = self._processed(known, sink)
                yield done

    def _processed(self, video: Video, sink: EventSink) -> Video:
        for stage in self._stages:
            if video.rejected:
                break
            if stage.name in video.passed:
                continue
            if self._watch:
                self._watch.restart()
            started = time.perf_counter()
            before = len(video.drops)
            asked_before = self._asked()
            self._retried, self._traceback = 0, ""
            video, outcome = self._sorted(
                stage.name, video, functools.partial(self._measure_and_judge, stage, video)
            )
            asked = self._asked()
            # Mostly nothing was asked; a difference of costs takes longer than the event.
            cost = NOTHING if asked is asked_before else asked - asked_before
            more = {"retries": self._retried, "traceback": self._traceback}
            sink(_event(stage, video, outcome, started, before, asked=cost, **more))
        if video.rejected and video.rejected.reason not in FAILURES:
            # No stage needs them any more; a failed video goes on in the next run.
            self._workspace.frames_path(video).unlink(missing_ok=True)
        self._memo.seal()
        return video

    def _identified(self, video: Video, sink: EventSink) -> Video:
        """Return an object of a bucket with its content's hash, which is known once its bytes are here."""

        def hashed() -> tuple[Video, Outcome]:
            content_id = self._files.content_id(video)
            self._memo.put(content_key(video.uri, video.identity), json.dumps(content_id))
            return replace(video, content_id=content_id, video_id=video_id_of(content_id)), "measured"

        started = time.perf_counter()
        self._retried, self._traceback = 0, ""
        found, outcome = self._sorted("ingest", video, hashed)
        if found.rejected:
            # It ends before the first stage, which still counts it.
            seconds = time.perf_counter() - started
            sink(StageEvent(stage=self._stages[0].name, outcome=outcome, seconds=seconds))
        return found

    def close(self) -> None:
        """Close all stages and the memo."""
        for stage in self._stages:
            if stage.name in self._opened:
                stage.close()
        self._memo.close()

    def _asked(self) -> Cost:
        return self._workspace.ledger.here if self._workspace.ledger else NOTHING

    def _sorted(self, stage: str, video: Video, step: Step) -> tuple[Video, Outcome]:
        """Return the video after a step of a stage, rejected for whatever went wrong."""
        outcome: Outcome = "rejected"
        try:
            video, outcome = self._attempt(video, step)
        except BadInputError as error:
            video = video.reject(stage, error.reason, error.detail)
        except TransientError as error:
            video = video.reject(stage, Reason.RETRIES_EXHAUSTED, str(error))
        except EndpointError as error:
            video = video.reject(stage, Reason.ENDPOINT_REFUSED, str(error))
        except BudgetError as error:
            video = video.reject(stage, Reason.BUDGET_SPENT, str(error))
        except StoreError as error:
            video = video.reject(stage, Reason.STORE_FAILED, str(error))
        except Exception as error:
            self._traceback = traceback.format_exc()
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno} in {where.name}"
            detail = f"{type(error).__name__} at {place}: {error}"
            video = video.reject(stage, Reason.BUG, detail[:DETAIL_CHARACTERS])
        end = video.rejected
        if end is not None:
            outcome = "failed" if end.reason in FAILURES else "rejected"
        return video, outcome

    def _attempt(self, video: Video, step: Step) -> tuple[Video, Outcome]:
        for attempt in range(self._retries + 1):
            try:
                with self._sorted_os_errors(video):
                    return step()
            except TransientError:
                if attempt == self._retries:
                    raise
                self._retried += 1
                time.sleep(FIRST_RETRY_WAIT_S * 2**attempt)
        raise AssertionError("unreachable")

    def _measure_and_judge(self, stage: Stage, video: Video) -> tuple[Video, Outcome]:
        if judges_only(stage):
            return stage.judge(video), "measured"
        key = memo_key(stage, video)
        remembered = recall(stage, video, key, self._memo)
        if remembered is not None:
            return remembered, "remembered"
        # Results in the memo need no request; nothing new is begun that could need one.
        if self._workspace.ledger and (why := self._workspace.ledger.stopped()):
            raise BudgetError(f"not reached before the budget was spent: {why}")
        # Opened on first need: a run that finds everything in the memo loads no model.
        if stage.name not in self._opened:
            stage.open(self._workspace)
            self._opened.add(stage.name)
        try:
            result = self._measured(stage, video)
        except BadInputError as error:
            if (rejected := rejection(error)) is not None:
                self._memo.put(reject_key(stage, key), rejected, durable=False)
            raise
        self._memo.put(key, result.stored(), durable=False)
        return stage.judge(result.filled(video)), "measured"

    def _measured(self, stage: Stage, video: Video) -> Result:
        """Return a stage's result; of a file, only if it is the one that was hashed."""
        packs = stage.needs_frames and self._packer is not None and not self._packer.has_packed(video)
        if not (stage.reads_file or packs):
            return measured(stage, video, None)
        self._files.check_unchanged(video)
        try:
            with self._files.opened(video) as file:
                if packs and self._packer is not None:
                    measured(self._packer, video, file)
                result = measured(stage, video, file if stage.reads_file else None)
        except BadInputError:
            self._files.check_unchanged(video)
            raise
        self._files.check_unchanged(video)
        return result

    @contextmanager
    def _sorted_os_errors(self, video: Video) -> Iterator[None]:
        """Turn errors of disks into those that end the run, those that may pass, and bad input."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise unwritable(Path(error.filename or "a disk of the run"), error) from error
            if error.errno in PASSING:
                raise TransientError(f"{error.filename or 'disk'}: {error.strerror}") from error
            if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
                self._files.check_unchanged(video)
            raise


def remembered(stages: Sequence[Stage], video: Video, memo: Memo, sink: EventSink) -> tuple[Video, bool]:
    """Return a video as far as its results are in the memo, and whether it is finished with that."""
    passed: list[str] = []
    ended = False
    for stage in stages:
        started, before = time.perf_counter(), len(video.drops)
        after = recall(stage, video, memo_key(stage, video), memo)
        if after is None:
            break
        video = after
        passed.append(stage.name)
        ended = video.rejected is not None
        sink(_event(stage, video, "rejected" if ended else "remembered", started, before))
        if ended:
            break
    finished = ended or len(passed) == len(stages)
    return replace(video, passed=(*video.passed, *passed)), finished


def _event(
    stage: Stage, video: Video, outcome: Outcome, started: float, before: int, **more: Any
) -> StageEvent:
    """Return the event of a video after a stage.

    Args:
        started: when the stage began.
        before: drops of the video at that time.
        more: further fields of the event.
    """
    end, drops = video.rejected, video.drops[before:]
    return StageEvent(
        stage=stage.name,
        outcome=outcome,
        seconds=time.perf_counter() - started,
        video=video.video_id,
        reason=end.reason.value if end else "",
        detail=end.detail if end else "",
        drops=dict(Counter(f"{drop.kind}/{drop.reason}" for drop in drops)) if drops else {},
        video_s=video.facts.duration_s if video.facts else 0.0,
        **more,
    )


def crashed(video: Video, detail: str) -> Video:
    """Return the video whose worker died."""
    return video.reject("run", Reason.WORKER_CRASHED, detail)


DIED_TWICE = "the process that worked on it died, and died again when it was alone"
