"""Find the input files and name them by their content."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import UsageError
from models.files import sha256_of
from pipeline.curation.files import content_key
from pipeline.platform.memo import Memo
from stages.records import Drop, Kind, Reason, Video, video_id_of
from stages.view import identity_from, path_of

LIST_SUFFIXES = (".txt", ".list")
HASH_THREADS = 4


class InputError(UsageError):
    """INPUT cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input file.

    Attributes:
        uri: its place, as a ``file:`` URI: any name can be written so, also one that is not UTF-8.
        content_id: sha256 of its bytes; empty when it was not read or cannot be.
        problem: why it cannot be read, or None.
        identity: its state before it was hashed; see :func:`stages.view.identity_from`.
    """

    uri: str
    content_id: str = ""
    problem: str | None = None
    identity: str = ""

    @property
    def video_id(self) -> str:
        """First 16 hex digits of the content's hash, or of the URI's where there is no content."""
        return video_id_of(self.content_id or hashlib.sha256(self.uri.encode()).hexdigest())

    def video(self) -> Video:
        """The record that the chain starts from."""
        video = Video(
            uri=self.uri, video_id=self.video_id, content_id=self.content_id, identity=self.identity
        )
        if self.problem is None:
            return video
        drop = Drop(kind=Kind.FILE, stage="ingest", reason=Reason.UNREADABLE, detail=self.problem)
        return video.drop(drop)


def input_root(given: str) -> str:
    """Return the URI of the folder that INPUT is or lies in, with a slash at its end."""
    path = path_of(given) if given.startswith("file://") else Path(given)
    folder = Path(os.path.abspath(path if path.is_dir() else path.parent))  # noqa: PTH100
    return folder.as_uri().rstrip("/") + "/"


def list_files(given: str, *, leave_out: Path | None = None) -> list[Path]:
    """Return the files that INPUT stands for, sorted.

    A folder stands for everything in it at any depth, whatever its name: content decides later. Links to
    folders and unreadable folders are listed like files, so that they end as rejects. A ``.txt`` or
    ``.list`` file holds one path a line, relative to itself; lines that start with ``#`` are skipped. Any
    other file stands for itself.

    Args:
        leave_out: OUTPUT, in case it lies inside the folder.

    Raises:
        InputError: there is nothing there.
    """
    if "://" in given and not given.startswith("file://"):
        raise InputError(f"INPUT {given}: only local folders and list files are supported so far")
    path = path_of(given) if given.startswith("file://") else Path(given)
    try:
        if path.is_dir():
            files = sorted(_walk(path, leave_out), key=os.fsencode)
        elif path.suffix in LIST_SUFFIXES and path.is_file():
            files = list(_listed(path))
        elif path.exists():
            files = [path]
        else:
            raise InputError(f"INPUT {given}: there is no such file or folder")
    except OSError as error:
        raise InputError(f"INPUT {given}: {error.strerror}") from error
    if not files:
        raise InputError(f"INPUT {given}: nothing in it to curate")
    return files


def _walk(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    """Yield the files of a tree of any depth, and its folders that are not entered."""
    left_out = _place(leave_out)
    # Not os.walk, which is recursive and passes over what it cannot enter.
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as found:
                entries = list(found)
        except OSError:
            if here == folder:
                raise
            yield here
            continue
        for entry in entries:
            path = here / entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield path
            elif left_out is None or _place(path) != left_out:
                waiting.append(path)


def _place(path: Path | None) -> tuple[int, int] | None:
    """Device and number of a file or folder; None if there is none."""
    try:
        state = path.stat() if path else None
    except OSError:
        return None
    return (state.st_dev, state.st_ino) if state else None


def _listed(path: Path) -> Iterator[Path]:
    """Yield the paths of a list file: UTF-16 with a byte order mark, or bytes in the system's encoding.

    Raises:
        InputError: it is neither.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = os.fsencode(data.decode("utf-16"))
        except UnicodeError as error:
            raise InputError(f"INPUT {path}: not a list of paths ({error}); save it as UTF-8") from error
    if b"\0" in data:
        raise InputError(f"INPUT {path}: not a list of paths (holds zero bytes); save it as UTF-8")
    for line in data.removeprefix(codecs.BOM_UTF8).splitlines():
        name = os.fsdecode(line).strip()
        if name and not name.startswith("#"):
            yield path.parent / name


def survey(files: Iterable[Path]) -> list[Source]:
    """Return the state of every file without reading it; a file that is named twice comes once."""
    # Not resolve(): a link is a file of its own here, and keeps its name.
    names = dict.fromkeys(os.path.abspath(file) for file in files)  # noqa: PTH100
    return [_state(Path(name)) for name in names]


def _state(path: Path) -> Source:
    uri = path.as_uri()
    try:
        facts = path.stat()
    except OSError as error:
        return Source(uri=uri, problem=error.strerror or str(error))
    if not stat.S_ISREG(facts.st_mode):
        return Source(uri=uri, problem=_problem(path, facts))
    return Source(uri=uri, identity=identity_from(facts))


def identify(surveyed: Iterable[Source], memo: Memo) -> list[Source]:
    """Add the hash of every file's content; a file that has not changed since is not read again."""
    sources = list(surveyed)
    found: dict[int, tuple[str | None, str]] = {}
    todo: dict[int, str] = {}
    for at, source in enumerate(sources):
        if source.problem is None:
            key = content_key(source.uri, source.identity)
            stored = memo.get(key)
            if stored is None:
                todo[at] = key
            else:
                found[at] = (None, stored.strip('"'))
    with ThreadPoolExecutor(HASH_THREADS) as threads:
        paths = [path_of(sources[at].uri) for at in todo]
        for (at, key), outcome in zip(todo.items(), threads.map(_digest, paths), strict=True):
            found[at] = outcome
            if outcome[0] is None:
                memo.put(key, f'"{outcome[1]}"', durable=False)
    return [
        replace(source, problem=found[at][0], content_id=found[at][1]) if at in found else source
        for at, source in enumerate(sources)
    ]


def _problem(path: Path, facts: os.stat_result) -> str:
    """Why something that is no file was not read."""
    if not stat.S_ISDIR(facts.st_mode):
        return "not a regular file"
    if path.is_symlink():
        return "a link to a folder, which is not followed; name the folder itself as INPUT"
    try:
        os.scandir(path).close()
    except OSError as error:
        return f"a folder that cannot be read: {error.strerror}"
    return "a folder; a list names files"


def _digest(path: Path) -> tuple[str | None, str]:
    try:
        return None, sha256_of(path)
    except OSError as error:
        return error.strerror or str(error), ""


def unique(sources: Iterable[Source]) -> tuple[list[Source], dict[str, str]]:
    """Split off copies.

    Returns:
        the first source of each content, and the URI of that first one by the URI of each copy.
    """
    first: dict[str, str] = {}
    originals: list[Source] = []
    copies: dict[str, str] = {}
    for source in sources:
        if source.problem is None and source.content_id in first:
            copies[source.uri] = first[source.content_id]
            continue
        first[source.content_id] = source.uri
        originals.append(source)
    return originals, copies
