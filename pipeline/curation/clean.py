"""Drop from a memo what no OUTPUT needs any more, and packed frames that no stage will read again.

An OUTPUT needs the results that the same command would look up: for each file of its INPUT the records
along the chain, with the configuration in its ``run.json``. Paid answers and counts of crashes stay.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import UsageError
from pipeline.curation.bucket_memo import open_memo
from pipeline.curation.bucket_output import MEMO
from pipeline.curation.config import Config
from pipeline.curation.engine import in_phases
from pipeline.curation.ingest import identify, input_root, sources_of, unique
from pipeline.curation.run_file import RUN_FILE
from pipeline.curation.selection import Selection
from pipeline.curation.servers import resolved
from pipeline.curation.worker import StageEvent, remembered
from pipeline.dataset import SCRATCH
from pipeline.platform.memo import Memo
from pipeline.platform.storage import is_url, store_of
from stages.base import Stage
from stages.frames import packed_frames
from stages.records import Video

STAYS = ("answer-", "crash-")
"""Beginnings of keys that no cleaning drops: they were paid for, or protect from a crash."""


class CleanError(UsageError):
    """Nothing can be cleaned; the text says why and what to do."""


@dataclass(slots=True, kw_only=True)
class Cleaning:
    """Result of a cleaning, or of its rehearsal.

    Attributes:
        kept: (records, bytes) in the memo afterwards.
        dropped: (records, bytes) by the kind of record: the name of a stage, ``content`` or ``reject``.
        missing: videos that the same command would process again, by the first stage without a result.
        frames_bytes: size of packed frames that go.
    """

    kept: tuple[int, int] = (0, 0)
    dropped: dict[str, tuple[int, int]] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    frames_bytes: int = 0


def clean(outputs: Sequence[Path | str], *, memo: Path | str | None, dry_run: bool) -> Cleaning:
    """Clean a memo and the scratch folders of the outputs that use it; no run may be at work in it.

    Args:
        outputs: all that use the memo, local or in a bucket; records that none of them needs are dropped.
        memo: local or in a bucket; None for the one in the only output.
        dry_run: change nothing.

    Raises:
        CleanError: an output has no run file, or lacks results that a run would compute again.
    """
    if memo is None and len(outputs) > 1:
        raise CleanError("clean: several OUTPUTs share a memo; name it with --memo")
    place = memo or f"{outputs[0]}/{MEMO}"
    if not is_url(place) and not Path(place).is_dir():
        raise CleanError(f"clean: {place}: there is no memo; name it with --memo")
    result = Cleaning()
    with closing(open_memo(place) if is_url(place) else Memo(Path(place))) as store:
        with closing(_Recorder(store.folder)) as recorder:
            stale = [path for output in outputs for path in _stale_frames(output, recorder, result.missing)]
        result.frames_bytes = sum(path.stat().st_size for path in stale)
        if result.missing and not dry_run:
            raise CleanError(
                f"clean: {result.missing.total()} videos are not finished, and what they will look up is "
                "unknown; finish the run first, or see --dry-run"
            )
        found = store.prune(lambda key: key in recorder.used or key.startswith(STAYS), dry_run=dry_run)
    result.kept, result.dropped = found.kept, found.dropped
    if not dry_run:
        for path in stale:
            path.unlink(missing_ok=True)
    return result


class _Recorder(Memo):
    """Memo that notes which records were looked up and found, and stores nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.used: set[str] = set()

    def get(self, key: str, *, fresh: bool = True) -> str | None:
        """See :meth:`Memo.get`."""
        found = super().get(key, fresh=fresh)
        if found is not None:
            self.used.add(key)
        return found

    def put(self, key: str, value: str, *, durable: bool = True) -> None:
        """Store nothing."""


def _stale_frames(output: Path | str, memo: _Recorder, missing: Counter[str]) -> Iterator[Path]:
    """Look up all that an output needs, count what is missing, and yield its frames that are stale."""
    try:
        text = (
            store_of(str(output)).get(RUN_FILE) if is_url(output) else Path(output, RUN_FILE).read_bytes()
        )
        run: dict[str, Any] = json.loads(text)
        config = resolved(Config.model_validate(run["config"]))
        selection, given = Selection.of_facts(run.get("selection", {})), run["input"]
    except (OSError, ValueError, KeyError) as error:
        raise CleanError(f"clean: {output}: no {RUN_FILE} of a finished run in it ({error})") from error
    surveyed = selection.of(sources_of(given, leave_out=output), input_root(given))
    originals, _ = unique(identify(surveyed, memo))
    kept = {video.video_id for video in _walk(config, (one.video() for one in originals), memo, missing)}
    if is_url(output):
        # Frames of such an output are in the caches of the nodes, which bound them.
        return
    frames = packed_frames(Path(output, SCRATCH), "00").parents[1]
    for path in sorted(frames.glob("*/*.zip")):
        if path.stem not in kept:
            yield path


def _walk(config: Config, videos: Iterable[Video], memo: Memo, missing: Counter[str]) -> list[Video]:
    """Look videos up along the chain; return those that end it, and are not rejected."""

    def look_up(some: Iterable[Video], stages: Sequence[Stage]) -> Iterator[Video]:
        for video in some:
            known, finished = (video, True) if video.rejected else remembered(stages, video, memo, _ignore)
            if finished:
                yield known
            else:
                missing[next(stage.name for stage in stages if stage.name not in known.passed)] += 1

    return [video for video in in_phases(config, videos, look_up) if not video.rejected]


def _ignore(event: StageEvent) -> None:
    pass
