"""Files that appear whole, locks and digests of files, the Parquet files of a folder, digests of JSON."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic_core import to_json


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


def is_locked(path: Path) -> bool:
    """Return whether a living process holds an exclusive lock on a file.

    A file whose lock cannot be tried, as where a file system has no locks, counts as locked.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(root: Path, names: Iterable[str], suffixes: Container[str]) -> str:
    """Return the hex sha256 of names and bytes of files below a folder.

    Args:
        names: files and folders, relative to ``root``; of a folder, all files at any depth.
        suffixes: files with another one are left out.
    """
    found = hashlib.sha256()
    for name in names:
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in suffixes:
                found.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return found.hexdigest()


def json_digest(value: object, *, ascii_only: bool = True) -> str:
    """Return the hex sha256 of a JSON value; the order of keys makes no difference.

    Args:
        ascii_only: escape other characters before hashing.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=ascii_only)
    return hashlib.sha256(text.encode()).hexdigest()


def record_digest(value: object) -> str:
    """Return the hex sha256 of lists, dataclasses and pydantic models as JSON, fields in their order."""
    return hashlib.sha256(to_json(value)).hexdigest()


def parts_digest(*parts: object) -> str:
    """Return the hex sha256 of JSON values and arrays; equal parts, equal digests."""
    whole = hashlib.sha256()
    for part in parts:
        # An array of NumPy, which this module need not import.
        if hasattr(part, "tobytes") and hasattr(part, "dtype") and hasattr(part, "shape"):
            whole.update(f"{part.dtype}{part.shape}".encode() + part.tobytes())
        else:
            whole.update(json.dumps(part).encode())
        whole.update(b"\n")
    return whole.hexdigest()


def _mine(shared: bool) -> str:
    return f"-{os.getpid()}" if shared else ""
