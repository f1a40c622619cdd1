"""The files of the six tables.

Files are a pure function of the rows. Shards are prefixes of ``video_id``, split where they grow too
large, so a grown bucket rewrites few of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.schema import TABLES

Rows = dict[str, list[dict[str, Any]]]
HEX = "0123456789abcdef"


def shard_prefixes(sizes: Mapping[str, int], max_bytes: int, prefix: str = "") -> list[str]:
    """Prefixes of ids that split a table into parts of at most ``max_bytes``.

    A single id that is larger stands alone. Depends on the set alone, not on the order or history.

    Args:
        sizes: bytes by id.
    """
    if sum(sizes.values()) <= max_bytes or len(sizes) <= 1:
        return [prefix]
    found: list[str] = []
    for digit in HEX:
        inside = {key: size for key, size in sizes.items() if key.startswith(prefix + digit)}
        if inside:
            found.extend(shard_prefixes(inside, max_bytes, prefix + digit))
    return found


def write_tables(
    folder: Path, videos: Iterable[Rows], *, scratch: Path, max_shard: int, max_row_group: int
) -> dict[str, int]:
    """Write all tables, whole or not at all, one folder each.

    Args:
        folder: OUTPUT.
        videos: the rows of each video.
        scratch: on the same file system; new tables are written there first.

    Returns:
        number of rows by table.
    """
    collected: Rows = {name: [] for name in TABLES}
    for rows in videos:
        for name, table_rows in rows.items():
            collected[name].extend(table_rows)
    fresh = scratch / f"tables-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    for name, rows_ in collected.items():
        _write(fresh / name, TABLES[name], rows_, max_shard, max_row_group)
    for name in TABLES:
        old = fresh / f"old-{name}"
        if (folder / name).exists():
            (folder / name).rename(old)
        (fresh / name).rename(folder / name)
    shutil.rmtree(fresh)
    return {name: len(table_rows) for name, table_rows in collected.items()}


def _write(
    folder: Path, schema: pa.Schema, rows: Sequence[dict[str, Any]], max_shard: int, max_group: int
) -> None:
    folder.mkdir(parents=True)
    order = [name for name in ("video_id", "uri", "start_s", "kind") if name in schema.names]
    ordered = sorted(rows, key=lambda row: tuple(_sortable(row[name]) for name in order))
    table = pa.Table.from_pylist(ordered, schema=schema)
    ids = table.column("video_id").to_pylist()
    row_bytes = table.nbytes / max(1, len(ids))
    sizes: dict[str, int] = {}
    for video_id in ids:
        sizes[video_id] = sizes.get(video_id, 0) + round(row_bytes)
    for prefix in shard_prefixes(sizes, max_shard):
        inside = [index for index, video_id in enumerate(ids) if video_id.startswith(prefix)]
        shard = table.slice(inside[0], len(inside)) if inside else table
        path = folder / f"part-{prefix or 'all'}.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            # An empty shard has no row group: datasets takes its batch size from the first.
            if shard.num_rows:
                writer.write_table(shard, row_group_size=max(1, int(max_group / max(1.0, row_bytes))))


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)
