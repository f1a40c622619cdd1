"""View of a video for a stage: the fields that it declares to read, and nothing else.

A result is stored under what its stage declares to read. A read beside that would serve stale results
without a word, so the worker gives :meth:`stages.base.Stage.measure` a view that refuses it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote_to_bytes, urlsplit

from stages.records import Video

PUBLIC = frozenset(
    [field.name for field in fields(Video)]
    + [name for name, value in vars(Video).items() if isinstance(value, property)]
)
"""Everything that a stage can read of a video."""


class ContractError(AssertionError):
    """Stage that reads or writes a field that it does not declare; the text names both."""


class View(Video):
    """A video that holds only what a stage declares to read.

    Args:
        video: the whole one.
        stage: name of the stage, for messages.
        reads: fields and properties of :class:`Video` that can be read.
        file: the local file with the video's bytes; None if the stage may not open it.
    """

    __slots__ = ("_file", "_results", "_stage", "_values", "_video")

    def __init__(self, video: Video, *, stage: str, reads: Collection[str], file: Path | None) -> None:
        self._set(video, stage, {name: getattr(video, name) for name in reads}, {}, file)

    def _set(
        self, video: Video, stage: str, values: dict[str, Any], results: dict[str, Any], file: Path | None
    ) -> None:
        # The record is frozen.
        for name, value in (
            ("_video", video),
            ("_stage", stage),
            ("_values", values),
            ("_results", results),
            ("_file", file),
        ):
            object.__setattr__(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        if name not in PUBLIC:
            return object.__getattribute__(self, name)
        values = object.__getattribute__(self, "_values")
        if name not in values:
            stage = object.__getattribute__(self, "_stage")
            raise ContractError(
                f"the stage {stage!r} reads {name!r} of a video, which its `reads` does not declare; "
                "return results with video.with_results(...), not with dataclasses.replace"
            )
        return values[name]

    def __repr__(self) -> str:
        return f"View({self._video!r}, stage={self._stage!r})"

    def with_results(self, **results: Any) -> Self:
        """See :meth:`Video.with_results`."""
        new = object.__new__(type(self))
        new._set(self._video, self._stage, self._values | results, self._results | results, self._file)
        return new


def results_of(measured: Video, stage: str, writes: Collection[str]) -> Mapping[str, Any]:
    """Return what a stage measured, by field.

    Raises:
        ContractError: the stage returned no view, wrote an undeclared field, or left out a declared one.
    """
    if not isinstance(measured, View):
        raise ContractError(f"the stage {stage!r} must return video.with_results(...) from measure")
    results: Mapping[str, Any] = measured._results
    for name in results:
        if name not in writes:
            raise ContractError(f"the stage {stage!r} writes {name!r}, which its `writes` does not declare")
    for name in writes:
        if name not in results:
            raise ContractError(f"the stage {stage!r} does not write {name!r}, which its `writes` declares")
    return results


@functools.lru_cache(maxsize=256)  # Stages and checks of one video ask for the same one.
def path_of(uri: str) -> Path:
    """Return the local path of a ``file:`` URI, byte for byte."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def identity_of(path: Path) -> str:
    """Return the state of a file as a text; see :func:`identity_from`."""
    return identity_from(path.stat())


def identity_from(state: os.stat_result) -> str:
    """Return the state of a file as a text: a file that was replaced or written since has another one."""
    return f"{state.st_size}-{state.st_mtime_ns}-{state.st_ctime_ns}-{state.st_ino}"


def size_of(video: Video) -> int:
    """Return the size of a video's file in bytes, when its content was hashed; 0 where it is unknown."""
    return int(video.identity.partition("-")[0] or 0)


def file_of(video: Video) -> Path:
    """Return the local path of a video's file. Its content is what ``content_id`` names; its name is not.

    Raises:
        ContractError: the stage does not declare that it reads the file.
    """
    if isinstance(video, View):
        if video._file is None:
            raise ContractError(
                f"the stage {video._stage!r} opens the video's file: set `reads_file` on its class"
            )
        file: Path = video._file
        return file
    return path_of(video.uri)


def id_of(video: Video) -> str:
    """Return the video's id, for the names of its scratch files; every stage may know it."""
    return video._video.video_id if isinstance(video, View) else video.video_id
