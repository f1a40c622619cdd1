"""Examples to learn from: what a captioner is asked about a clip, and what it shall answer.

EXAMPLES holds ``part-*.parquet``, one row an example, in the order of a seeded draw. The question is kept
as it is put by ``curate``, so that a model that learns these examples answers the same question there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UsageError
from models.files import json_digest, parquet_files, whole_file
from pipeline.platform.config import ConfigError

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": text})
        for name, kind, text in (
            ("clip_id", pa.string(), "the clip"),
            ("video_id", pa.string(), "the video that it is part of"),
            ("frames", pa.list_(pa.binary()), "JPEG files of the pictures shown, in order"),
            ("instructions", pa.string(), "what was asked, the system's part"),
            ("material", pa.string(), "what was asked, the user's part after the pictures"),
            ("caption", pa.string(), "the description"),
            ("model", pa.string(), "what wrote it"),
            ("prompt", pa.string(), "name and digest of the prompt"),
        )
    ]
)
ROWS_PER_GROUP = 4
"""Rows are drawn in any order, and a row group is what is read for one; a row holds ten pictures."""

Example = Mapping[str, Any]
"""A row of :data:`SCHEMA`."""


class ExampleError(UsageError):
    """Examples cannot be had or used; the text says why, and what to do."""


def answer_of(example: Example) -> str:
    """Return the answer to learn: the caption in the form that the question demands."""
    return json.dumps({"caption": example["caption"]}, ensure_ascii=False)


def write_part(file: Path, rows: Sequence[Example], made_from: str) -> None:
    """One part, there whole or not at all.

    Args:
        made_from: of what, for :func:`part_made_from`.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    described = table.replace_schema_metadata({"made_from": made_from})
    with whole_file(file) as part:
        pq.write_table(described, part, row_group_size=ROWS_PER_GROUP, compression="zstd")


def part_made_from(file: Path) -> str | None:
    """Return what a part states that it was made from; None if it is not there."""
    if not file.is_file():
        return None
    metadata: dict[bytes, bytes] = pq.read_schema(file).metadata or {}
    return metadata.get(b"made_from", b"").decode()


class Examples(Sequence[Example]):
    """The rows of a folder, read when they are asked for.

    Args:
        rows: of which videos; None takes all.

    Raises:
        ExampleError: there are no examples in the folder.
    """

    def __init__(self, folder: Path, videos: Iterable[str] | None = None) -> None:
        self._files = parquet_files(folder)
        wanted = None if videos is None else frozenset(videos)
        self._places: list[tuple[int, int]] = []
        self.video_ids: list[str] = []
        for number, file in enumerate(self._files):
            for row, video_id in enumerate(_column(file, "video_id")):
                if wanted is None or video_id in wanted:
                    self._places.append((number, row))
                    self.video_ids.append(video_id)
        if not self._files:
            raise ExampleError(
                f"EXAMPLES {folder}: no .parquet files in it; run `videoauteur collect DATASET {folder}`"
            )

    def digest(self) -> str:
        """Changes with the clips and their captions."""
        told = [[_column(file, name) for name in ("clip_id", "caption")] for file in self._files]
        return json_digest(told)[:16]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        number, row = self._places[index]
        group, place = divmod(row, ROWS_PER_GROUP)
        return _group(self._files[number], group)[place]


def split_videos(video_ids: Iterable[str], held_out: float, seed: int) -> tuple[list[str], list[str]]:
    """Videos to train on and videos to hold out, each sorted.

    Clips of one video look alike: a caption of one tells of the other, so a video is on one side.

    Raises:
        ConfigError: one side would be empty.
    """
    videos = sorted(set(video_ids))
    if held_out == 0:
        return videos, []
    count = max(1, round(held_out * len(videos)))
    if count >= len(videos):
        raise ConfigError(
            f"captioner.held_out is {held_out}, and the examples are of {len(videos)} videos: none would "
            "be left to train on; collect from more videos, or set it to 0"
        )
    chosen = set(random.Random(seed).sample(videos, count))
    return [video for video in videos if video not in chosen], sorted(chosen)


def _column(file: Path, name: str) -> list[Any]:
    return list(pq.read_table(file, columns=[name])[name].to_pylist())


@lru_cache(maxsize=8)
def _group(file: Path, group: int) -> list[Example]:
    with pq.ParquetFile(file) as opened:
        return list(opened.read_row_group(group, use_threads=False).to_pylist())
