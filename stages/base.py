"""Base class of every stage.

A stage measures and judges. :meth:`Stage.measure` does the costly work and is memoised under what the
stage *reads*; :meth:`Stage.judge` applies thresholds to what was measured, costs arithmetic, and runs
every time. To add a stage, subclass :class:`Stage` in a file of its own and name it in
``pipeline/curation/chain.py``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

from pydantic import TypeAdapter

from models.files import record_digest, tree_digest
from models.language import AnswerStore, Endpoint, LanguageClient
from models.ledger import Ledger
from models.settings import Section
from stages.frames import packed_frames
from stages.reasons import Reason
from stages.records import Video
from stages.view import id_of

Pool = Literal["media", "speech", "language"]
"""Kinds of work; their workers are configured by kind. A ``media`` worker decodes and computes on pictures,
a ``speech`` worker holds the recogniser. A ``language`` worker asks models and waits for most of its time:
there may be more of them than processors, and ``videoauteur plan`` runs the stages of this kind dry to
count their questions. Neighbouring stages run in the same process, one after the other, where their kinds
ask for the same workers (:func:`pipeline.curation.chain.groups`), and are still remembered singly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Services of a worker for its stages.

    Attributes:
        scratch: folder for packed frames; may be emptied between runs.
        answers: where paid answers are kept.
        language: the endpoint for text; None if there is none.
        vision: the endpoint for text about pictures; None if there is none.
        ledger: account of requests and their cost; None if they are not counted.
    """

    scratch: Path
    answers: AnswerStore
    language: Endpoint | None
    vision: Endpoint | None
    ledger: Ledger | None = None

    def client(self, stage: str, *, sees: bool = False) -> LanguageClient:
        """Return a client of the model for text, or with ``sees`` of the one for pictures.

        Args:
            stage: name under which the ledger enters the requests.

        Raises:
            ValueError: there is no such model.
        """
        endpoint = self.vision if sees else self.language
        if endpoint is None:
            section = "vision" if sees else "language"
            raise ValueError(f"there is no model: set {section}.base_url, or server.model that serves it")
        return LanguageClient(endpoint, self.answers, ledger=self.ledger, stage=stage)

    def frames_path(self, video: Video) -> Path:
        """Return the path of a video's packed frames."""
        return packed_frames(self.scratch, id_of(video))


RULES = Path(__file__).parent
"""Folder that :attr:`Stage.rules` are relative to."""


@functools.cache
def digest_of_rules(names: tuple[str, ...]) -> str:
    """Return a digest of files of rules and prompts, and of all such files in folders."""
    return tree_digest(RULES, names, (".py", ".txt", ".json"))


@functools.cache
def field_json(name: str) -> TypeAdapter[Any]:
    """Return the reader and writer of a field of :class:`Video` as JSON."""
    return TypeAdapter(get_type_hints(Video)[name])


def _undescribed(schema: Any) -> Any:
    """Return a JSON schema without descriptions: they are docstrings, which no result depends on."""
    if isinstance(schema, dict):
        return {
            name: _undescribed(value)
            for name, value in schema.items()
            if not (name == "description" and isinstance(value, str))
        }
    return [_undescribed(value) for value in schema] if isinstance(schema, list) else schema


@functools.cache
def field_schema(name: str) -> Any:
    """Return the JSON schema of a field of :class:`Video`; pydantic takes milliseconds to make it."""
    return _undescribed(field_json(name).json_schema())


class BadInputError(Exception):
    """The file itself cannot be used; the video is rejected and never retried."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Stage:
    """One curation step: one :class:`Video` in, the same one enriched out.

    Attributes:
        name: unique, the label in rejects, metrics and reports.
        version: raised when the same input would be measured differently.
        pool: the kind of worker it shares with its neighbours.
        reads: fields of :class:`Video` that :meth:`measure` depends on.
        writes: fields that :meth:`measure` fills.
        reads_file: whether :meth:`measure` opens the video's file, with :func:`stages.view.file_of`.
        needs_frames: whether :meth:`measure` opens the packed frames.
        rules: files and folders of rules and prompts in ``stages/`` that :meth:`measure` applies; a change
            in one of them makes the stage measure again.
        measuring: the part of ``settings`` that changes what is measured; the rest judges. None where
            all of it judges.
        settings: the stage's own section of the configuration, set by its constructor.
        packer: the stage that packs the frames, set by the chain for stages that need them.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    pool: ClassVar[Pool]
    reads: tuple[str, ...] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    reads_file: ClassVar[bool] = False
    needs_frames: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = ()
    measuring: ClassVar[type[Section] | None] = None
    settings: Section
    packer: Stage | None = None

    def __init_subclass__(cls) -> None:
        """Refuse a stage whose results would be found for another content."""
        opens = cls.reads_file or cls.needs_frames
        if opens and isinstance(cls.reads, tuple) and "content_id" not in cls.reads:
            raise TypeError(
                f"{cls.__name__} opens the video's file or frames: `reads` must name content_id"
            )

    def measures_with(self) -> object:
        """Return the part of the configuration that changes what is measured, as plain JSON values."""
        if self.measuring is None:
            return None
        return {name: getattr(self.settings, name) for name in self.measuring.model_fields}

    @cached_property
    def signature(self) -> str:
        """Digest of all that results depend on beside the video: version, settings, rules, frames, schema.

        The schema of the fields is part of it, so that results of another version of the records are not
        found instead of not understood.
        """
        made_with = self.packer.signature if self.needs_frames and self.packer else ""
        schema = [field_schema(name) for name in self.writes]
        parts = [
            self.name,
            self.version,
            self.measures_with(),
            digest_of_rules(self.rules),
            made_with,
            schema,
        ]
        return record_digest(parts)

    def rejects_with(self) -> object:
        """Return settings that decide about a :class:`BadInputError` and change no result."""
        return None

    def also_reads(self, video: Video) -> object:
        """Return what :meth:`measure` depends on beside ``reads``, as plain JSON values.

        For files beside the video, whose content is no part of ``content_id``, and for parts of a field.
        """
        return None

    def open(self, workspace: Workspace) -> None:
        """Load what is needed, once a worker and before the first video."""
        self.workspace = workspace

    def has_packed(self, video: Video) -> bool:
        """Tell whether the packed frames that :meth:`measure` writes are there; of the scan alone."""
        return self.workspace.frames_path(video).exists()

    def close(self) -> None:
        """Let go of what :meth:`open` holds."""

    def measure(self, video: Video) -> Video:
        """Do the costly work.

        Raises:
            BadInputError: the file cannot be used.
            models.errors.MediaError: the same, found while the file was opened or decoded.
            models.errors.TransientError: worth another try; the worker tries again.
        """
        return video

    def judge(self, video: Video) -> Video:
        """Apply thresholds: return the video with what was dropped."""
        return video

    def __call__(self, video: Video) -> Video:
        return self.judge(self.measure(video))
