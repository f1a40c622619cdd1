"""Files that appear whole, the Parquet files of a folder, and digests of files and of JSON."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, shared: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; at the end it takes the place of ``path``.

    After an error inside it is removed and ``path`` is as it was. A killed process leaves it behind; the
    next writer overwrites it.

    Args:
        path: its folder is made when it is missing. The path to write to has the same suffix.
        shared: several processes may write ``path`` at once; each gets a path of its own.
        durable: the content is on the disk before the name is, so that it outlives a power failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}{_mine(shared)}.part{path.suffix}")
    try:
        yield part
        if durable:
            to_disk(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a new folder beside ``path`` to fill; at the end it takes the place of ``path``.

    After an error inside it is removed and ``path`` is as it was. For a moment between the removal of the
    old folder and the renaming there is none.

    Args:
        path: its parent is made when it is missing.
        durable: the new name is on the disk at the end; the files are the caller's affair.
    """
    part = path.with_name(f".{path.name}{_mine(shared=True)}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        part.rename(path)
        if durable:
            to_disk(path.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_whole(path: Path, content: bytes | str, *, shared: bool = False, durable: bool = False) -> None:
    """Write a file whole or not at all; text as UTF-8. See :func:`whole_file`."""
    with whole_file(path, shared=shared, durable=durable) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def to_disk(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder by name; parts that are not whole yet are hidden files."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(value: object) -> str:
    """Return the hex sha256 of a JSON value; the order of keys makes no difference."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _mine(shared: bool) -> str:
    return f"-{os.getpid()}" if shared else ""
