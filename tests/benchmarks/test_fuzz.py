"""A small, seeded part of the fuzz run; the whole is a benchmark."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fuzz import CONTAINERS, judged, write_sample


def test_damaged_files_of_ten_containers_are_kept_or_rejected_with_a_reason(tmp_path: Path) -> None:
    for kind in CONTAINERS:
        write_sample(tmp_path / f"sample.{kind}", kind)
    verdicts = judged(tmp_path, range(30), seed=11)
    assert [verdict.detail for verdict in verdicts if verdict.outcome == "bug"] == []
    assert {verdict.kind for verdict in verdicts} == set(CONTAINERS)
    assert sum(verdict.outcome == "kept" for verdict in verdicts) >= 10


def test_numbers_that_lead_to_before_the_start_are_damage(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.wmv", "wmv")
    # Found by the whole run.
    verdicts = judged(tmp_path, [328, 478, 1258], seed=0)
    assert [verdict.outcome for verdict in verdicts if verdict.outcome in ("bug", "crash")] == []
