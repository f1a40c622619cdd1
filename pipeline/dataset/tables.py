"""The Parquet files of the six tables.

Files are a pure function of the rows. Shards are prefixes of ``video_id``, split where they grow too large,
so that a grown bucket rewrites few of them; a shard's name holds a digest of its bytes. Sizes are the bytes
of the rows as JSON, which depend on the row alone: one more video changes neither the other shards nor, in
its own shard, the row groups before it.
"""

from __future__ import annotations

import shutil
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import msgspec
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from pipeline.dataset.manifest import File, describe_file
from pipeline.dataset.schema import TABLES

Row = dict[str, Any]
Rows = dict[str, list[Row]]
ORDER = ("video_id", "uri", "start_s", "kind")
"""Columns that tables are sorted by, where they have them."""
CONVERTED_BYTES = 4_000_000
"""Rows are converted to Arrow in pieces of this size, which bounds the memory of the conversion."""
DIGEST_DIGITS = 8
_LINES = msgspec.json.Encoder()


class TableWriter:
    """Takes rows of videos in any order and writes them as sorted shards.

    Rows wait in temporary files; of the rows only the ids and places are held in memory. Every method
    raises :class:`OSError` where the disk is full.

    Args:
        folder: where the tables are written, one folder each.
        spool: folder for the temporary files.
        max_shard: bytes of a shard's rows as JSON, at most; a video that is larger stands alone.
        max_row_group: the same for a row group; a row that is larger stands alone.
    """

    def __init__(self, folder: Path, *, spool: Path, max_shard: int, max_row_group: int) -> None:
        self._folder = folder
        self._max_shard, self._max_row_group = max_shard, max_row_group
        self._spools = {name: _Spool(spool) for name in TABLES}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for spool in self._spools.values():
            spool.close()

    def add(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Take rows of one video, by table."""
        for name, table_rows in rows.items():
            self._spools[name].add(table_rows)

    def write(self) -> dict[str, list[File]]:
        """Write all tables.

        Returns:
            the shards by table, in order of ``video_id``; each table has at least one.
        """
        return {name: list(self._write_table(name)) for name in TABLES}

    def _write_table(self, name: str) -> Iterator[File]:
        spool = self._spools[name]
        order = spool.sort()
        ids, sizes = [spool.ids[at] for at in order], [spool.lengths[at] for at in order]
        (self._folder / name).mkdir(parents=True)
        for prefix, first, end in shard_ranges(ids, sizes, self._max_shard):
            yield self._write_shard(name, prefix, spool.read(order[first:end]))

    def _write_shard(self, name: str, prefix: str, lines: Iterable[bytes]) -> File:
        part = self._folder / name / "shard.part"
        schema, rows = TABLES[name], 0
        # An empty shard has no row group: datasets takes its batch size from the first.
        with pq.ParquetWriter(part, schema, compression="zstd", write_page_index=True) as writer:
            for group in _row_groups(lines, schema, self._max_row_group):
                writer.write_table(group, row_group_size=max(1, group.num_rows))
                rows += group.num_rows
        found = describe_file(self._folder, f"{name}/{part.name}", rows)
        path = f"{name}/part-{prefix or 'all'}-{found.sha256[:DIGEST_DIGITS]}.parquet"
        part.rename(self._folder / path)
        return File(path=path, bytes=found.bytes, sha256=found.sha256, rows=rows)


def write_tables(
    folder: Path, videos: Iterable[Mapping[str, Sequence[Row]]], *, max_shard: int, max_row_group: int
) -> dict[str, int]:
    """Write the tables of some videos into ``folder``, in place of those that are there; not atomically.

    Returns:
        number of rows by table.
    """
    for name in TABLES:
        shutil.rmtree(folder / name, ignore_errors=True)
    with TableWriter(folder, spool=folder, max_shard=max_shard, max_row_group=max_row_group) as writer:
        for rows in videos:
            writer.add(rows)
        return {name: sum(file.rows or 0 for file in files) for name, files in writer.write().items()}


def shard_ranges(ids: Sequence[str], sizes: Sequence[int], max_bytes: int) -> list[tuple[str, int, int]]:
    """Split a table into the shortest prefixes of ids that hold at most ``max_bytes`` each.

    Depends on the set alone, not on its history. An id that is larger by itself stands alone.

    Args:
        ids: sorted; an id may come more than once.
        sizes: bytes of each.

    Returns:
        (prefix, first, end) for each shard, in order; the empty prefix if there is nothing.
    """
    ends = [0, *accumulate(sizes)]
    found: list[tuple[str, int, int]] = []
    waiting = [("", 0, len(ids))]
    while waiting:
        prefix, first, end = waiting.pop()
        if ends[end] - ends[first] <= max_bytes or ids[first] == ids[end - 1]:
            found.append((prefix, first, end))
            continue
        inside: list[tuple[str, int, int]] = []
        while first < end:
            longer = ids[first][: len(prefix) + 1]
            stop = bisect_left(ids, longer + "\U0010ffff", first, end)
            if longer == prefix:  # The id ends here; those that go on come after it.
                stop = bisect_left(ids, longer + "\0", first, end)
            inside.append((longer, first, stop))
            first = stop
        waiting.extend(reversed(inside))
    return found


class _Spool:
    """Rows of one table in a temporary file, one JSON object a line, and where each video's rows lie."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.ids: list[str] = []
        self.lengths = array("Q")
        self._offsets = array("Q")
        self._end = 0

    def add(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        # All are of one video.
        names = [name for name in ORDER[1:] if name in rows[0]] if len(rows) > 1 else []
        data = _LINES.encode_lines(_sorted(rows, names) if names else rows)
        self._file.write(data)
        self.ids.append(rows[0]["video_id"])
        self._offsets.append(self._end)
        self.lengths.append(len(data))
        self._end += len(data)

    def sort(self) -> list[int]:
        """Return the places in order of id; equal ids in order of arrival."""
        return sorted(range(len(self.ids)), key=self.ids.__getitem__)

    def read(self, order: Sequence[int]) -> Iterator[bytes]:
        """Yield rows as JSON in the order of the table; ``order`` holds all places of each id."""
        for _, places in groupby(order, key=self.ids.__getitem__):
            lines, *others = [self._lines(place) for place in places]
            if others:
                lines = sorted(chain(lines, *others), key=lambda line: _sort_key(msgspec.json.decode(line)))
            yield from lines

    def _lines(self, place: int) -> list[bytes]:
        self._file.seek(self._offsets[place])
        return self._file.read(self.lengths[place]).split(b"\n")[:-1]

    def close(self) -> None:
        self._file.close()


def _sorted(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return rows in order of some columns; null comes first."""
    try:
        return sorted(rows, key=itemgetter(*names))
    except TypeError:
        # Null cannot be compared; a key that can takes far longer.
        return sorted(rows, key=partial(_sort_key, names=names))


def _sort_key(row: Row, names: Sequence[str] = ORDER) -> tuple[tuple[bool, Any], ...]:
    values = [row[name] for name in names if name in row]
    return tuple([(value is not None, value if value is not None else 0) for value in values])


def _row_groups(lines: Iterable[bytes], schema: pa.Schema, max_bytes: int) -> Iterator[pa.Table]:
    """Rows in groups of at most ``max_bytes`` of JSON; a row that is larger stands alone."""
    pieces: list[pa.RecordBatch] = []
    rows: list[bytes] = []
    group_bytes = piece_bytes = 0
    for line in lines:
        size = len(line)
        if group_bytes and group_bytes + size > max_bytes:
            yield pa.Table.from_batches([*pieces, _batch(rows, schema)])
            pieces, rows, group_bytes, piece_bytes = [], [], 0, 0
        elif piece_bytes > CONVERTED_BYTES:
            pieces.append(_batch(rows, schema))
            rows, piece_bytes = [], 0
        rows.append(line)
        group_bytes += size
        piece_bytes += size
    if rows:
        yield pa.Table.from_batches([*pieces, _batch(rows, schema)])


def _batch(lines: Sequence[bytes], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows that are given as JSON; columns that are not in the schema are left out."""
    data = b"\n".join(lines)
    table = pj.read_json(
        pa.BufferReader(data),
        # In one block, so that the pages of the file depend on the rows alone.
        pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    (batch,) = table.select(schema.names).to_batches()
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema)
