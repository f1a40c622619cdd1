"""Sentences and counts that the report draws from a run's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.report.insights import alternatives, bottleneck, costs
from pipeline.report.scores import BINS, Histogram
from pipeline.report.text import as_text

SUMMARY: dict[str, Any] = {
    "rows": {"videos": 9, "clips": 20, "actions": 1, "matches": 1, "narratives": 1},
    "videos": {"rejected": 5, "kept": 4},
    "no_videos": 4,
    "duration_s": {"in": 10.0, "kept_in_clips": 5.0},
    "actions_by_source": {},
    "text": dict.fromkeys(("words_per_action", "words_per_caption", "words_per_video", "clips_per_video")),
    "rejects": {},
    "stages": {},
    "ledger": [],
    "seconds": 1.0,
}


def test_the_bottleneck_is_named_with_its_pace() -> None:
    stages = {"probe": {"seconds": 1.0}, "caption": {"seconds": 3.0, "video_s": 60.0}}
    sentence = bottleneck(stages)
    assert (
        sentence is not None and "is caption: 75% of" in sentence and "at 20.0 seconds of video" in sentence
    )
    assert bottleneck({"probe": {"seconds": 0.0}}) is None


def test_costs_are_divided_by_what_was_kept() -> None:
    ledger = [{"input_tokens": 900, "output_tokens": 100, "at_most_usd": 2.0}] * 2
    found = costs(SUMMARY | {"ledger": ledger}, kept_s=1800)
    assert found == [("a kept clip", 100.0, 0.2), ("an hour of kept clips", 4000.0, 8.0)]
    assert costs(SUMMARY, kept_s=1800) == []


def test_other_thresholds_keep_more_or_fewer() -> None:
    kept, dropped = [0] * BINS, [0] * BINS
    kept[4], kept[6], kept[30], dropped[1] = 5, 7, 11, 3
    lower = Histogram(
        name="sharpness", setting="clip.min_sharpness", upper=False, top=1.0, threshold=0.1, kept=kept,
        dropped=dropped,
    )  # fmt: skip
    assert [(each.threshold, each.more) for each in alternatives(lower)] == [
        (0.0, 3), (0.05, 0), (0.15, -5), (0.2, -12),
    ]  # fmt: skip


def test_files_that_are_no_videos_are_counted_apart() -> None:
    text = as_text(SUMMARY, Path("out"))
    assert "videos      5 in: 1 rejected, 4 kept, 4 files that are no videos" in text
