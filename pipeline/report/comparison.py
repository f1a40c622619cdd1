"""Two runs compared, clip by clip: what a changed threshold or captioner changed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipeline.report.columns import Row
from pipeline.report.inspector import Inspected

PLACE = ["video_id", "start_s", "end_s"]
"""Clips are the same if these are."""
KINDS = ("lost", "gained", "captions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The clips that differ between two runs.

    Attributes:
        settings: thresholds that differ: name to the old and the new value.
        changes: a row a clip: ``kind`` (kept by the old run alone, by the new one alone, or captioned
            otherwise), video and times, ``old`` and ``new`` caption, and ``why`` the other run dropped it.
    """

    settings: dict[str, list[float | None]]
    changes: pd.DataFrame

    def page(self, offset: int, limit: int) -> Row:
        """Return the counts by kind, the settings, and some of the clips."""
        counts = self.changes["kind"].value_counts()
        rows = self.changes.iloc[offset : offset + limit].astype(object)
        return {
            "counts": {kind: int(counts.get(kind, 0)) for kind in KINDS},
            "settings": self.settings,
            "total": len(self.changes),
            "rows": rows.where(rows.notna(), None).to_dict("records"),
        }


def compare(old: Inspected, new: Inspected) -> Comparison:
    """Compare two runs: the clips that were lost first, then the gained ones, then the captions."""
    both = _clips(old).merge(_clips(new), on=PLACE, how="outer", suffixes=("_old", "_new"), indicator=True)
    both = both.rename(columns={"caption_old": "old", "caption_new": "new"})
    differs = both["old"].fillna("") != both["new"].fillna("")
    parts = [
        _explained(both[both["_merge"] == "left_only"], new),
        _explained(both[both["_merge"] == "right_only"], old),
        both[(both["_merge"] == "both") & differs].assign(why=None),
    ]
    changes = pd.concat(
        [part.sort_values(PLACE).assign(kind=kind) for part, kind in zip(parts, KINDS, strict=True)],
        ignore_index=True,
    )
    settings = {
        name: [value, new.settings()[name]]
        for name, value in old.settings().items()
        if value != new.settings()[name]
    }
    return Comparison(settings=settings, changes=changes[["kind", *PLACE, "old", "new", "why"]])


def _clips(run: Inspected) -> pd.DataFrame:
    frame: pd.DataFrame = run.clips().to_pandas().drop_duplicates(PLACE)
    return frame


def _explained(clips: pd.DataFrame, run: Inspected) -> pd.DataFrame:
    """Return the clips with the stage and the reason for which a run dropped them."""
    dropped = run.dropped_clips().to_pandas().drop_duplicates(PLACE, keep="last")
    found = clips.merge(dropped, on=PLACE, how="left")
    why = (found["stage"] + ": " + found["reason"]).fillna("no such clip")
    return found.drop(columns=["stage", "reason"]).assign(why=why)
