"""The curation job: INPUT to OUTPUT, from the listing of files to the finished tables."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.budget import Cost
from models.errors import ReportedError, StoreError, UsageError
from models.files import whole_file
from models.ledger import Ledger
from models.redaction import Redactor
from pipeline import __version__
from pipeline.curation import runners, servers
from pipeline.curation.chain import KEY, build_stages, endpoints
from pipeline.curation.config import Config
from pipeline.curation.crashes import collect, remembered_crash
from pipeline.curation.duplicates import without_duplicates
from pipeline.curation.ingest import Source, identify, input_root, list_files, unique
from pipeline.curation.progress import Tally
from pipeline.curation.rows import duplicate_row, rows_of
from pipeline.curation.runners import Site
from pipeline.curation.servers import Running
from pipeline.curation.store import GuardedMemo, unwritable
from pipeline.curation.worker import FULL, PASSING, EventSink, StageEvent, crashed, remembered
from pipeline.dataset import SCRATCH
from pipeline.dataset.schema import SCHEMA_VERSION
from pipeline.dataset.versions import LOCK, VERSIONS, VersionWriter, recover
from pipeline.platform.config import ConfigError, Loaded
from pipeline.platform.log import log
from pipeline.platform.memo import Memo
from pipeline.report.page import write_report
from pipeline.report.summary import summarise, write_card
from stages.duplicates import FingerprintClips
from stages.records import Reason, Video
from stages.view import size_of

RUN_FILE = "run.json"
LEDGER = "_ledger"
BUGS = "bugs.log"
"""Tracebacks of bugs, in the scratch folder."""
UNUSED = "http://unused.invalid/v1"
"""Address of servers that no remaining stage asks."""
Runner = Callable[[list[Video], Site, EventSink], Iterator[Video]]


class OutputError(UsageError):
    """OUTPUT cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """End of a run.

    Attributes:
        over_budget: more videos failed than the configuration allows.
        spent: which bound of the budget ended the run, in words; None where none did.
    """

    summary: dict[str, Any]
    over_budget: bool
    spent: str | None = None


def curate(given: str, output: Path, loaded: Loaded[Config], *, memo: Path | None) -> Outcome:
    """Run the whole job.

    Raises:
        pipeline.curation.ingest.InputError: INPUT is missing or empty.
        OutputError: OUTPUT is not writable, not one of ours, or in use.
        ConfigError: an endpoint refuses our requests; the first refusal ends the run.
        models.server.ServerError: a model server of the job died again and again.
    """
    started = time.perf_counter()
    config = loaded.config
    files = list_files(given, leave_out=output)
    root = input_root(given)
    redact = Redactor([KEY, *_key_variables(config)])
    with (
        _full_disks(output),
        ExitStack() as stack,
        claimed(output),
        VersionWriter(
            output,
            scratch=output / SCRATCH,
            input_root=root,
            max_shard=config.run.max_shard_bytes,
            max_row_group=config.run.max_row_group_bytes,
        ) as version,
        _RunFile(output / SCRATCH / RUN_FILE, given, loaded, redact) as run,
    ):
        store = memo or output / "_memo"
        index = stack.enter_context(closing(GuardedMemo(store)))
        sources = identify(files, index)
        originals, copies = unique(sources)
        add = _row_sink(version, sources, copies, root, redact)
        waiting: list[Video] = []
        for source in originals:
            video = source.video()
            if video.rejected:
                add(video)
            else:
                waiting.append(video)
        stages = [stage.name for stage in build_stages(config)]
        ledger = Ledger(output / LEDGER)
        # The budget may be larger than that of the run which spent it.
        ledger.resume()
        spent = None
        run.planned, run.done = len(originals), len(originals) - len(waiting)
        with (
            Tally(
                stages,
                len(waiting),
                output / SCRATCH,
                budget=config.budget,
                spent=_spent(ledger),
            ) as tally,
            closing(
                _curated(waiting, loaded, output, index, store, _Sink(tally, output, redact))
            ) as curated,
        ):
            for video in curated:
                end = video.rejected
                if end is not None and end.reason is Reason.ENDPOINT_REFUSED:
                    raise ConfigError(f"{end.stage}: {end.detail}")
                if end is not None and end.reason is Reason.STORE_FAILED:
                    raise StoreError(end.detail)
                if end is not None and end.reason is Reason.BUDGET_SPENT:
                    spent = end.detail
                add(video)
                run.done += 1
        try:
            counts = version.write()
            seconds = round(time.perf_counter() - started, 3)
            summary = summarise(version.folder, counts, tally.figures(), ledger.totals(), seconds)
            write_card(version.folder, summary)
            write_report(version.folder, summary, frames=output / SCRATCH / "frames", run=run.asked)
            run.finish(version.folder / RUN_FILE, "budget_spent" if spent else "done", **summary)
            version.commit()
        except OSError as error:
            raise unwritable(output, error) from error
        run.remove()
    failed = summary["videos"].get("failed", 0)
    over_budget = failed > config.run.error_budget * len(sources)
    return Outcome(summary=summary, over_budget=over_budget, spent=spent)


@contextmanager
def _full_disks(output: Path) -> Iterator[None]:
    """Turn errors of a disk that is full or fails, wherever they come up, into those that a user reads.

    Raises:
        StoreError: a disk is full or fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL | PASSING:
            raise
        raise unwritable(Path(error.filename or output), error) from error


def _spent(ledger: Ledger) -> Cost:
    """Upper bound of what earlier runs of this OUTPUT spent."""
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

    def __init__(self, tally: Tally, output: Path, redact: Redactor) -> None:
        self._tally, self._bugs, self._redact = tally, output / SCRATCH / BUGS, redact

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


def _key_variables(config: Config) -> Iterator[str]:
    """Names of the environment variables that hold keys."""
    for section in (config.language, config.vision):
        yield section.api_key_env
        yield from (other.api_key_env for other in section.others if other.api_key_env)


def _curated(
    videos: list[Video], loaded: Loaded[Config], output: Path, memo: Memo, store: Path, sink: EventSink
) -> Generator[Video]:
    """Run the videos on the configured engine, with the servers that it needs.

    The memo tells who needs what: videos that it knows to their end start neither Ray nor a server.
    """
    config = servers.resolved(loaded.config)
    stages = build_stages(config)
    unfinished: list[Video] = []
    # Duplicates are dropped between two phases, with the measurements of all videos at hand.
    ahead = [] if config.duplicates.drop else stages
    for video in videos:
        video, finished = remembered(ahead, video, memo, sink)
        if ahead and finished:
            yield video
        else:
            unfinished.append(video)
    if not unfinished:
        return
    # The longest first, so that no worker starts one while the others are done.
    unfinished.sort(key=lambda video: -size_of(video))
    passed = set.intersection(*(set(video.passed) for video in unfinished))
    remaining = [stage for stage in stages if stage.name not in passed]
    asking = any(stage.pool == "language" for stage in remaining)
    with ExitStack() as stack:
        if config.run.runner == "ray":
            # Ray takes seconds to import; the sequential runner must not pay for it.
            from pipeline.curation import ray_runner, ray_servers
            from pipeline.platform.cluster import connected

            stack.enter_context(connected(config.run.ray_address))
            serve: Callable[[Config, Path], AbstractContextManager[Running]] = ray_servers.started
            run: Runner = ray_runner.run_ray
        else:
            serve, run = servers.started_here, runners.run_local
        unused = {each: (UNUSED,) for group in servers.needed(config) for each in group.serves}
        idle = nullcontext(Running(base_urls=unused, check=lambda: None))
        logs = (output / SCRATCH / "servers").resolve()
        running = stack.enter_context(serve(config, logs) if asking else idle)
        language, vision = endpoints(config, running.base_urls)
        site = Site(
            config=config,
            scratch=(output / SCRATCH).resolve(),
            memo=store.resolve(),
            language=language,
            vision=vision,
            ledger=(output / LEDGER).resolve(),
            only=tuple(stage.name for stage in remaining) if passed else None,
        )
        fit, unfit = _sorted_by_crashes(unfinished, site, memo)
        yield from unfit
        for video in _in_phases(fit, site, run, sink):
            if video.rejected is not None and video.rejected.reason is Reason.RETRIES_EXHAUSTED:
                # Without its servers every other video would end like this one.
                running.check()
            yield video


def _sorted_by_crashes(videos: list[Video], site: Site, memo: Memo) -> tuple[list[Video], list[Video]]:
    """Split videos into those to run, and rejected ones that crashed their process in two runs."""
    collect(site.scratch, memo)
    watch = site.watch()
    fit: list[Video] = []
    unfit: list[Video] = []
    for video in videos:
        detail = None if site.config.run.retry_crashed else remembered_crash(memo, watch.key(video))
        if detail is None:
            fit.append(video)
        else:
            unfit.append(crashed(video, detail))
    return fit, unfit


def _in_phases(videos: list[Video], site: Site, run: Runner, sink: EventSink) -> Iterator[Video]:
    """Run the chain; where duplicates are dropped, in two parts with the decision between them."""
    if not site.config.duplicates.drop:
        yield from run(videos, site, sink)
        return
    names = [stage.name for stage in site.stages()]
    split = names.index(FingerprintClips.name) + 1
    measured = list(run(videos, replace(site, only=tuple(names[:split])), sink))
    waiting = []
    for video in without_duplicates(measured):
        if video.rejected:
            yield video
        else:
            waiting.append(video)
    yield from run(waiting, replace(site, only=tuple(names[split:])), sink)


def _row_sink(
    version: VersionWriter,
    sources: Sequence[Source],
    copies: Mapping[str, str],
    root: str,
    redact: Redactor,
) -> Callable[[Video], None]:
    """Return a function that adds the rows of a finished video and of its copies to a version."""
    by_uri = {source.uri: source for source in sources}
    copied: dict[str, list[str]] = defaultdict(list)
    for copy, original in copies.items():
        copied[original].append(copy)

    def add(video: Video) -> None:
        found = rows_of(by_uri[video.uri], video, root)
        found["videos"].extend(
            duplicate_row(by_uri[copy], by_uri[video.uri], video, root)
            for copy in copied.get(video.uri, ())
        )
        for row in found["rejects"]:
            row["detail"] = redact.text(row["detail"])
        version.add(found)

    return add


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


class _RunFile:
    """File that tells what was asked of a run and how it ended.

    ``run.json`` of OUTPUT belongs to the version of the tables that the run made. While a run is at work,
    and after one that ended without a version, the same is in the scratch folder. A context: leaving it by
    an error that ends a run early is written down too.

    Attributes:
        planned: videos of the run; ``done``: those that are finished.
    """

    def __init__(self, path: Path, given: str, loaded: Loaded[Config], redact: Redactor) -> None:
        self._path = path
        self._redact = redact
        self.planned = self.done = 0
        asked = {
            "videoauteur": __version__,
            "schema_version": SCHEMA_VERSION,
            "input": given,
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "config": loaded.config.model_dump(mode="json"),
            "config_origins": dict(loaded.origins),
        }
        self.asked: dict[str, Any] = redact.tree(asked)

    def __enter__(self) -> Self:
        self._write("running")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(error, KeyboardInterrupt | ReportedError | OSError):
            return
        with suppress(OSError):
            # On a full disk the old one, which says that the run is at work, makes room for this one.
            self.remove()
            self._write("interrupted", videos_done=self.done, videos_planned=self.planned)

    def _write(self, status: str, **more: Any) -> None:
        """Write the state of the run that is at work."""
        with whole_file(self._path) as part:
            self.finish(part, status, **more)

    def finish(self, path: Path, status: str, **more: Any) -> None:
        """Write the run file of a version."""
        told = self._redact.tree({"status": status, **self.asked, **more})
        path.write_text(json.dumps(told, indent=1) + "\n")

    def remove(self) -> None:
        """Remove the state in the scratch folder."""
        self._path.unlink(missing_ok=True)
