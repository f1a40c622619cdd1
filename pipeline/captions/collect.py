"""Captions of a strong model for a sample of a dataset's clips: what a captioner of our own learns from.

EXAMPLES holds the parts (:mod:`pipeline.dataset.examples`), and ``_memo`` and ``_ledger``: what was
answered is kept before it is used, so a run that stopped goes on and pays nothing twice.
"""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from models.errors import BudgetError, ReportedError, TransientError
from models.files import json_digest, parquet_files
from models.language import LanguageClient, Question
from models.ledger import Ledger, Total
from pipeline.captions.dataset import CaptionedClip, Captions, read_captions
from pipeline.captions.frames import find_pictures
from pipeline.curation.chain import endpoints
from pipeline.curation.config import Config
from pipeline.curation.servers import resolved, started_here
from pipeline.dataset import SCRATCH
from pipeline.dataset.examples import part_made_from, write_part
from pipeline.dataset.reading import open_dataset
from pipeline.platform.config import ConfigError
from pipeline.platform.memo import Memo
from pipeline.platform.progress import Bar
from stages import prompts
from stages.caption import PROMPT, Written, ask_for_texts, caption_question, pictured, spread
from stages.english.caption_rules import CaptionLimits, copied
from stages.frames import packed_frames

STAGE = "collect"
CLIPS_PER_PART = 32


class NoExamplesError(ReportedError):
    """No clip of the sample gave an example; the text says why."""


@dataclass(kw_only=True)
class Collected:
    """Result of a collection.

    Attributes:
        examples: that lie in the folder now.
        problems: why clips that were looked at in this run have no example, counted.
        totals: of all that was ever asked for this folder.
        stopped: why it ended before all clips were asked about; empty if they were.
    """

    examples: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    totals: list[Total] = field(default_factory=list)
    stopped: str = ""


def collect(dataset: Path, folder: Path, config: Config, *, clips: int | None, seed: int) -> Collected:
    """Fill EXAMPLES from a sample of the clips of a curated dataset.

    The sample of more clips holds that of fewer. Parts that are there already are left alone.

    Args:
        dataset: an OUTPUT of ``curate``. Its own captions are taken where the configuration has no model
            for pictures.
        clips: how many to ask about; None asks about all.

    Raises:
        CaptionsError: the dataset cannot be read.
        NoExamplesError: no clip gave an example.
        ConfigError: the configuration asks for what cannot be had here.
        models.errors.EndpointError: the endpoint refuses to answer as it is configured.
    """
    if config.caption.context or config.caption.merge:
        raise ConfigError(
            "caption.context, caption.merge: an example is of one clip and its pictures; leave both out"
        )
    [source] = read_captions([dataset])
    drawn = sorted(source.clips, key=lambda clip: json_digest([seed, clip.key]))[:clips]
    folder.mkdir(parents=True, exist_ok=True)
    with _teacher(source, folder, config) as teacher:
        parts = []
        for start in range(0, len(drawn), CLIPS_PER_PART):
            some = drawn[start : start + CLIPS_PER_PART]
            file = folder / f"part-{start // CLIPS_PER_PART:05d}.parquet"
            made_from = json_digest([teacher.made_from, [clip.key for clip in some]])
            parts.append(_Part(file=file, clips=some, made_from=made_from))
        known = {(part.file, made_from) for part in parts for made_from in part.states}
        for file in parquet_files(folder):
            # Captions of other models or rules would be mixed with these.
            if (file, part_made_from(file)) not in known:
                file.unlink()
        return _fill(parts, source, teacher, config)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    file: Path
    clips: list[CaptionedClip]
    made_from: str

    @property
    def states(self) -> tuple[str, str]:
        """Return the two marks of its file: when it is whole, and before."""
        return self.made_from, f"{self.made_from} in part"


def _fill(parts: Sequence[_Part], source: Captions, teacher: _Teacher, config: Config) -> Collected:
    result = Collected()
    total = sum(len(part.clips) for part in parts)
    seen = 0
    with Bar("collect", total, unit="clips") as bar:
        for part in parts:
            if part_made_from(part.file) != part.made_from:
                result.stopped = _fill_part(part, source, teacher, config, result)
            if result.stopped:
                break
            seen += len(part.clips)
            bar.to(seen, note=f"{result.problems.total()} without" if result.problems else "")
    result.totals = teacher.totals()
    files = [part.file for part in parts if part.file.is_file()]
    result.examples = sum(pq.read_metadata(file).num_rows for file in files)
    if not result.examples and not result.stopped:
        why, count = result.problems.most_common(1)[0]
        raise NoExamplesError(f"none of {total} clips gave an example: {why} ({count} clips)")
    return result


def _fill_part(part: _Part, source: Captions, teacher: _Teacher, config: Config, result: Collected) -> str:
    """Write one part, or what was answered of it; returns why it is not whole."""
    clips = part.clips
    timed = [replace(clip, frames_s=tuple(_times(clip, source, config.caption.frames))) for clip in clips]
    shown = find_pictures([source], [timed])
    asked: dict[str, Question] = {}
    for clip in timed:
        if clip.key not in shown.pictures:
            result.problems[shown.problems[clip.key]] += 1
            continue
        asked[clip.clip_id] = caption_question(
            PROMPT,
            {"seconds": round(clip.end_s - clip.start_s, 1)},
            _limits(config),
            [
                pictured(jpeg, config.caption.side_px, config.caption.crop)
                for jpeg in shown.pictures[clip.key]
            ],
        )
    written, stopped = teacher.write(asked)
    videos = {clip.clip_id: clip.video_id for clip in clips}
    rows = []
    for clip_id, (caption, model, problem) in written.items():
        if problem:
            result.problems[problem] += 1
            continue
        question = asked[clip_id]
        rows.append(
            {
                "clip_id": clip_id,
                "video_id": videos[clip_id],
                "frames": list(question.images),
                "instructions": question.instructions,
                "material": question.material,
                "caption": caption,
                "model": model,
                "prompt": prompts.label(PROMPT),
            }
        )
    if rows:
        whole, in_part = part.states
        write_part(part.file, rows, in_part if stopped else whole)
    return stopped


def _times(clip: CaptionedClip, source: Captions, count: int) -> list[float]:
    """Of so many pictures, evenly placed: packed frames where there are some, else any."""
    inside: list[float] = []
    packed = packed_frames(source.folder / SCRATCH, clip.video_id)
    if packed.is_file():
        with zipfile.ZipFile(packed) as archive:
            times = sorted(int(Path(name).stem) / 1e6 for name in archive.namelist())
        inside = [time_s for time_s in times if clip.start_s <= time_s < clip.end_s]
    step_s = (clip.end_s - clip.start_s) / count
    return spread(inside, count) or [clip.start_s + (nth + 0.5) * step_s for nth in range(count)]


Said = tuple[str, str, str]
"""Caption, what wrote it, and why there is none."""


class _Teacher(ABC):
    """Writer of the captions.

    Attributes:
        made_from: what the captions depend on beside the clips, as plain JSON values.
    """

    made_from: Any

    @abstractmethod
    def write(self, asked: dict[str, Question]) -> tuple[dict[str, Said], str]:
        """Captions by clip, and why some were not asked for."""

    def totals(self) -> list[Total]:
        """Return the requests and their cost."""
        return []


class _Endpoint(_Teacher):
    """A model that is asked."""

    def __init__(self, client: LanguageClient, ledger: Ledger, config: Config) -> None:
        self._client, self._ledger, self._limits = client, ledger, _limits(config)
        self.made_from = [client.endpoint.model, _asked_with(config)]

    def write(self, asked: dict[str, Question]) -> tuple[dict[str, Said], str]:
        stopped = ""
        try:
            answers: dict[str, Written] = dict(zip(asked, self._ask(list(asked.values())), strict=True))
        except TransientError as error:
            # What was answered is kept; to look it up now would mean to ask for the rest once more.
            return {}, str(error)
        except BudgetError as error:
            stopped, answers = str(error), {}
            for clip_id, question in asked.items():
                with suppress(BudgetError):
                    # What was answered until then costs nothing any more, and nothing else is sent.
                    [answers[clip_id]] = self._ask([question])
        return {clip_id: (new.text, new.model, new.problem) for clip_id, new in answers.items()}, stopped

    def _ask(self, questions: Sequence[Question]) -> list[Written]:
        # Nothing that is said goes with the question, so nothing can be copied from it.
        checks = [partial(copied, said="")] * len(questions)
        return ask_for_texts(self._client, questions, checks, self._limits)

    def totals(self) -> list[Total]:
        return self._ledger.totals()


class _Dataset(_Teacher):
    """The captions that the dataset has already."""

    def __init__(self, source: Captions, config: Config) -> None:
        clips = open_dataset(source.folder).table("clips", ["clip_id", "caption", "caption_model"])
        self._rows = {row["clip_id"]: row for row in clips.to_pylist()}
        told = [[row["clip_id"], row["caption"]] for row in self._rows.values()]
        self.made_from = [sorted(told), _asked_with(config)]

    def write(self, asked: dict[str, Question]) -> tuple[dict[str, Said], str]:
        rows = {clip_id: self._rows[clip_id] for clip_id in asked}
        return {clip_id: (row["caption"], row["caption_model"], "") for clip_id, row in rows.items()}, ""


@contextmanager
def _teacher(source: Captions, folder: Path, config: Config) -> Iterator[_Teacher]:
    sees = config.vision.base_url is not None or "vision" in config.server.serves
    if not sees:
        yield _Dataset(source, config)
        return
    # One model for both doors: no other is needed, and none is started.
    if config.vision.base_url is not None:
        config = config.model_copy(update={"language": config.vision})
    else:
        server = config.server.model_copy(update={"serves": ("language", "vision")})
        config = resolved(config.model_copy(update={"server": server}))
    with ExitStack() as stack:
        running = stack.enter_context(started_here(config, folder / "_servers"))
        _, vision = endpoints(config, running.base_urls)
        assert vision is not None
        memo = stack.enter_context(closing(Memo(folder / "_memo")))
        ledger = stack.enter_context(closing(Ledger(folder / "_ledger", config.budget)))
        # A larger budget may have been given since.
        ledger.resume()
        yield _Endpoint(LanguageClient(vision, memo, ledger=ledger, stage=STAGE), ledger, config)


def _asked_with(config: Config) -> list[Any]:
    """Return the settings that questions depend on beside the clips."""
    used = {"frames", "side_px", "crop", "max_words", "max_sentences"}
    return [prompts.digest(PROMPT), config.caption.model_dump(mode="json", include=used)]


def _limits(config: Config) -> CaptionLimits:
    return CaptionLimits(max_words=config.caption.max_words, max_sentences=config.caption.max_sentences)
