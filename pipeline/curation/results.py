"""Results of stages in the memo: under which key, in which form, and how they are read back."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from pydantic_core import PydanticSerializationError, from_json, to_json

from models.errors import MediaError
from models.files import record_digest
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Stage, field_json
from stages.reasons import Reason
from stages.records import Video
from stages.view import ContractError, View, results_of

FIELDS = frozenset(field.name for field in fields(Video))
SELECTED_FROM = {"kept_clips": "clips", "clips_before_match": "clips", "kept_actions": "actions"}
"""Properties that are a part of a field, in its order."""
FORM = "form"
"""Mark of a record whose texts are those that keys are made of. Earlier releases wrote the values as the
stage gave them: a whole number, say, where the field holds fractions."""
PASSING = frozenset({Reason.UNREADABLE, Reason.CHANGED})
"""Reasons that speak of a moment, not of the content; they are not remembered."""


def memo_key(stage: Stage, video: Video) -> str:
    """Return the hash of all that a stage's result depends on."""
    head = to_json([stage.signature, stage.also_reads(video)])
    reads = b",".join(b'"%s":%s' % (name.encode(), _json_of(video, name)) for name in stage.reads)
    text = b"%s,{%s}]" % (head[:-1], reads)
    return f"{stage.name}-{hashlib.sha256(text).hexdigest()}"


_TEXTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Reader of a stored result as the JSON text of each field."""
_last_json: dict[str, tuple[object, bytes]] = {}
"""The last value of each field and property, and its JSON: several stages in a row read the same value."""


def _json_of(video: Video, name: str) -> bytes:
    """Return a field or property of a video as JSON; of fields, the types are known, which is faster."""
    value = getattr(video, name)
    whole = SELECTED_FROM.get(name)
    if whole is not None and len(value) == len(getattr(video, whole)):
        # Mostly nothing was dropped, and the JSON of all is known.
        return _json_of(video, whole)
    last, text = _last_json.get(name, (None, b""))
    if not text or not (last is value if whole is None else _same_items(last, value)):
        text = to_json(value) if name not in FIELDS else field_json(name).dump_json(value)
        _last_json[name] = value, text
    return text


def _same_items(some: object, others: Sequence[object]) -> bool:
    """Tell whether two lists hold the same objects; equal ones may differ in their JSON, as 1 and 1.0."""
    return isinstance(some, list) and len(some) == len(others) and all(map(operator.is_, some, others))


def reject_key(stage: Stage, key: str) -> str:
    """Return the key of a rejection by :meth:`Stage.measure`: some settings decide about that alone."""
    return f"reject-{record_digest([key, stage.rejects_with()])}"


def recall(stage: Stage, video: Video, key: str, memo: Memo) -> Video | None:
    """Return the video after a stage whose result or rejection is in the memo; None if neither is."""
    if judges_only(stage):
        return stage.judge(video)
    stored = memo.get(key, fresh=False)
    if stored is not None:
        result = read(stage, stored)
        return None if result is None else stage.judge(result.filled(video))
    rejected = memo.get(reject_key(stage, key), fresh=False)
    if rejected is None:
        return None
    reason, detail = from_json(rejected)
    return video.reject(stage.name, Reason(reason), detail)


def recalled(stages: Sequence[Stage], video: Video, memo: Memo) -> tuple[Video, list[Stage]]:
    """Return a video as far as its results are in the memo, and the stages whose results they are."""
    known: list[Stage] = []
    for stage in stages:
        if video.rejected:
            break
        after = recall(stage, video, memo_key(stage, video), memo)
        if after is None:
            break
        video = after
        known.append(stage)
    return video, known


def judges_only(stage: Stage) -> bool:
    """Tell whether a stage measures nothing, so that there is nothing to store."""
    return type(stage).measure is Stage.measure


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a stage.

    Attributes:
        values: by the field of :class:`Video` that they fill.
        texts: their JSON, as it is in keys; empty for a record of an earlier release.
    """

    values: Mapping[str, Any]
    texts: Mapping[str, bytes]

    def stored(self) -> str:
        """Return the record of the result."""
        parts = [b'"%s":%s' % (name.encode(), text) for name, text in self.texts.items()]
        return (b'{"%s":1,%s}' % (FORM.encode(), b",".join(parts))).decode()

    def filled(self, video: Video) -> Video:
        """Return the video with the result."""
        for name, text in self.texts.items():
            # The keys of later stages are made of it; writing it again takes longer than reading.
            _last_json[name] = self.values[name], text
        return video.with_results(**self.values)


def read(stage: Stage, stored: str) -> Result | None:
    """Return a stored result; None if it is not one of this version of the records."""
    try:
        texts = _TEXTS.decode(stored)
        values = {name: _reader(name).decode(texts[name]) for name in stage.writes}
    except (msgspec.DecodeError, KeyError):
        return None
    return Result(values, {name: bytes(texts[name]) for name in stage.writes} if FORM in texts else {})


def measured(stage: Stage, video: Video, file: Path | None) -> Result:
    """Measure a video with what the stage declares to read.

    Args:
        file: the local file with the video's bytes, for a stage that reads it.

    Raises:
        BadInputError: the file cannot be used.
        ContractError: the stage reads or writes an undeclared field, or a number is not finite.
    """
    view = View(video, stage=stage.name, reads=stage.reads, file=file)
    try:
        after = stage.measure(view)
    except MediaError as error:
        raise BadInputError(Reason(error.problem), error.detail) from error
    results = results_of(after, stage.name, stage.writes)
    values: dict[str, Any] = {}
    texts: dict[str, bytes] = {}
    for name in stage.writes:
        try:
            values[name], texts[name] = _read_back(name, results[name])
        except msgspec.DecodeError as error:
            # Numbers that are not finite become null, which no number of a result may be.
            raise ContractError(
                f"the stage {stage.name!r} writes infinity or NaN in {name}, or another type: {error}"
            ) from error
    return Result(values, texts)


def _read_back(name: str, value: object) -> tuple[Any, bytes]:
    """Return the value of a field as a later run reads it from the memo, and the JSON of that value."""
    writer, reader = field_json(name), _reader(name)
    try:
        text = writer.dump_json(value, warnings="error")
    except PydanticSerializationError:
        # Of another type, such as a mapping for a record: the text of the value that is read may differ.
        text = writer.dump_json(reader.decode(writer.dump_json(value, warnings="none")))
    return reader.decode(text), text


def rejection(error: BadInputError) -> str | None:
    """Return a rejection as JSON, as far as it is one of the content."""
    return None if error.reason in PASSING else json.dumps([error.reason.value, error.detail])


@functools.cache
def _reader(name: str) -> msgspec.json.Decoder[Any]:
    """Return the reader of a field of :class:`Video` from JSON."""
    return msgspec.json.Decoder(get_type_hints(Video)[name])
