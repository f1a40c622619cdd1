"""Batches from a folder of Parquet shards, as a pure function of the step.

Training must give the same losses on any number of processes and after any kill. So the data is split
into *lanes*, whose number is part of the configuration; a process serves lanes, and nothing that a batch
holds depends on which one does. A lane goes through its row groups in an order that is new in every epoch,
and through the rows of a group likewise: reading stays sequential, and only footers and the row groups
that a step needs are read, also when a run starts in the middle.

The shards, one after the other, are cut into as many stretches as there are lanes, of the same number of
rows give or take one, so that every row weighs the same. A row group that lies on a cut belongs to two
lanes, by ranges of its rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import UsageError
from models.files import parquet_files


class ShardError(UsageError):
    """A folder of shards cannot be read from; the text says which, and what to do."""


Piece = tuple[int, int, int, int]
"""File, row group, first row in it, end: what a lane reads in one go."""


class ShardBatches:
    """A map-style dataset: item ``step`` is the list of this rank's rows of the global batch ``step``.

    The global batch takes ``batch_size / lanes`` rows of every lane, in order of the lanes. Every row of a
    lane comes once in each of its epochs. Give it to a ``DataLoader`` with ``batch_size=None`` and
    ``sampler=range(first_step, steps)``; steps may be asked for in any order, by any process.

    Args:
        folder: holds ``*.parquet``; all of one schema.
        batch_size: rows of a step, over all ranks; a multiple of ``lanes``.
        lanes: parts of the data; a multiple of ``world``.
        rank: this process; it serves lanes ``rank, rank + world, ...``.
        columns: those to read; None reads all.

    Attributes:
        places: for each row of an item, its place in the global batch.
        lane_rows: rows of each lane, that is, the length of its epoch.

    Raises:
        ShardError: no shards, unreadable ones, fewer rows than lanes, or an unknown column.
        ValueError: lanes, world and batch size do not divide.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        batch_size: int,
        lanes: int,
        rank: int = 0,
        world: int = 1,
        columns: Sequence[str] | None = None,
    ) -> None:
        if lanes % world or batch_size % lanes:
            raise ValueError(
                f"world ({world}) must divide lanes ({lanes}), and lanes batch_size ({batch_size})"
            )
        self._seed = seed
        self._columns = list(columns) if columns is not None else None
        self._files = parquet_files(folder)
        if not self._files:
            raise ShardError(f"{folder}: no .parquet files in it")
        self._footers = [_footer(file) for file in self._files]
        for file, footer in zip(self._files, self._footers, strict=True):
            unknown = set(columns or ()) - set(footer.schema.to_arrow_schema().names)
            if unknown:
                raise ShardError(f"{file}: has no column {', '.join(sorted(unknown))}")
        self._lanes = _dealt(self._footers, lanes, folder)
        self.lane_rows = [sum(end - first for _, _, first, end in pieces) for pieces in self._lanes]
        self._take = batch_size // lanes
        self._served = range(rank, lanes, world)
        self.places = [lane * self._take + nth for lane in self._served for nth in range(self._take)]
        self._decoded: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._order = lru_cache(maxsize=2 * len(self._served))(self._new_order)

    def __getitem__(self, step: int) -> list[dict[str, Any]]:
        return [
            self._row(lane, *divmod(place, self.lane_rows[lane]))
            for lane in self._served
            for place in range(step * self._take, (step + 1) * self._take)
        ]

    def __getstate__(self) -> dict[str, Any]:
        """For loader processes that are spawned; what was decoded stays behind."""
        return {**self.__dict__, "_decoded": OrderedDict(), "_order": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2 * len(self._served))(self._new_order)

    def _row(self, lane: int, epoch: int, place: int) -> dict[str, Any]:
        pieces, ends = self._order(lane, epoch)
        at = bisect_right(ends, place)
        file, group, first, end = self._lanes[lane][pieces[at]]
        shuffled = self._shuffled(lane, epoch, int(pieces[at]), end - first)
        row = first + int(shuffled[place - (ends[at] - (end - first))])
        found: dict[str, Any] = self._table(file, group).slice(row, 1).to_pylist()[0]
        return found

    def _new_order(self, lane: int, epoch: int) -> tuple[NDArray[np.int64], list[int]]:
        """The pieces of a lane in the order of an epoch, and the place at which each ends."""
        order = np.random.default_rng([self._seed, lane, epoch]).permutation(len(self._lanes[lane]))
        lengths = (self._lanes[lane][piece][3] - self._lanes[lane][piece][2] for piece in order)
        return order, list(accumulate(lengths))

    def _shuffled(self, lane: int, epoch: int, piece: int, rows: int) -> NDArray[np.int64]:
        return _permutation((self._seed, lane, epoch, piece), rows)

    def _table(self, file: int, group: int) -> pa.Table:
        key = (file, group)
        if key not in self._decoded:
            # Opened anew each time, with the footer at hand: no handle is shared with a forked process.
            with pq.ParquetFile(self._files[file], metadata=self._footers[file]) as opened:
                self._decoded[key] = opened.read_row_group(group, columns=self._columns, use_threads=False)
            # A lane leaves a group for good when it enters the next; the one that it left goes first.
            if len(self._decoded) > len(self._served) + 1:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(key)
        return self._decoded[key]


@lru_cache(maxsize=256)
def _permutation(seed: tuple[int, ...], rows: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(rows)


def _footer(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{file}: not a readable Parquet file ({error})") from error


def _dealt(footers: Sequence[pq.FileMetaData], lanes: int, folder: Path) -> list[list[Piece]]:
    """The pieces of every lane."""
    total: int = sum(footer.num_rows for footer in footers)
    if total < lanes:
        raise ShardError(
            f"{folder}: {total} rows cannot fill {lanes} lanes; use more data or fewer lanes (train.lanes)"
        )
    dealt: list[list[Piece]] = [[] for _ in range(lanes)]
    start = 0
    for file, footer in enumerate(footers):
        for group in range(footer.num_row_groups):
            rows = footer.row_group(group).num_rows
            for lane, pieces in enumerate(dealt):
                first = max(0, lane * total // lanes - start)
                end = min(rows, (lane + 1) * total // lanes - start)
                if first < end:
                    pieces.append((file, group, first, end))
            start += rows
    return dealt
