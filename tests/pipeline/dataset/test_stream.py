"""Every row once an epoch, over ranks and workers, in an order that goes on exactly after a stop."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from examples.media import Truth
from pipeline.dataset.schema import TABLES
from pipeline.dataset.stream import DecodeClip, RowStream, StreamLoader, split_of
from pipeline.dataset.tables import write_tables

VIDEOS = 60


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    write_clips(folder, VIDEOS)
    return folder


def write_clips(folder: Path, videos: int) -> None:
    """Five clips a video."""
    blank = dict.fromkeys(TABLES["clips"].names)
    rows = [
        {
            "clips": [
                blank
                | {"video_id": f"{video * 7919:016x}", "clip_id": f"{video}-{at}", "start_s": at * 1.0}
                for at in range(5)
            ]
        }
        for video in range(videos)
    ]
    write_tables(folder, rows, max_shard=30_000, max_row_group=10_000)


def ids(loader: StreamLoader, count: int | None = None) -> list[list[str]]:
    return [[row["clip_id"] for row in batch] for batch in islice(iter(loader), count)]


def loader(folder: Path, workers: int = 0, rank: int = 0, world: int = 1) -> StreamLoader:
    stream = RowStream(folder, "clips", seed=3, rank=rank, world=world, columns=["clip_id", "video_id"])
    return StreamLoader(stream, batch_size=4, workers=workers)


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 0), (3, 2)])
def test_ranks_are_disjoint_and_complete(dataset: Path, world: int, workers: int) -> None:
    parts = [ids(loader(dataset, workers, rank, world)) for rank in range(world)]
    seen = Counter(name for part in parts for batch in part for name in batch)
    assert len(seen) == VIDEOS * 5 and set(seen.values()) == {1}
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) < 1.5 * min(sizes)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("stop", [1, 7, 32, 70])
def test_a_stopped_epoch_goes_on_exactly(dataset: Path, workers: int, stop: int) -> None:
    whole = loader(dataset, workers)
    first, second = ids(whole), ids(whole)
    assert first != second and sorted(chain(*first)) == sorted(chain(*second))
    stopped = loader(dataset, workers)
    assert ids(stopped, stop) == first[:stop]
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = loader(dataset, workers)
    resumed.load_state_dict(state)
    assert ids(resumed) == first[stop:]
    assert ids(resumed) == second


def test_a_state_of_other_workers_is_refused(dataset: Path) -> None:
    with pytest.raises(ValueError, match="of 1 workers, this loader has 2"):
        loader(dataset, 2).load_state_dict(loader(dataset).state_dict())


def test_rows_of_a_video_are_far_apart(dataset: Path) -> None:
    order = [name.partition("-")[0] for batch in ids(loader(dataset)) for name in batch]
    same = sum(one == other for one, other in pairwise(order))
    assert same < 60, "of 300; sorted there would be 240"


def test_splits_are_of_whole_videos_and_stay_when_videos_are_added(dataset: Path, tmp_path: Path) -> None:
    def split(folder: Path, name: str) -> set[str]:
        stream = RowStream(folder, "clips", split=name)  # type: ignore[arg-type]
        return {row["video_id"] for row in stream}

    parts = {name: split(dataset, name) for name in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == VIDEOS == len(set.union(*parts.values()))
    write_clips(tmp_path, 2 * VIDEOS)
    assert all(split(tmp_path, name) > part for name, part in parts.items() if part)
    shares = Counter(split_of(f"{number}") for number in range(20_000))
    assert shares["train"] / 20_000 == pytest.approx(0.9, abs=0.01)


def test_clips_are_decoded_from_where_they_start(dataset: Path, wordless: tuple[Path, Truth]) -> None:
    decode = DecodeClip(dataset, count=3, height_px=48, width_px=64, media_root=wordless[0].parent)
    row = {"video_uri": wordless[0].name}
    first = decode(row | {"start_s": 0.0, "end_s": 6.0})["frames"]
    second = decode(row | {"start_s": 6.0, "end_s": 12.0})["frames"]
    assert first.shape == second.shape == (3, 48, 64, 3) and first.dtype == np.uint8
    whole = decode(row | {"start_s": 0.0, "end_s": 12.0})["frames"]
    assert np.array_equal(whole[1], decode(row | {"start_s": 5.9, "end_s": 6.1})["frames"][1])
    assert abs(first.mean((0, 1, 2)) - second.mean((0, 1, 2))).max() > 20, "the scenes differ in colour"
