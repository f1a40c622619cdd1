"""Readings of a run's figures: where its time went, what a clip cost, what other thresholds keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report.scores import BINS, Histogram

STEPS = (-4, -2, 2, 4)
"""Distances of the shown thresholds from the run's own, in bins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another threshold, and how many more clips would pass it than pass the run's own."""

    threshold: float
    more: int


def bottleneck(stages: Mapping[str, Mapping[str, float]]) -> str | None:
    """Return a sentence about the stage that took most of the workers' time; None if none took any."""
    total_s = sum(each["seconds"] for each in stages.values())
    if not total_s:
        return None
    name, slowest = max(stages.items(), key=lambda item: item[1]["seconds"])
    text = f"The bottleneck is {name}: {slowest['seconds'] / total_s:.0%} of the workers' time"
    if slowest.get("video_s") and slowest["seconds"]:
        text += (
            f", at {slowest['video_s'] / slowest['seconds']:.1f} seconds of video a second of one worker"
        )
    return text + "."


def costs(summary: Mapping[str, Any], kept_s: float) -> list[tuple[str, float, float]]:
    """Return tokens and US dollars per kept clip and per hour of kept video; empty without requests.

    Costs are upper bounds where the servers did not report them.
    """
    ledger = summary["ledger"]
    if not ledger:
        return []
    tokens = sum(row["input_tokens"] + row["output_tokens"] for row in ledger)
    usd = sum(row["at_most_usd"] for row in ledger)
    clips = summary["rows"]["clips"]
    shares = [("a kept clip", clips), ("an hour of kept clips", kept_s / 3600)]
    return [(name, tokens / share, usd / share) for name, share in shares if share]


def alternatives(histogram: Histogram) -> list[Alternative]:
    """Return some stricter and looser thresholds, at edges of bins, with what they would keep."""
    own = round(histogram.threshold / histogram.top * BINS)
    passing = sum(histogram.kept)
    found = []
    for step in STEPS:
        edge = own + step
        if 0 <= edge <= BINS:
            threshold = edge * histogram.top / BINS
            more = histogram.passing(threshold) - passing
            found.append(Alternative(threshold=round(threshold, 6), more=more))
    return found
