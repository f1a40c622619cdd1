"""Find the input files and name them by their content."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from models.errors import UsageError
from models.files import sha256_of
from pipeline.curation.files import VideoFiles, content_key
from pipeline.platform.memo import Memo
from pipeline.platform.storage import RefusedError, is_url, split_url, store_of, uri_of
from stages.base import BadInputError
from stages.reasons import Kind, Reason
from stages.records import Drop, Video, video_id_of
from stages.view import identity_from, path_of

LIST_SUFFIXES = (".txt", ".list")
HASH_THREADS = 4
HEAD_THREADS = 32
NO_OBJECT = "no such object in the bucket"
EMPTY = hashlib.sha256().hexdigest()


class InputError(UsageError):
    """INPUT cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input file.

    Attributes:
        uri: its place, as a ``file:`` URI: any name can be written so, also one that is not UTF-8. Of an
            object in a bucket, that of the store.
        content_id: sha256 of its bytes; empty when it was not read or cannot be.
        problem: why it cannot be read, or None.
        identity: its state before it was hashed; see :func:`stages.view.identity_from` and
            :attr:`pipeline.platform.storage.Object.identity`.
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
    if is_url(given):
        return uri_of(given.rpartition("/")[0] if _names_one(given) else given) + "/"
    path = _path(given)
    folder = Path(os.path.abspath(path if path.is_dir() else path.parent))  # noqa: PTH100
    return folder.as_uri().rstrip("/") + "/"


def sources_of(given: str, *, leave_out: Path | str | None = None) -> list[Source]:
    """Return the files that INPUT stands for with their states, sorted by name; no content is read.

    In a bucket everything below the URL counts, or the one object of that name; a ``.txt`` or ``.list``
    object is a list as a file is. Folders and lists on a disk: see :func:`list_files`. Lists may hold URLs.

    Args:
        leave_out: OUTPUT, in case it lies inside the folder.

    Raises:
        InputError: there is nothing there.
    """
    if not is_url(given):
        files = list_files(given, leave_out=leave_out if isinstance(leave_out, Path) else None)
        try:
            return survey(files)
        except UsageError as error:
            raise InputError(f"INPUT {given}: {error}") from error
    try:
        if given.endswith(LIST_SUFFIXES) and _names_one(given):
            root, key = split_url(given)
            folder = given.rpartition("/")[0]
            names = _lines(store_of(root).get(key), given)
            return survey(name if is_url(name) else f"{folder}/{name}" for name in names)
        found = _objects(given, str(leave_out or ""))
    except RefusedError as error:
        raise InputError(f"INPUT {error}") from error
    if not found:
        raise InputError(f"INPUT {given}: nothing in it to curate")
    return found


def _objects(url: str, leave_out: str) -> list[Source]:
    """Return all objects below a URL, or the one that it names."""
    if _names_one(url):
        return survey([url])
    inside = leave_out.removeprefix(url.rstrip("/")).strip("/") if leave_out.startswith(url) else ""
    base = uri_of(url)
    found = [
        (each.key, each.identity)
        for each in store_of(url.rstrip("/")).list()
        if not (inside and each.key.startswith(f"{inside}/"))
    ]
    found.sort(key=lambda each: each[0].encode())
    return [Source(uri=f"{base}/{quote(key)}", identity=identity) for key, identity in found]


@lru_cache(maxsize=8)
def _names_one(url: str) -> bool:
    """Return whether a URL names an object, not a folder."""
    root, key = split_url(url)
    return bool(key) and not url.endswith("/") and store_of(root).head(key) is not None


def list_files(given: str, *, leave_out: Path | None = None) -> list[Path | str]:
    """Return the files that INPUT stands for, sorted; the URLs of a list as they are.

    A folder stands for everything in it at any depth, whatever its name: content decides later. Links to
    folders and unreadable folders are listed like files, so that they end as rejects. A ``.txt`` or
    ``.list`` file holds one path a line, relative to itself; lines that start with ``#`` are skipped. Any
    other file stands for itself.

    Args:
        leave_out: OUTPUT, in case it lies inside the folder.

    Raises:
        InputError: there is nothing there.
    """
    path = _path(given)
    files: list[Path | str]
    try:
        if path.is_dir():
            files = [*sorted(_walk(path, leave_out), key=os.fsencode)]
        elif path.suffix in LIST_SUFFIXES and path.is_file():
            names = _lines(path.read_bytes(), path)
            files = [name if is_url(name) else path.parent / _path(name) for name in names]
        elif path.exists():
            files = [path]
        else:
            raise InputError(f"INPUT {given}: there is no such file or folder")
    except OSError as error:
        raise InputError(f"INPUT {given}: {error.strerror}") from error
    if not files:
        raise InputError(f"INPUT {given}: nothing in it to curate")
    return files


def _path(given: str) -> Path:
    """Return the path that a user wrote as such or as a ``file:`` URI, as tables hold them."""
    return path_of(given) if given.startswith("file://") else Path(given)


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


def _lines(data: bytes, path: Path | str) -> Iterator[str]:
    """Yield the lines of a list file: UTF-16 with a byte order mark, or bytes in the system's encoding.

    Raises:
        InputError: it is neither.
    """
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
            yield name


def survey(files: Iterable[Path | str]) -> list[Source]:
    """Return the state of every file without reading it; a file that is named twice comes once.

    Args:
        files: local paths, and URLs of objects.
    """
    # Not resolve(): a link is a file of its own here, and keeps its name.
    names = dict.fromkeys(
        str(file) if is_url(file) else os.path.abspath(file)  # noqa: PTH100
        for file in files
    )
    with ThreadPoolExecutor(HEAD_THREADS) as threads:
        urls = [name for name in names if is_url(name)]
        objects = dict(zip(urls, threads.map(_object_state, urls), strict=True))
    return [objects.get(name) or _state(Path(name)) for name in names]


def _object_state(url: str) -> Source:
    root, key = split_url(url)
    found, uri = store_of(root).head(key), uri_of(url)
    return Source(uri=uri, identity=found.identity) if found else Source(uri=uri, problem=NO_OBJECT)


def _state(path: Path) -> Source:
    uri = path.as_uri()
    try:
        facts = path.stat()
    except OSError as error:
        return Source(uri=uri, problem=error.strerror or str(error))
    if not stat.S_ISREG(facts.st_mode):
        return Source(uri=uri, problem=_problem(path, facts))
    return Source(uri=uri, identity=identity_from(facts))


def identify(surveyed: Iterable[Source], memo: Memo, files: VideoFiles | None = None) -> list[Source]:
    """Add the hash of every file's content; a file that has not changed since is not read again.

    An object of a bucket is left to the worker that reads it, unless another file has the same size and may
    be a copy: then the first of them is curated, and the others are not.

    Args:
        files: opens objects of buckets.
    """
    sources = list(surveyed)
    found: dict[int, tuple[str | None, str]] = {}
    todo: dict[int, str] = {}
    sizes = Counter(_size(source) for source in sources)
    for at, source in enumerate(sources):
        if source.problem is None:
            key = content_key(source.uri, source.identity)
            # Not fresh, which looks at the folder for each missing key: of a new INPUT that is all of them.
            stored = memo.get(key, fresh=False)
            if stored is not None:
                found[at] = (None, stored.strip('"'))
            elif not is_url(source.uri) or sizes[_size(source)] > 1:
                todo[at] = key
    opener = files or VideoFiles()
    with ThreadPoolExecutor(HASH_THREADS) as threads:
        outcomes = threads.map(lambda at: _digest(sources[at], opener), todo)
        for (at, key), outcome in zip(todo.items(), outcomes, strict=True):
            found[at] = outcome
            if outcome[0] is None:
                memo.put(key, f'"{outcome[1]}"', durable=False)
    return [
        replace(source, problem=found[at][0], content_id=found[at][1]) if at in found else source
        for at, source in enumerate(sources)
    ]


def _size(source: Source) -> str:
    return source.identity.partition("-")[0]


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


def _digest(source: Source, files: VideoFiles) -> tuple[str | None, str]:
    if _size(source) == "0":
        # Files of the kernel, such as /proc/kmsg, have no size, and reading them may block or never end.
        return None, EMPTY
    try:
        if is_url(source.uri):
            return None, files.content_id(source.video())
        return None, sha256_of(path_of(source.uri))
    except OSError as error:
        return error.strerror or str(error), ""
    except BadInputError as error:
        return error.detail, ""


def unique(sources: Iterable[Source]) -> tuple[list[Source], dict[str, str]]:
    """Split off copies.

    Returns:
        the first source of each content, and the URI of that first one by the URI of each copy.
    """
    first: dict[str, str] = {}
    originals: list[Source] = []
    copies: dict[str, str] = {}
    for source in sources:
        original = first.setdefault(source.content_id, source.uri) if source.content_id else source.uri
        if original != source.uri:
            copies[source.uri] = original
        else:
            originals.append(source)
    return originals, copies
