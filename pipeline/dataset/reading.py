"""One version of a dataset, as files: what every reader of the tables in this repository starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.files import parquet_files
from pipeline.dataset.manifest import MANIFEST, DatasetError, Manifest, absolute_uri, parse_manifest
from pipeline.dataset.schema import SCHEMA_VERSION, TABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A version of a dataset; a later one that takes its place is not seen.

    Attributes:
        folder: of the version.
        manifest: None for tables of an earlier release.
    """

    folder: Path
    manifest: Manifest | None

    def files(self, table: str) -> list[Path]:
        """Return the shards of a table, in order of ``video_id``.

        Raises:
            DatasetError: there is no such table.
        """
        if self.manifest is not None and table in self.manifest.tables:
            return [self.folder / file.path for file in self.manifest.tables[table]]
        found = parquet_files(self.folder / table)
        if not found:
            raise DatasetError(f"{self.folder}: no table {table} in it; name an OUTPUT of `curate`")
        return found

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
                    f"{path}: cannot be read ({str(error).partition(chr(10))[0]})"
                ) from error

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a whole table; see :meth:`batches`."""
        schema = TABLES[name]
        if columns is not None:
            schema = pa.schema([schema.field(column) for column in columns])
        return pa.Table.from_batches(self.batches(name, columns), schema)


def open_dataset(place: Path) -> Dataset:
    """Open the current version of an OUTPUT of ``curate``.

    Raises:
        DatasetError: its manifest cannot be used.
    """
    # The folder behind the link: files of this version, also when another one takes its place.
    path = (place / MANIFEST).resolve()
    try:
        manifest = parse_manifest(path.read_bytes(), str(place / MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return Dataset(folder=place, manifest=None)
    return Dataset(folder=path.parent, manifest=manifest)


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
