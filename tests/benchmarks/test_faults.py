"""The parts of the fault benchmark that start no run: moments, readings and sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_bench import Trial, logged
from benchmarks.fault_kinds import moments, spread
from benchmarks.faults import by_kind, figures, read_log
from benchmarks.witnesses import ChatServer, Reader, rows_lost, table_bytes, whole_of
from pipeline.dataset.schema import TABLES
from pipeline.dataset.versions import VersionWriter
from pipeline.platform.memo import Memo


def write(output: Path, videos: int) -> None:
    with VersionWriter(
        output, scratch=output / "_work", input_root="file:///in/", max_shard=10**6, max_row_group=10**6
    ) as version:
        for number in range(videos):
            rows: dict[str, list[dict[str, Any]]] = {
                name: [dict.fromkeys(schema.names) | {"video_id": f"{number:016x}"}]
                for name, schema in TABLES.items()
            }
            version.add(rows)
        version.write()
        version.commit()


@pytest.mark.parametrize(
    ("number", "most", "expected"), [(3, 8, [0, 1, 2]), (101, 3, [0, 50, 100]), (9, 1, [0]), (0, 2, [])]
)
def test_operations_are_spread(number: int, most: int, expected: list[int]) -> None:
    assert spread(number, most) == expected


def test_there_is_a_moment_in_each_part_of_a_run() -> None:
    found = moments(5, 10.0, seed=3)
    assert [int(moment // 2) for moment in found] == [0, 1, 2, 3, 4]
    assert found == moments(5, 10.0, seed=3) != moments(5, 10.0, seed=4)


def test_lost_rows_are_counted_in_all_tables(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    write(tmp_path / "b", 2)
    assert rows_lost(tmp_path / "a", tmp_path / "b") == len(TABLES)
    assert rows_lost(tmp_path / "b", tmp_path / "a") == rows_lost(tmp_path / "a", tmp_path / "a") == 0
    assert table_bytes(tmp_path / "a") != table_bytes(tmp_path / "b")


def test_a_reading_of_no_version_is_a_mix(tmp_path: Path) -> None:
    write(tmp_path / "out", 1)
    old = whole_of(tmp_path / "out")
    write(tmp_path / "out", 2)
    new = whole_of(tmp_path / "out")
    reader = Reader(tmp_path / "out")
    reader.versions.update([old[0], new[0]])
    reader.rows.update([old[1], new[1]])
    for version, _ in (old, new):
        reader.listings.update(zip(TABLES, version, strict=True))
    assert reader.mixes([old, new]) == 0
    reader.versions[(*old[0][:1], *new[0][1:])] += 2
    reader.rows[(old[1][0], *new[1][1:])] += 1
    reader.listings["clips", ()] += 1
    assert reader.mixes([old, new]) == 4


def test_trials_are_summed_by_kind(tmp_path: Path) -> None:
    good = Trial(
        kind="a",
        runner="local",
        identical=True,
        rows_lost=0,
        paid_twice=0,
        in_flight=1,
        mixed_reads=0,
        readings=5,
        seconds=1.0,
    )
    bad = replace(good, kind="b", identical=False, rows_lost=2, paid_twice=1, mixed_reads=3, note="x")
    for trial in (good, good, bad):
        logged(trial, tmp_path / "log")
    assert read_log(tmp_path / "log") == [good, good, bad]
    assert figures([good, good, bad]) == {
        "trials": 3, "identical": 2, "rows_lost": 2, "paid_twice": 1, "mixed_reads": 3
    }  # fmt: skip
    assert by_kind([good, bad, good]) == [
        ["local", "a", 2, 2, 0, 0, 2, 0, 10, "2", "2 x "], ["local", "b", 1, 0, 2, 1, 1, 3, 5, "1", "1 x x"]
    ]  # fmt: skip


def test_a_question_that_comes_again_was_paid_twice_if_the_memo_had_its_answer(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    with ChatServer() as server:
        server.begin(tmp_path)
        server.answered.update(("stored", "lost"))
        memo.put("stored", "{}")
        for key in ("new", "stored", "lost"):
            server.note(key)
    memo.close()
    assert (server.paid_twice, server.in_flight) == ({"stored"}, {"lost"})
