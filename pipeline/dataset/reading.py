"""One version of a dataset, as files: what every reader of the tables in this repository starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.files import parquet_files, whole_file
from pipeline.dataset.manifest import MANIFEST, DatasetError, File, Manifest, absolute_uri, parse_manifest
from pipeline.dataset.schema import SCHEMA_VERSION, TABLES
from pipeline.platform.cache import folder_of
from pipeline.platform.storage import ChangedError, Object, is_url, store_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A version of a dataset; a later one that takes its place is not seen.

    Attributes:
        folder: of the version; for one in a bucket, of the files that were copied to this node.
        manifest: None for tables of an earlier release.
        url: of the dataset in a bucket; None for a local one.
    """

    folder: Path
    manifest: Manifest | None
    url: str | None = None

    @property
    def in_bucket(self) -> bool:
        """Return whether the tables or the videos are in a bucket."""
        return self.url is not None or (self.manifest is not None and is_url(self.manifest.input_root))

    def files(self, table: str) -> list[Path]:
        """Return the shards of a table, in order of ``video_id``.

        Raises:
            DatasetError: there is no such table.
        """
        if self.manifest is not None and table in self.manifest.tables:
            return [self.path(file) for file in self.manifest.tables[table]]
        found = parquet_files(self.folder / table)
        if not found:
            raise DatasetError(f"{self.folder}: no table {table} in it; name an OUTPUT of `curate`")
        return found

    def path(self, file: File) -> Path:
        """Return the local path of a file; one in a bucket is copied when it is first asked for.

        Raises:
            DatasetError: its bytes in the bucket are not those of the manifest.
            FileNotFoundError: the bucket holds a later version, or the file was removed.
        """
        path = self.folder / file.path
        if self.url is None or path.exists():
            return path
        digest = ""
        with whole_file(path, shared=True) as part:
            with part.open("wb") as opened, suppress(ChangedError):
                found = Object(key=file.path, bytes=file.bytes, etag="")
                digest = store_of(self.url).download(found, opened)
            if digest != file.sha256:
                raise DatasetError(f"{self.url}/{file.path}: its bytes are not those of the manifest")
        return path

    def uri(self, uri: str) -> str:
        """Return a URI of the tables in its full form."""
        return absolute_uri(uri, self.manifest.input_root if self.manifest else "")

    def batches(self, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table in order, one row group at a time.

        Tables of an earlier schema version are read as well: columns that they lack are null.

        Raises:
            DatasetError: a shard is damaged, or was written by a later release.
        """
        schema = TABLES[table]
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        for path in self.files(table):
            try:
                with pq.ParquetFile(path) as file:
                    _check_version(path, file.schema_arrow)
                    there = [name for name in schema.names if name in file.schema_arrow.names]
                    for group in range(file.num_row_groups):
                        yield from _conform(file.read_row_group(group, columns=there), schema)
            except (OSError, pa.ArrowException) as error:
                # After the first line Arrow lists the whole schema.
                raise DatasetError(
                    f"{path}: cannot be read ({str(error).partition(chr(10))[0]}); curate it again"
                ) from error

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a whole table; see :meth:`batches`."""
        schema = TABLES[name]
        if columns is not None:
            schema = pa.schema([schema.field(column) for column in columns])
        return pa.Table.from_batches(self.batches(name, columns), schema)


def open_dataset(place: Path | str, *, copies: Path | None = None) -> Dataset:
    """Open the current version of an OUTPUT of ``curate``.

    Args:
        place: a folder, or the URL of one in a bucket.
        copies: folder for files of a bucket; this node's cache if None.

    Raises:
        DatasetError: its manifest cannot be used.
        models.errors.ReportedError: the store refuses or does not answer.
    """
    if is_url(place):
        return _open_remote(str(place).rstrip("/"), copies)
    # The folder behind the link: files of this version, also when another one takes its place.
    path = (Path(place) / MANIFEST).resolve()
    try:
        manifest = parse_manifest(path.read_bytes(), str(Path(place) / MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return Dataset(folder=Path(place), manifest=None)
    return Dataset(folder=path.parent, manifest=manifest)


def _open_remote(url: str, copies: Path | None) -> Dataset:
    try:
        text = store_of(url).get(MANIFEST)
    except FileNotFoundError as error:
        raise DatasetError(f"{url}: no {MANIFEST} in it; name an OUTPUT of `curate` or `push`") from error
    folder = copies or folder_of(url, "datasets") / hashlib.sha256(text).hexdigest()[:16]
    return Dataset(folder=folder, manifest=parse_manifest(text, f"{url}/{MANIFEST}"), url=url)


def _check_version(path: Path, schema: pa.Schema) -> None:
    version = int((schema.metadata or {}).get(b"schema_version", b"0"))
    if version > SCHEMA_VERSION:
        raise DatasetError(
            f"{path}: has schema version {version}, this release reads up to {SCHEMA_VERSION}; "
            "update videoauteur"
        )


def _conform(table: pa.Table, schema: pa.Schema) -> list[pa.RecordBatch]:
    """The table with the columns and types of ``schema``; those that it lacks are null."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    batches: list[pa.RecordBatch] = pa.Table.from_arrays(columns, schema=schema).to_batches()
    return batches
