"""``manifest.json``: the files of one version of a dataset, and the folder that its URIs start from.

The manifest is the truth about a version: its tables are the files that it lists, no more and no fewer.
A folder without one, from an earlier release or from elsewhere, is read by its ``*.parquet`` files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from models.errors import UsageError
from models.files import sha256_of

MANIFEST = "manifest.json"
FORMAT = 1


class DatasetError(UsageError):
    """A dataset cannot be used; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a version.

    Attributes:
        path: relative to the dataset, with forward slashes.
        bytes: its size.
        sha256: of its bytes, in hex.
        rows: of a shard; None for other files.
    """

    path: str
    bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All files of one version.

    Attributes:
        input_root: URI of the folder that relative URIs in the tables start from; ends with a slash.
        tables: shards by table, in order of ``video_id``.
        files: report, card and run file.
    """

    format: int = FORMAT
    schema_version: int
    input_root: str
    tables: dict[str, list[File]]
    files: list[File]

    def rows(self, table: str) -> int:
        """Rows of a table."""
        return sum(file.rows or 0 for file in self.tables[table])

    def all_files(self) -> list[File]:
        """Shards of all tables, then the other files."""
        return [*(file for files in self.tables.values() for file in files), *self.files]

    def dump(self) -> bytes:
        """Return the content of ``manifest.json``."""
        return MANIFEST_JSON.dump_json(self, indent=1) + b"\n"


MANIFEST_JSON = TypeAdapter(Manifest)


def parse_manifest(text: bytes, place: str) -> Manifest:
    """Read the content of a ``manifest.json``.

    Raises:
        DatasetError: it is damaged, leads out of the dataset, or was written by a later release.
    """
    try:
        found = MANIFEST_JSON.validate_json(text)
    except ValidationError as error:
        raise DatasetError(f"{place}: not a manifest ({error.errors()[0]['msg']})") from error
    if found.format > FORMAT:
        raise DatasetError(
            f"{place}: has format {found.format}, this release reads up to {FORMAT}; update videoauteur"
        )
    for file in found.all_files():
        if file.path.startswith("/") or ".." in file.path.split("/"):
            raise DatasetError(f"{place}: lists {file.path!r}, which lies outside the dataset")
    return found


def describe_file(folder: Path, path: str, rows: int | None = None) -> File:
    """Return the entry of a file that lies in ``folder``."""
    full = folder / path
    return File(path=path, bytes=full.stat().st_size, sha256=sha256_of(full), rows=rows)


def relative_uri(uri: str, root: str) -> str:
    """Return ``uri`` without ``root``; a URI outside of ``root`` stays absolute.

    URIs here are percent-encoded, also their colons, so that the rest cannot be taken for another scheme.
    """
    rest = uri.removeprefix(root)
    return rest if rest and rest != uri and not rest.startswith("/") else uri


def absolute_uri(uri: str, root: str) -> str:
    """Return the full form of a URI of the tables; the inverse of :func:`relative_uri`."""
    return uri if "://" in uri else root + uri
