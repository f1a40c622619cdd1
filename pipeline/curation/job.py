"""The curation job: INPUT to OUTPUT, from the listing of files to the finished tables."""

from __future__ import annotations

import fcntl
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.budget import Cost
from models.errors import StoreError, UsageError, unwritable
from models.ledger import Ledger
from models.redaction import Redactor
from pipeline.curation.bucket_memo import open_memo
from pipeline.curation.bucket_output import LEDGER, MEMO, BucketOutput
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.curation.engine import Engine, Folders
from pipeline.curation.files import VideoFiles
from pipeline.curation.ingest import Source, identify, input_root, sources_of, unique
from pipeline.curation.progress import Tally
from pipeline.curation.results import PASSING
from pipeline.curation.rows import duplicate_row, rows_of
from pipeline.curation.run_file import MADE_FROM, RUN_FILE, RunFile, current_summary, made_from
from pipeline.curation.selection import EVERYTHING, Selection
from pipeline.curation.store import GuardedMemo
from pipeline.curation.worker import FULL, StageEvent
from pipeline.curation.worker import PASSING as PASSING_ERRORS
from pipeline.dataset import SCRATCH
from pipeline.dataset.versions import LOCK, VERSIONS, VersionWriter, recover
from pipeline.platform.config import ConfigError, Loaded
from pipeline.platform.log import log
from pipeline.platform.storage import is_url
from stages.frames import packed_frames, remove_frames
from stages.reasons import FAILURES, Reason
from stages.records import Drop, Video

BUGS = "bugs.log"
"""Tracebacks of bugs, in the scratch folder."""
FRAMES_FOR_REPORT = 50
"""Finished videos whose packed frames wait for the report; the thumbnails of others are decoded anew."""


class OutputError(UsageError):
    """OUTPUT cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """End of a run.

    Attributes:
        over_budget: more videos failed than the configuration allows.
        spent: which bound of the budget ended the run, in words; None where none did.
        unchanged: OUTPUT was already made from these files and settings; nothing was written.
    """

    summary: dict[str, Any]
    over_budget: bool = False
    spent: str | None = None
    unchanged: bool = False


def curate(
    given: str,
    output: Path | str,
    loaded: Loaded[Config],
    *,
    memo: Path | str | None,
    selection: Selection = EVERYTHING,
) -> Outcome:
    """Run the whole job.

    Args:
        given: INPUT; this, OUTPUT and the memo are local or in a bucket, each by itself.
        memo: None for the one in OUTPUT.

    Raises:
        pipeline.curation.ingest.InputError: INPUT is missing or empty.
        OutputError: OUTPUT is not writable, not one of ours, or in use.
        ConfigError: an endpoint refuses our requests; the first refusal ends the run.
        models.server.ServerError: a model server of the job died again and again.
    """
    if not is_url(output):
        return _curate(given, Path(output), loaded, memo, selection, leave_out=Path(output))
    with BucketOutput(str(output)) as bucket:
        memo = memo or f"{output}/{MEMO}"
        outcome = _curate(given, bucket.folder, loaded, memo, selection, leave_out=output)
        bucket.publish()
    return outcome


def _curate(
    given: str,
    output: Path,
    loaded: Loaded[Config],
    memo: Path | str | None,
    selection: Selection,
    *,
    leave_out: Path | str,
) -> Outcome:
    """Run the whole job into a local folder."""
    started = time.perf_counter()
    surveyed = sources_of(given, leave_out=leave_out)
    _check_side_cars(surveyed, loaded.config)
    root = input_root(given)
    surveyed = selection.of(surveyed, root)
    run = RunFile(output / SCRATCH / RUN_FILE, given, loaded, selection)
    with _full_disks(output), claimed(output):
        digest = made_from(surveyed, root, loaded.config, memo)
        summary = current_summary(output, digest)
        if summary is not None:
            run.remove()
            return Outcome(summary=summary, unchanged=True)
        config = loaded.config
        with (
            VersionWriter(
                output,
                scratch=output / SCRATCH,
                input_root=root,
                max_shard=config.run.max_shard_bytes,
                max_row_group=config.run.max_row_group_bytes,
            ) as version,
            run,
            closing(open_memo(memo or output / MEMO)) as index,
        ):
            job = _Job(output, config, run, version, started)
            sources = identify(surveyed, index, VideoFiles(config.run.cache_bytes))
            job.run(sources, root, index, memo or output / MEMO)
            index.compact()
            summary = job.finish(digest, root, readable=_problems(sources) == _problems(surveyed))
        run.remove()
    failed = summary["videos"].get("failed", 0)
    over_budget = failed > config.run.error_budget * len(sources)
    return Outcome(summary=summary, over_budget=over_budget, spent=job.spent)


def _check_side_cars(sources: Sequence[Source], config: Config) -> None:
    if config.transcribe.subtitles != "never" and any(is_url(source.uri) for source in sources):
        raise ConfigError(
            "transcribe.subtitles=prefer looks for files beside each video, which a bucket does not offer "
            "yet; set it to never, or copy the videos to a disk"
        )


def _problems(sources: Sequence[Source]) -> int:
    return sum(source.problem is not None for source in sources)


class _Job:
    """One run: its videos go through the engine and become the rows of a new version.

    Attributes:
        spent: which bound of the budget ended the run, in words; None where none did.
    """

    def __init__(
        self, output: Path, config: Config, run: RunFile, version: VersionWriter, started: float
    ) -> None:
        self.spent: str | None = None
        self._output, self._config, self._run, self._version = output, config, run, version
        self._scratch = output / SCRATCH
        self._started = started
        self._ledger = Ledger(output / LEDGER)
        # The budget may be larger than that of the run which spent it.
        self._ledger.resume()
        self._stages: dict[str, dict[str, float]] = {}
        self._final = True
        self._unfinished: set[str] = set()
        self._with_frames = 0

    def run(self, sources: Sequence[Source], root: str, memo: GuardedMemo, place: Path | str) -> None:
        """Run all videos, and add their rows to the version.

        Args:
            root: URI of INPUT's folder.
            place: of the memo.
        """
        originals, copies = unique(sources)
        rows = _Rows(self._version, sources, copies, root, self._run.redact)
        self._run.planned = len(originals)
        waiting: list[Source] = []
        for source in originals:
            if source.problem is None:
                waiting.append(source)
            else:
                rows.add(source.video())
                self._run.done += 1
        folders = Folders(
            scratch=self._scratch.resolve(),
            memo=place.resolve() if isinstance(place, Path) else place,
            ledger=(self._output / LEDGER).resolve(),
        )
        stages = [stage.name for stage in build_stages(self._config)]
        spent = _spent(self._ledger)
        with (
            Tally(stages, len(waiting), self._scratch, budget=self._config.budget, spent=spent) as tally,
            Engine(self._config, folders, memo, _Sink(tally, self._scratch, self._run.redact)) as engine,
            closing(engine.curate(source.video() for source in waiting)) as curated,
        ):
            for video in curated:
                if video.rejected is not None:
                    self._ended(video.rejected)
                    if video.rejected.reason in FAILURES:
                        self._unfinished.add(video.video_id)
                rows.add(video)
                self._prune(video)
                self._run.done += 1
        self._stages = tally.figures()

    def _ended(self, end: Drop) -> None:
        """Note why a video was rejected.

        Raises:
            ConfigError: an endpoint refuses our requests, as it would for every video.
            StoreError: the memo cannot be written.
        """
        if end.reason is Reason.ENDPOINT_REFUSED:
            raise ConfigError(self._run.redact.text(f"{end.stage}: {end.detail}"))
        if end.reason is Reason.STORE_FAILED:
            raise StoreError(end.detail)
        if end.reason is Reason.BUDGET_SPENT:
            self.spent = end.detail
        if end.reason in FAILURES | PASSING:
            self._final = False

    def _prune(self, video: Video) -> None:
        """Remove the packed frames of a finished video, unless they are asked for or among the report's."""
        if self._config.run.keep_frames or video.video_id in self._unfinished:
            return
        frames = packed_frames(self._scratch, video.video_id)
        if self._with_frames < FRAMES_FOR_REPORT:
            self._with_frames += frames.is_file()
        else:
            frames.unlink(missing_ok=True)

    def finish(self, digest: str, root: str, *, readable: bool) -> dict[str, Any]:
        """Write the version, make it the current one, and return its summary.

        Args:
            digest: see :func:`pipeline.curation.run_file.made_from`.
            root: URI of INPUT's folder.
            readable: no file turned out to be unreadable; such a file may be readable next time.

        Raises:
            StoreError: the disk is full or fails; the version before stays the current one.
        """
        # A run with nothing to do ends without these, which take time to import.
        from pipeline.report.page import write_report
        from pipeline.report.samples import Pictures
        from pipeline.report.summary import summarise, write_card

        version, run = self._version, self._run
        made = {MADE_FROM: digest} if self._final and readable else {}
        try:
            counts = version.write()
            seconds = round(time.perf_counter() - self._started, 3)
            summary = summarise(version.folder, counts, self._stages, self._ledger.totals(), seconds)
            write_card(version.folder, summary)
            pictures = Pictures(scratch=self._scratch, input_root=root)
            write_report(version.folder, summary, pictures=pictures, run=run.asked)
            status = "budget_spent" if self.spent else "done"
            run.finish(version.folder / RUN_FILE, status, **made, **summary)
            version.commit()
            if not self._config.run.keep_frames:
                remove_frames(self._scratch, kept=self._unfinished)
        except OSError as error:
            raise unwritable(self._output, error) from error
        return summary


@contextmanager
def _full_disks(output: Path) -> Iterator[None]:
    """Turn errors of a disk that is full or fails, wherever they come up, into those that a user reads.

    Raises:
        StoreError: a disk is full or fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL | PASSING_ERRORS:
            raise
        raise unwritable(Path(error.filename or output), error) from error


def _spent(ledger: Ledger) -> Cost:
    """Return an upper bound of what earlier runs of this OUTPUT spent."""
    return sum(
        (
            Cost(
                requests=total.requests,
                tokens=total.input_tokens + total.output_tokens,
                usd=total.at_most_usd,
            )
            for total in ledger.totals()
        ),
        Cost(),
    )


class _Sink:
    """Counts events, logs videos that ended or were tried again, and keeps the tracebacks of bugs."""

    def __init__(self, tally: Tally, scratch: Path, redact: Redactor) -> None:
        self._tally, self._bugs, self._redact = tally, scratch / BUGS, redact

    def __call__(self, event: StageEvent) -> None:
        self._tally.event(event)
        if event.reason or event.retries:
            log(
                "video_ended" if event.reason else "video_retried",
                level="error" if event.outcome == "failed" else "info" if event.reason else "warning",
                video=event.video, stage=event.stage, reason=event.reason,
                detail=self._redact.text(event.detail), retries=event.retries or None,
                seconds=round(event.seconds, 3),
            )  # fmt: skip
        if event.traceback:
            with self._bugs.open("a", encoding="utf-8", errors="replace") as file:
                file.write(f"{event.stage}\n{self._redact.text(event.traceback)}\n")


class _Rows:
    """Adds the rows of finished videos and of their copies to a version."""

    def __init__(
        self,
        version: VersionWriter,
        sources: Sequence[Source],
        copies: Mapping[str, str],
        root: str,
        redact: Redactor,
    ) -> None:
        self._version, self._root, self._redact = version, root, redact
        self._by_uri = {source.uri: source for source in sources}
        self._copied: dict[str, list[str]] = defaultdict(list)
        for copy, original in copies.items():
            self._copied[original].append(copy)

    def add(self, video: Video) -> None:
        """Add the rows of a video and of its copies."""
        original = self._by_uri[video.uri]
        found = rows_of(original, video, self._root)
        found["videos"].extend(
            duplicate_row(self._by_uri[copy], original, video, self._root)
            for copy in self._copied.get(video.uri, ())
        )
        for row in found["rejects"]:
            row["detail"] = self._redact.text(row["detail"])
        self._version.add(found)


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Make OUTPUT ours for as long as the run lasts.

    Raises:
        OutputError: it cannot be written, holds something else, or another run is at work in it.
    """
    try:
        if output.exists() and not output.is_dir():
            raise OutputError(f"OUTPUT {output}: is a file; name a folder")
        ours = (output / VERSIONS).is_dir() or (output / RUN_FILE).is_file()
        if output.is_dir() and any(output.iterdir()) and not ours:
            raise OutputError(
                f"OUTPUT {output}: not empty, and not written by videoauteur (no {RUN_FILE} in it); "
                "name a new or an empty folder"
            )
        (output / VERSIONS).mkdir(parents=True, exist_ok=True)
        # Not in the scratch folder, which may be deleted at any time.
        lock = (output / VERSIONS / LOCK).open("wb")
    except OSError as error:
        raise OutputError(f"OUTPUT {output}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"OUTPUT {output}: another run is at work in it") from error
        recover(output)
        yield
