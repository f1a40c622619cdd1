"""The scores of clips and the thresholds on them, for report and inspector.

A kept clip's scores stand in its row, a dropped clip's failing score in the detail of its reject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.reading import Dataset

BINS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score of clips.

    Attributes:
        column: of the clips table.
        setting: name of the threshold.
        upper: the threshold is an upper bound.
        reason: of rejects below, or above, the threshold.
        top: right end of the histogram; larger scores fall into the last bin.
    """

    column: str
    setting: str
    upper: bool
    reason: str
    top: float = 1.0


SCORES = {
    "sharpness": Score(column="sharpness", setting="clip.min_sharpness", upper=False, reason="blurred"),
    "exposure": Score(column="exposure", setting="clip.min_exposure", upper=False, reason="too_dark"),
    "brightness": Score(column="exposure", setting="clip.max_exposure", upper=True, reason="too_bright"),
    "motion": Score(column="motion", setting="clip.min_motion", upper=False, reason="still", top=0.04),
    "watermark": Score(
        column="watermark_score", setting="watermark.threshold", upper=True, reason="watermark"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Kept and dropped clips by a score, in ``BINS`` bins from 0 to ``top``."""

    name: str
    setting: str
    upper: bool
    top: float
    threshold: float
    kept: list[int]
    dropped: list[int]

    def passing(self, threshold: float) -> int:
        """Return how many of these clips pass a threshold, which is rounded to the edge of a bin."""
        edge = min(BINS, max(0, round(threshold / self.top * BINS)))
        both = np.add(self.kept, self.dropped)
        return int((both[:edge] if self.upper else both[edge:]).sum())


def threshold_of(config: Mapping[str, Any], setting: str) -> Any:
    """Return the value of a setting, ``section.name``."""
    section, _, name = setting.partition(".")
    return config[section][name]


def dropped_values(rejects: pa.RecordBatch | pa.Table, reason: str) -> np.ndarray:
    """Return the failing scores of the clips that were dropped for a reason, NaN for all other rejects."""
    mine = pc.and_(pc.equal(rejects["kind"], "clip"), pc.equal(rejects["reason"], reason))
    found = pc.extract_regex(rejects["detail"], r"^\w+ (?P<value>[0-9]+(?:\.[0-9]+)?)\b")
    values = pc.if_else(mine, pc.struct_field(found, "value"), None)
    return floats(pc.cast(values, pa.float64()))


def floats(column: Any) -> np.ndarray:
    """Return a column as an array; null is NaN."""
    values = pc.cast(column, pa.float64())
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(values.to_numpy(zero_copy_only=False), float)


def histograms(dataset: Dataset, config: Mapping[str, Any]) -> list[Histogram]:
    """Count clips by their scores, one row group at a time."""
    kept = {name: np.zeros(BINS, int) for name in SCORES}
    dropped = {name: np.zeros(BINS, int) for name in SCORES}
    for batch in dataset.batches("clips", sorted({score.column for score in SCORES.values()})):
        for name, score in SCORES.items():
            kept[name] += _counted(floats(batch[score.column]), score.top)
    for batch in dataset.batches("rejects", ["kind", "reason", "detail"]):
        for name, score in SCORES.items():
            dropped[name] += _counted(dropped_values(batch, score.reason), score.top)
    return [
        Histogram(
            name=name, setting=score.setting, upper=score.upper, top=score.top,
            threshold=threshold_of(config, score.setting), kept=kept[name].tolist(),
            dropped=dropped[name].tolist(),
        )
        for name, score in SCORES.items()
    ]  # fmt: skip


def _counted(values: np.ndarray, top: float) -> np.ndarray:
    known = np.clip(values[~np.isnan(values)], 0, top)
    counts, _ = np.histogram(known, BINS, (0, top))
    return counts
