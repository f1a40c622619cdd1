"""Batches are a function of the step: exact sets, any number of processes, exact resume."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from pipeline.dataset.loader import ShardBatches, ShardError

ROWS = 50


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards with 50 rows in row groups of 7, one of them without rows, as curation may leave it."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, first, end in (("part-0", 0, 20), ("part-1", 20, 20), ("part-2", 20, ROWS)):
        table = pa.table(
            {
                "number": pa.array(range(first, end), pa.int64()),
                "text": pa.array([f"row {n}" for n in range(first, end)], pa.string()),
                "nested": pa.array([[n, n + 1] for n in range(first, end)], pa.list_(pa.int64())),
            }
        )
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=7)
    return folder


def _numbers(batches: ShardBatches, steps: range) -> list[list[int]]:
    return [[row["number"] for row in batches[step]] for step in steps]


@pytest.mark.parametrize(("lanes", "batch_size"), [(1, 5), (2, 10), (3, 6), (7, 14), (50, 50)])
def test_every_row_comes_once_in_each_epoch_of_its_lane(shards: Path, lanes: int, batch_size: int) -> None:
    batches = ShardBatches(shards, seed=0, batch_size=batch_size, lanes=lanes)
    assert sum(batches.lane_rows) == ROWS
    assert max(batches.lane_rows) - min(batches.lane_rows) <= 1
    take = batch_size // lanes
    owned = []
    for lane, length in enumerate(batches.lane_rows):
        steps = range(-(-3 * length // take))
        served = [number for step in _numbers(batches, steps) for number in step[lane * take :][:take]]
        epochs = [served[epoch * length : (epoch + 1) * length] for epoch in range(3)]
        for epoch in epochs:
            assert Counter(epoch) == Counter(set(epochs[0]))
        if length > 5:
            assert epochs[0] != epochs[1] != epochs[2]
        owned.append(set(epochs[0]))
    assert sorted(chain.from_iterable(owned)) == list(range(ROWS))


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_global_batch_does_not_depend_on_the_number_of_processes(shards: Path, world: int) -> None:
    alone = ShardBatches(shards, seed=3, batch_size=12, lanes=6)
    ranks = [
        ShardBatches(shards, seed=3, batch_size=12, lanes=6, rank=rank, world=world)
        for rank in range(world)
    ]
    assert sorted(chain.from_iterable(rank.places for rank in ranks)) == alone.places == list(range(12))
    for step in range(20):
        together = {
            place: row for rank in ranks for place, row in zip(rank.places, rank[step], strict=True)
        }
        assert [together[place] for place in range(12)] == alone[step]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_loader_workers_and_resume_change_nothing(shards: Path, workers: int) -> None:
    straight = _numbers(ShardBatches(shards, seed=1, batch_size=4, lanes=2), range(40))
    loader: DataLoader[Any] = DataLoader(
        ShardBatches(shards, seed=1, batch_size=4, lanes=2),  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(17, 40),
        num_workers=workers,
        collate_fn=list,
    )
    assert [[row["number"] for row in rows] for rows in loader] == straight[17:]


def test_a_spawned_worker_gets_the_same_batches(shards: Path) -> None:
    batches = ShardBatches(shards, seed=1, batch_size=4, lanes=2)
    before = _numbers(batches, range(9))
    assert _numbers(pickle.loads(pickle.dumps(batches)), range(9)) == before


def test_another_seed_is_another_order(shards: Path) -> None:
    first, second = (ShardBatches(shards, seed=seed, batch_size=10, lanes=2) for seed in (0, 1))
    assert _numbers(first, range(5)) != _numbers(second, range(5))


def test_a_late_step_reads_only_the_row_groups_that_it_needs(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = ShardBatches(shards, seed=0, batch_size=2, lanes=2)
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, **options: object) -> pa.Table:
        read.append(group)
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    batches[1000]
    assert len(read) == 2
    read.clear()
    _numbers(batches, range(1000, 1025))
    # 25 steps from there are one epoch of each lane, whose stretches touch four and five row groups.
    assert len(read) <= 9


def test_rows_are_whole_and_columns_can_be_chosen(shards: Path) -> None:
    (row,) = ShardBatches(shards, seed=0, batch_size=1, lanes=1)[0]
    number = row["number"]
    assert row == {"number": number, "text": f"row {number}", "nested": [number, number + 1]}
    (row,) = ShardBatches(shards, seed=0, batch_size=1, lanes=1, columns=["text"])[0]
    assert row == {"text": f"row {number}"}


def test_errors_name_the_folder_and_the_way_out(shards: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ShardError, match=f"{empty}: no .parquet"):
        ShardBatches(empty, seed=0, batch_size=2, lanes=2)
    with pytest.raises(ShardError, match=r"50 rows cannot fill 51 lanes; .*train.lanes"):
        ShardBatches(shards, seed=0, batch_size=51, lanes=51)
    with pytest.raises(ShardError, match=r"part-0.parquet: has no column colour"):
        ShardBatches(shards, seed=0, batch_size=2, lanes=2, columns=["text", "colour"])
    with pytest.raises(ValueError, match=r"world \(2\) must divide lanes \(3\)"):
        ShardBatches(shards, seed=0, batch_size=3, lanes=3, world=2)
    (shards / "part-9.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ShardError, match=r"part-9.parquet: not a readable Parquet file"):
        ShardBatches(shards, seed=0, batch_size=2, lanes=2)
