"""Columns of a dataset's tables, each read when a question needs it first and held from then on.

A first answer needs few columns; texts, which are nearly all of a table's bytes, come later. The rows of
one video are never held: they are read from the row groups that its id can be in.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from pipeline.dataset.manifest import DatasetError
from pipeline.dataset.reading import Dataset
from pipeline.dataset.schema import TABLES

Row = dict[str, Any]


class Columns:
    """The tables of a dataset; may be used by several threads.

    Args:
        dataset: None for a run that has not written its tables: they are then empty.
    """

    def __init__(self, dataset: Dataset | None) -> None:
        self._dataset = dataset
        self._locks = {name: threading.Lock() for name in TABLES}
        self._columns: dict[str, dict[str, pa.ChunkedArray]] = {name: {} for name in TABLES}
        self._lowered: dict[tuple[str, str], pa.ChunkedArray] = {}
        self._files: dict[str, ds.Dataset] = {}

    def table(self, name: str, columns: Sequence[str]) -> pa.Table:
        """Return columns of a table.

        Raises:
            DatasetError: a shard is damaged, or was written by a later release.
        """
        with self._locks[name]:
            there = self._columns[name]
            missing = [column for column in columns if column not in there]
            if missing:
                read = self._read(name, missing)
                there.update({column: read[column] for column in missing})
            return pa.table({column: there[column] for column in columns})

    def lowered(self, name: str, column: str) -> pa.ChunkedArray:
        """Return a column of texts in lower case: searching it takes a tenth of a search without case."""
        table = self.table(name, [column])
        with self._locks[name]:
            if (name, column) not in self._lowered:
                self._lowered[name, column] = pc.utf8_lower(table[column])
            return self._lowered[name, column]

    def holding(self, name: str, column: str, text: str) -> Any:
        """Return a mask of the rows whose text holds another, whatever the case."""
        chunks = self.lowered(name, column).chunks

        def search(chunk: pa.Array) -> pa.Array:
            return pc.fill_null(pc.match_substring(chunk, text.lower()), False)

        # Arrow searches in one thread; a search does not hold the interpreter's lock.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return pa.chunked_array(list(threads.map(search, chunks)), pa.bool_())

    def count(self, name: str) -> int:
        """Return the number of rows of a table, from the shards' footers."""
        return 0 if self._dataset is None else int(self._opened(name).count_rows())

    def of_video(self, name: str, video_id: str) -> list[Row]:
        """Return the whole rows of a video."""
        if self._dataset is None:
            return []
        try:
            found = self._opened(name).to_table(filter=pc.field("video_id") == video_id)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"table {name}: {str(error).partition(chr(10))[0]}") from error
        rows: list[Row] = found.to_pylist()
        return rows

    def page(self, name: str, columns: Sequence[str], mask: Any, *, offset: int, limit: int) -> Row:
        """Return some rows of a table and the number of all that are meant.

        Args:
            mask: of the rows that are meant; None means all.
        """
        table = self.table(name, columns)
        if mask is None:
            return {"total": table.num_rows, "rows": table.slice(offset, limit).to_pylist()}
        places = np.flatnonzero(np.asarray(mask))
        rows = table.take(pa.array(places[offset : offset + limit])).to_pylist()
        return {"total": len(places), "rows": rows}

    def _read(self, name: str, columns: Sequence[str]) -> pa.Table:
        if self._dataset is None:
            return pa.schema([TABLES[name].field(column) for column in columns]).empty_table()
        return self._dataset.table(name, columns)

    def _opened(self, name: str) -> ds.Dataset:
        assert self._dataset is not None
        if name not in self._files:
            files = [str(path) for path in self._dataset.files(name)]
            self._files[name] = ds.dataset(
                files, TABLES[name], format="parquet", filesystem=LocalFileSystem()
            )
        return self._files[name]
