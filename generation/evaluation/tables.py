"""Rows of the feature tables that training reads; see :mod:`generation.data.features`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.platform.config import ConfigError


def read_rows(features: Path, table: str, limit: int) -> list[dict[str, Any]]:
    """The first rows of a table, in the order of its parts.

    Args:
        features: the folder with ``stories`` and ``clips``.
        limit: at most so many.

    Raises:
        ConfigError: the table is not there, or empty.
    """
    rows = list(islice(_rows(features / table), limit))
    if not rows:
        raise ConfigError(
            f"{features / table} holds no rows: --features wants the folder of features that "
            "`videoauteur train` made, with stories and clips"
        )
    return rows


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for part in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=16):
                yield from batch.to_pylist()
