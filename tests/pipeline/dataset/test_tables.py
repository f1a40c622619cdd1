"""Every clip and action is in exactly one place, and the files are a function of the rows."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic_core import to_json

from pipeline.curation.ingest import Source
from pipeline.curation.rows import duplicate_row, rows_of
from pipeline.dataset.schema import SCHEMA_VERSION, TABLES
from pipeline.dataset.tables import Rows, shard_ranges, write_tables
from pipeline.report.summary import summarise, write_card
from stages.reasons import FAILURES, Kind, Reason
from stages.records import Drop, Video
from tests.support.curating import table
from tests.support.videos import random_video

LARGE = 1_000_000_000
ENDS = (None, Reason.TOO_FEW_STEPS, Reason.NOT_A_VIDEO, Reason.BUG, Reason.WORKER_CRASHED)


def source_of(video: Video) -> Source:
    return Source(uri=video.uri, content_id=video.content_id)


def dataset(numbers: int = 12) -> list[Rows]:
    """The rows of some films, one of them with a copy."""
    films = [random_video(seed, ENDS[seed % len(ENDS)]) for seed in range(numbers)]
    found = [rows_of(source_of(one), one) for one in films]
    copy = Source(uri="file:///copy.mp4", content_id=films[0].content_id)
    found[0]["videos"].append(duplicate_row(copy, source_of(films[0]), films[0]))
    return found


def prefixes_of(sizes: dict[str, int], limit: int) -> list[str]:
    ids = sorted(sizes)
    return [prefix for prefix, _, _ in shard_ranges(ids, [sizes[name] for name in ids], limit)]


def plain(name: str) -> str:
    """The name of a shard without the digest of its bytes."""
    return name.rpartition("-")[0]


def written(folder: Path, rows: list[Rows], shard: int = LARGE, group: int = LARGE) -> dict[str, int]:
    folder.mkdir(exist_ok=True)
    return write_tables(folder, rows, max_shard=shard, max_row_group=group)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


@pytest.mark.parametrize("seed", range(40))
def test_every_clip_and_action_is_in_exactly_one_place(seed: int) -> None:
    end = ENDS[seed % len(ENDS)]
    video = random_video(seed, end)
    rows = rows_of(source_of(video), video)
    placed = Counter(
        [row["clip_id"] for row in rows["clips"]]
        + [row["action_id"] for row in rows["actions"]]
        + [row["clip_id"] or row["action_id"] for row in rows["rejects"] if row["kind"] != "file"]
    )
    everything = [clip.clip_id for clip in video.clips] + [action.action_id for action in video.actions]
    assert placed == Counter(everything)
    assert all((row["kind"] == "clip") == (row["clip_id"] is not None) for row in rows["rejects"])
    (told,) = rows["videos"]
    expected = "kept" if end is None else "failed" if end in FAILURES else "rejected"
    assert told["status"] == expected
    assert [row["reason"] for row in rows["rejects"] if row["kind"] == "file"] == ([end] if end else [])
    for name in ("clips", "actions", "matches"):
        assert told[f"num_{name}"] == len(rows[name])
    assert {row["clip_id"] for row in rows["matches"]} <= {row["clip_id"] for row in rows["clips"]}
    matched = {row["action_id"] for row in rows["matches"]}
    assert {row["action_id"] for row in rows["actions"] if row["matched"]} == matched
    assert len(rows["narratives"]) == (end is None)


def test_an_action_whose_clip_is_dropped_tells_so() -> None:
    video = random_video(next(seed for seed in range(99) if random_video(seed).matches))
    pair = video.matches[0]
    video = video.drop(
        Drop(kind=Kind.CLIP, stage="clip_roles", reason=Reason.TALKING, detail="", item_id=pair.clip_id)
    )
    told = {
        row["action_id"]: row["unmatched_because"] for row in rows_of(source_of(video), video)["actions"]
    }
    matched = {each.action_id for each in video.matches} - {pair.action_id}
    assert told[pair.action_id] == "clip_dropped" and all(told[name] is None for name in matched)


def test_a_rejected_video_takes_its_clips_and_actions_down_with_it() -> None:
    seed = next(seed for seed in range(99) if random_video(seed).matches and random_video(seed).drops)
    video = random_video(seed, Reason.TOO_FEW_STEPS)
    rows = rows_of(source_of(video), video)
    assert all(rows[name] == [] for name in ("clips", "actions", "matches", "narratives"))
    ended = {
        (row["kind"], row["clip_id"] or row["action_id"]): (row["stage"], row["detail"])
        for row in rows["rejects"]
        if row["reason"] == "video_rejected"
    }
    kept = [("clip", clip.clip_id) for clip in video.kept_clips]
    kept += [("action", action.action_id) for action in video.kept_actions]
    assert ended == dict.fromkeys(kept, ("narrate", "the file was rejected: too_few_steps"))
    dropped = {drop.item_id: drop.reason for drop in video.drops if drop.item_id}
    assert dropped == {
        row["clip_id"] or row["action_id"]: row["reason"]
        for row in rows["rejects"]
        if row["kind"] != "file" and row["reason"] != "video_rejected"
    }


def test_the_rows_say_what_the_video_holds() -> None:
    seed = next(seed for seed in range(99) if len(random_video(seed).kept_clips) > 1)
    video = random_video(seed)
    rows = rows_of(source_of(video), video)
    (told,) = rows["videos"]
    assert told["uri"] == video.uri
    assert told["shot_starts_s"] == [0, 12]
    assert (told["language"], told["title"], told["has_audio"]) == ("en", "How to make soup?", True)
    first, second = rows["clips"][:2]
    assert (first["caption"], first["caption_model"], first["watermark_score"]) == ("A pot.", "m", 0.25)
    assert (first["screen_text"], first["caption_frames_s"]) == (["SOUP"], [first["start_s"]])
    assert (second["caption"], second["watermark_score"], second["screen_text"]) == (None, None, [])
    steps = rows["narratives"][0]["steps"]
    assert [step["clip_id"] for step in steps] == [row["clip_id"] for row in rows["clips"]]


def test_a_copy_has_a_row_of_its_own_that_names_the_first() -> None:
    video = random_video(1)
    copy = Source(uri="file:///other%20name.mp4", content_id=video.content_id)
    row = duplicate_row(copy, source_of(video), video)
    assert (row["uri"], row["status"], row["duplicate_of"]) == (copy.uri, "duplicate", video.uri)
    assert (row["video_id"], row["duration_s"]) == (video.video_id, 30.0)
    assert (row["num_clips"], row["num_actions"], row["num_matches"]) == (0, 0, 0)


def test_a_file_that_was_never_opened_has_a_row_without_facts() -> None:
    source = Source(uri="file:///gone.mp4", content_id="", problem="No such file or directory")
    rows = rows_of(source, source.video())
    (told,) = rows["videos"]
    assert (told["status"], told["duration_s"], told["has_audio"]) == ("rejected", None, None)
    (reject,) = rows["rejects"]
    assert (reject["stage"], reject["reason"]) == ("ingest", "unreadable")
    assert reject["detail"] == "No such file or directory"


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ({}, 100, [""]),
        ({"ab": 60, "cd": 40}, 100, [""]),
        ({"ab": 60, "cd": 41}, 100, ["a", "c"]),
        ({"ab": 500}, 100, [""]),
        ({"ab": 500, "a1": 1, "c1": 1, "c2": 1}, 100, ["a1", "ab", "c"]),
        ({"aaa1": 80, "aaa2": 80}, 100, ["aaa1", "aaa2"]),
        ({"a": 80, "ab": 80, "ac": 30}, 100, ["a", "ab", "ac"]),
    ],
)
def test_shards_are_the_shortest_prefixes_that_fit(
    sizes: dict[str, int], limit: int, expected: list[str]
) -> None:
    assert prefixes_of(sizes, limit) == expected


@pytest.mark.parametrize("seed", range(10))
def test_shards_depend_on_the_set_alone(seed: int) -> None:
    dice = random.Random(seed)
    sizes = {f"{dice.getrandbits(64):016x}": dice.randrange(1, 300) for _ in range(200)}
    prefixes = prefixes_of(sizes, 1000)
    assert prefixes == sorted(prefixes)
    assert all(sum(key.startswith(prefix) for prefix in prefixes) == 1 for key in sizes)
    held = {prefix: [key for key in sizes if key.startswith(prefix)] for prefix in prefixes}
    assert all(keys and sum(sizes[key] for key in keys) <= 1000 for keys in held.values())
    parents = {prefix[:-1] for prefix in prefixes}
    assert all(
        sum(size for key, size in sizes.items() if key.startswith(parent)) > 1000 for parent in parents
    )
    # One more video: shards on other prefixes stay as they were.
    grown = prefixes_of({**sizes, "0" * 16: 300}, 1000)
    assert {p for p in prefixes if not p.startswith("0")} == {p for p in grown if not p.startswith("0")}


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    rows = dataset()
    counts = written(tmp_path / "one", rows)
    written(tmp_path / "two", dataset()[::-1])
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert [plain(name) for name in sorted(one)] == [f"{name}/part-all" for name in sorted(TABLES)]
    assert one == two
    assert counts == {name: sum(len(part[name]) for part in rows) for name in TABLES}
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(TABLES)


def test_tables_are_sorted_by_video_and_time(tmp_path: Path) -> None:
    written(tmp_path, dataset()[::-1])
    for name, keys in {
        "videos": ("video_id", "uri"),
        "clips": ("video_id", "start_s"),
        "actions": ("video_id", "start_s"),
        "matches": ("video_id",),
        "narratives": ("video_id",),
    }.items():
        order = [tuple(row[key] for key in keys) for row in table(tmp_path, name)]
        assert len(order) > 1
        assert order == sorted(order)
    ids = [row["video_id"] for row in table(tmp_path, "rejects")]
    assert ids == sorted(ids)


def test_rejects_without_a_time_come_before_those_with_one(tmp_path: Path) -> None:
    film = random_video(1, Reason.TOO_FEW_STEPS)
    written(tmp_path, [rows_of(source_of(film), film)])
    times_s = [row["start_s"] for row in table(tmp_path, "rejects")]
    known_s = [time_s for time_s in times_s if time_s is not None]
    unknown = len(times_s) - len(known_s)
    assert min(unknown, len(known_s)) > 0
    assert times_s == [None] * unknown + sorted(known_s)


def test_small_shards_hold_the_same_rows_and_split_no_video(tmp_path: Path) -> None:
    rows = dataset(100)
    written(tmp_path / "whole", rows)
    written(tmp_path / "parts", rows, shard=900, group=300)
    for name in TABLES:
        parts = sorted((tmp_path / "parts" / name).iterdir())
        assert len(parts) > 2
        seen: set[str] = set()
        together: list[dict[str, Any]] = []
        for part in parts:
            here = pq.read_table(part).to_pylist()
            ids = {row["video_id"] for row in here}
            prefix = plain(part.name).removeprefix("part-")
            assert ids and all(video_id.startswith(prefix) for video_id in ids)
            assert not ids & seen
            seen |= ids
            together += here
        assert together == table(tmp_path / "whole", name)
    largest = max((tmp_path / "parts" / "videos").iterdir(), key=lambda path: path.stat().st_size)
    assert pq.ParquetFile(largest).num_row_groups == pq.ParquetFile(largest).metadata.num_rows > 1


def test_row_groups_hold_as_many_rows_as_fit(tmp_path: Path) -> None:
    rows = dataset(90)
    size_of = {row["clip_id"]: len(to_json(row)) + 1 for part in rows for row in part["clips"]}
    written(tmp_path, rows, group=2000)
    (part,) = (tmp_path / "clips").iterdir()
    groups = pq.ParquetFile(part)
    sizes = [
        [size_of[clip_id] for clip_id in groups.read_row_group(at)["clip_id"].to_pylist()]
        for at in range(groups.num_row_groups)
    ]
    assert len(sizes) > 3
    for size, following in pairwise(sizes):
        assert sum(size) <= 2000 < sum(size) + following[0]


def test_one_more_video_leaves_other_shards_and_earlier_row_groups_alone(tmp_path: Path) -> None:
    rows = dataset(400)
    long = random_video(next(seed for seed in range(200, 999) if len(random_video(seed).kept_clips) > 2))
    long = replace(
        long,
        video_id="7" * 16,
        content_id="7" * 64,
        captions=[replace(each, text="A pot. " * 999) for each in long.captions],
    )
    written(tmp_path / "before", rows, shard=3000, group=1000)
    written(tmp_path / "after", [*rows, rows_of(source_of(long), long)], shard=3000, group=1000)
    before, after = files(tmp_path / "before"), files(tmp_path / "after")
    changed = {plain(name) for name in before.keys() ^ after.keys()}
    assert changed and all(name.partition("/part-")[2].startswith("7") for name in changed)
    assert len(before) > 3 * len(changed)


def test_every_field_is_described_in_the_file_itself(tmp_path: Path) -> None:
    written(tmp_path, dataset())
    for name, schema in TABLES.items():
        (part,) = (tmp_path / name).iterdir()
        found = pq.read_schema(part)
        assert found.equals(schema, check_metadata=False)
        assert found.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
        assert len(found.metadata[b"description"]) > 10
        fields = [*found, *(inner for field in found for inner in nested(field.type))]
        assert all(len(field.metadata[b"description"]) > 5 for field in fields)
        column = pq.ParquetFile(part).metadata.row_group(0).column(0)
        assert column.is_stats_set and column.has_offset_index and column.has_column_index


def nested(kind: pa.DataType) -> list[pa.Field]:
    """The fields of a list of structures."""
    return list(kind.value_type) if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) else []


@pytest.mark.parametrize("empty", [False, True])
def test_pandas_duckdb_and_datasets_read_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    counts = written(out, [] if empty else dataset())
    assert all((count == 0) == empty for count in counts.values())
    write_card(out, summarise(out, counts, {}, [], 0.0))
    for name, schema in TABLES.items():
        rows = table(out, name)
        frame = pd.read_parquet(out / name)
        assert list(frame.columns) == schema.names
        assert len(frame) == counts[name]
        query = duckdb.sql(f"SELECT * FROM '{out / name}/*.parquet'")
        assert query.columns == schema.names
        assert [dict(zip(schema.names, row, strict=True)) for row in query.fetchall()] == rows
        # datasets refuses to hold an empty split, but streams one.
        loaded = datasets.load_dataset(
            str(out), name, split="train", cache_dir=str(tmp_path / "cache"), streaming=empty
        )
        assert loaded.column_names == schema.names
        assert list(loaded) == rows
    default = datasets.load_dataset(str(out), split="train", streaming=True)
    assert list(default) == table(out, "narratives")
