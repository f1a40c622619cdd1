"""Narratives or clips for training in PyTorch, in an order that a seed determines.

Row groups are dealt to ranks and to the workers of each, so that every one of them reads its own; where
there are few, they are cut into ranges of rows. A worker shuffles the rows of several of its pieces
together. What comes next is a pure function of seed, epoch and place, so that a run continues exactly
where it stopped; nothing that was passed is read or decoded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.media.spans import read_span
from pipeline.dataset.reading import Dataset, open_dataset
from pipeline.dataset.tables import Row
from pipeline.platform.cache import local_file
from pipeline.platform.storage import root_uri

Split = Literal["train", "validation", "test"]
SHARES: Mapping[Split, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}
WINDOW = 4
"""Pieces of a worker that are shuffled together."""
PIECES = 8
"""At least so many for each worker, as far as there are rows."""
CONVERTED = 32
"""Rows that are converted to Python at a time."""
Transform = Callable[[Row], Row]
State = dict[str, Any]


def split_of(video_id: str, shares: Mapping[Split, float] = SHARES) -> Split:
    """Return the split that a video belongs to, whichever other videos there are."""
    place = int(hashlib.sha256(video_id.encode()).hexdigest()[:8], 16) / 2**32
    end = 0.0
    for name, share in shares.items():
        end += share
        if place < end:
            return name
    return "train"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of a row group."""

    path: Path
    group: int
    rows: NDArray[np.int32]


class RowStream(IterableDataset[Row]):
    """The rows of a table, shuffled, for one rank; a ``DataLoader`` divides them among its workers.

    A row is a dictionary of its columns, with ``_slot`` and ``_place``: the worker that it belongs to, and
    how many rows of that worker come before it. Ranks have different rows, each row comes once an epoch.

    Args:
        dataset: an OUTPUT of ``curate``, or its URL in a bucket, of which this node copies the table.
        columns: those to read; None reads all.
        split: videos of this split alone; see :func:`split_of`.
        transform: applied to each row in the worker, such as :class:`DecodeClip`.

    Raises:
        pipeline.dataset.manifest.DatasetError: the table is missing or damaged.
    """

    def __init__(
        self,
        dataset: Path | str,
        table: Literal["clips", "narratives"],
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        split: Split | None = None,
        columns: Sequence[str] | None = None,
        transform: Transform | None = None,
    ) -> None:
        self._seed, self._rank, self._world = seed, rank, world
        self._columns = list(columns) if columns is not None else None
        self._transform = transform
        opened = open_dataset(dataset)
        self._groups = list(_groups(opened, table, split))
        self.in_bucket = opened.in_bucket
        """Tell whether tables or videos are in a bucket; a forked worker cannot use the bucket's client."""
        self.epoch = 0
        self.places: Sequence[int] = ()
        """Rows of each worker that were passed; where the next iteration starts."""
        self.first_slot = 0
        """The worker whose row comes first in the next iteration."""

    def __len__(self) -> int:
        """Rows of all ranks together."""
        return sum(len(piece.rows) for piece in self._groups)

    def __iter__(self) -> Iterator[Row]:
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        slot = ((worker.id if worker else 0) + self.first_slot) % workers
        start = self.places[slot] if self.places else 0
        for place, row in self._rows(slot, workers, start):
            found = self._transform(row) if self._transform else row
            yield found | {"_slot": slot, "_place": place}

    def _rows(self, slot: int, workers: int, start: int) -> Iterator[tuple[int, Row]]:
        """Rows of a worker from a place on, with their places."""
        pieces = self._pieces(self._rank * workers + slot, self._world * workers)
        place = 0
        for index in range(0, len(pieces), WINDOW):
            window = pieces[index : index + WINDOW]
            count = sum(len(piece.rows) for piece in window)
            if start < place + count:
                table = pa.concat_tables([self._read(piece) for piece in window])
                order = self._dice(slot, index).permutation(count)
                for first in range(max(0, start - place), count, CONVERTED):
                    rows = table.take(order[first : first + CONVERTED]).to_pylist()
                    yield from enumerate(rows, place + first)
            place += count

    def _pieces(self, slot: int, slots: int) -> list[_Piece]:
        """The pieces of a worker, in the order of the epoch."""
        parts = -(-PIECES * slots // max(1, len(self._groups)))
        pieces = [
            _Piece(group.path, group.group, rows)
            for group in self._groups
            for rows in np.array_split(group.rows, min(parts, max(1, len(group.rows))))
        ]
        order = self._dice().permutation(len(pieces))
        return [pieces[at] for at in order[slot::slots]]

    def _dice(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, self.epoch, *place])

    def _read(self, piece: _Piece) -> pa.Table:
        with pq.ParquetFile(piece.path) as file:
            table = file.read_row_group(piece.group, columns=self._columns, use_threads=False)
        return table.take(piece.rows)


def _groups(dataset: Dataset, table: str, split: Split | None) -> Iterator[_Piece]:
    """The row groups of a table, with the rows of a split."""
    for path in dataset.files(table):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = np.arange(file.metadata.row_group(group).num_rows, dtype=np.int32)
                if split is not None:
                    ids = file.read_row_group(group, columns=["video_id"])["video_id"].to_pylist()
                    rows = rows[[split_of(video_id) == split for video_id in ids]]
                if len(rows):
                    yield _Piece(path, group, rows)


class DecodeClip:
    """Transform that adds ``frames`` to a row of ``clips``: uint8 RGB ``[n, height, width, 3]``.

    Args:
        dataset: the one that the rows are from.
        count: pictures, at even distances over the clip.
        media_root: folder or URL in place of the manifest's ``input_root``, where the videos were moved.
            Videos in a bucket are copied to this node, as far as its cache goes.
    """

    def __init__(
        self,
        dataset: Path | str,
        *,
        count: int,
        height_px: int,
        width_px: int,
        media_root: Path | str | None = None,
    ) -> None:
        self._dataset = open_dataset(dataset)
        self._count, self._height_px, self._width_px = count, height_px, width_px
        self._root = f"{root_uri(media_root)}/" if media_root else None

    def __call__(self, row: Row) -> Row:
        """Raises :class:`models.errors.MediaError` where the video cannot be read."""
        uri = row["video_uri"]
        full = self._root + uri if self._root and "://" not in uri else self._dataset.uri(uri)
        step_s = (row["end_s"] - row["start_s"]) / self._count
        times_s = [row["start_s"] + (at + 0.5) * step_s for at in range(self._count)]
        with local_file(full) as path:
            pictures = read_span(path, times_s, height_px=self._height_px, width_px=self._width_px)
        return row | {"frames": pictures}


def _clean_processes() -> ForkServerContext:
    """Return a context whose processes share no bucket's client, which does not survive a fork.

    They are forks of a server that has imported all they need and opened nothing.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


class StreamLoader:
    """Batches of a :class:`RowStream`, with a state to continue from.

    One pass is one epoch. ``state_dict`` describes what was handed out; a new loader of the same stream,
    rank, world, workers and batch size that is given it goes on with the batch that would have come next.

    Args:
        collate: makes a batch of a list of rows; the list itself if None.
    """

    def __init__(
        self,
        stream: RowStream,
        *,
        batch_size: int,
        workers: int = 0,
        collate: Callable[[list[Row]], Any] | None = None,
    ) -> None:
        self._stream, self._workers = stream, workers
        self._collate = collate
        self._slots = max(1, workers)
        self._loader: DataLoader[Row] = DataLoader(
            stream,
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context=_clean_processes() if workers and stream.in_bucket else None,
        )

    def __iter__(self) -> Iterator[Any]:
        self._stream.places = self._stream.places or [0] * self._slots
        places, following = list(self._stream.places), self._stream.first_slot
        for rows in self._loader:
            slot = rows[-1]["_slot"]
            places[slot] = rows[-1]["_place"] + 1
            following = (slot + 1) % self._slots
            self._stream.places, self._stream.first_slot = list(places), following
            yield self._collate(rows) if self._collate else rows
        self._stream.epoch += 1
        self._stream.places, self._stream.first_slot = (), 0

    def state_dict(self) -> State:
        """Return what :meth:`load_state_dict` takes, as plain JSON values."""
        return {
            "epoch": self._stream.epoch, "places": list(self._stream.places), "slots": self._slots,
            "first_slot": self._stream.first_slot,
        }  # fmt: skip

    def load_state_dict(self, state: State) -> None:
        """Go on where another loader stopped.

        Raises:
            ValueError: it had another number of workers.
        """
        if state["slots"] != self._slots:
            raise ValueError(f"the state is of {state['slots']} workers, this loader has {self._slots}")
        self._stream.epoch, self._stream.places = state["epoch"], list(state["places"])
        self._stream.first_slot = state["first_slot"]
