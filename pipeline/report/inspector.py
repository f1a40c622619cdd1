"""Answers about a finished dataset: its videos, clips and rejects, and the counts under other thresholds.

Only rows that are shown become Python objects. Thresholds are applied to the scores that the tables hold: a
dropped clip's score stands in its reject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.report.columns import Columns, Row
from pipeline.report.scores import SCORES, dropped_values, floats, histograms, threshold_of
from pipeline.report.source import NoSourceError, Source, source_of
from pipeline.report.status import RUN_FILE, read_run
from stages.match import MatchRule, find_pairs

RULE = ("max_start_diff_s", "min_iou", "sufficient_iou")
FAR_S = 1e6
"""Distance between videos on the one axis that pairs are looked for on."""
SEARCHED = {"clips": "caption", "actions": "text"}
"""Texts that are searched, by table."""
VIDEO_COLUMNS = [
    "video_id", "uri", "title", "status", "duration_s", "num_clips", "num_actions", "num_matches",
]  # fmt: skip
REJECT_COLUMNS = ["kind", "uri", "video_id", "stage", "reason", "detail", "start_s", "end_s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Clips that would be kept under some thresholds; arrays ``[n]``.

    Attributes:
        video: index of the video.
        start_s: likewise ``end_s``.
        scores: by name of a score; NaN where it is unknown, which passes every threshold.
    """

    video: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    scores: Mapping[str, np.ndarray]


class Inspected:
    """The tables of one OUTPUT.

    Args:
        output: folder of `videoauteur curate`, or a local copy of one; its tables may not exist yet.
        local: its videos may be files of this machine. Not so for a dataset from elsewhere, whose paths are
            those of another machine.

    Raises:
        NoRunError: there was no run.
        DatasetError: the tables cannot be read.
    """

    def __init__(self, output: Path, *, local: bool = True) -> None:
        self._dataset = open_dataset(output)
        self.run = read_run(output)
        self._local = local
        self._columns = Columns(self._dataset if (output / RUN_FILE).is_file() else None)

    def prepare(self) -> None:
        """Read what lists and searches need, ahead of the first one."""
        self._columns.table("videos", VIDEO_COLUMNS)
        self._columns.table("rejects", REJECT_COLUMNS)
        for name, column in SEARCHED.items():
            self._columns.lowered(name, column)

    @cached_property
    def uris(self) -> dict[str, str]:
        """The file of each video."""
        videos = self._columns.table("videos", ["video_id", "uri"]).to_pylist()
        return {
            row["video_id"]: self._dataset.uri(row["uri"]) for row in reversed(videos) if row["video_id"]
        }

    def media(self, video_id: str) -> Source:
        """Return the file of a video of this dataset.

        Raises:
            NoSourceError: it has none that can be read from here; the text says why.
        """
        uri = self.uris.get(video_id)
        if uri is None:
            raise NoSourceError("there is no such video in this dataset")
        return source_of(uri, local=self._local)

    def funnel(self) -> Row:
        """Return counts of videos, clips and actions, and everything dropped by stage and reason."""
        return self._funnel

    @cached_property
    def _funnel(self) -> Row:
        rejects = self._columns.table("rejects", ["kind", "stage", "reason"])
        groups = rejects.group_by(rejects.column_names).aggregate([([], "count_all")]).to_pylist()
        statuses = pc.value_counts(self._columns.table("videos", ["status"])["status"]).to_pylist()
        matched = self._columns.table("actions", ["matched"])["matched"]
        return {
            "rows": {name: self._columns.count(name) for name in TABLES},
            "videos": {row["values"]: row["counts"] for row in statuses},
            "matched": int(pc.sum(matched).as_py() or 0),
            "rejects": [
                {**row, "count": row.pop("count_all")}
                for row in sorted(groups, key=lambda row: -row["count_all"])
            ],
        }

    def videos(self, *, text: str, status: str, offset: int, limit: int) -> Row:
        """Return some rows of the videos whose name or title holds a text."""
        columns = self._columns
        mask = None
        if text:
            mask = pc.or_(columns.holding("videos", "uri", text), columns.holding("videos", "title", text))
        if status:
            same = pc.equal(columns.table("videos", ["status"])["status"], status)
            mask = same if mask is None else pc.and_(mask, same)
        return columns.page("videos", VIDEO_COLUMNS, mask, offset=offset, limit=limit)

    def video(self, video_id: str) -> Row | None:
        """Return everything about a video; None if it is not of this dataset."""
        found = {name: self._columns.of_video(name, video_id) for name in TABLES}
        if not found["videos"]:
            return None
        missing = None
        try:
            self.media(video_id)
        except NoSourceError as error:
            missing = str(error)
        return {"video": found.pop("videos")[0], **found, "missing": missing}

    def rejects(self, *, kind: str, stage: str, reason: str, offset: int, limit: int) -> Row:
        """Return some of the rejects of a kind, stage and reason; empty strings take all."""
        mask = None
        for column, value in (("kind", kind), ("stage", stage), ("reason", reason)):
            if value:
                same = pc.equal(self._columns.table("rejects", [column])[column], value)
                mask = same if mask is None else pc.and_(mask, same)
        return self._columns.page("rejects", REJECT_COLUMNS, mask, offset=offset, limit=limit)

    def search(self, text: str, *, offset: int, limit: int) -> Row:
        """Return clips whose caption, and actions whose text, holds a text."""
        found = {}
        for name, column in SEARCHED.items():
            shown = ["video_id", "start_s", "end_s", column]
            mask = self._columns.holding(name, column, text)
            found[name] = self._columns.page(name, shown, mask, offset=offset, limit=limit)
        return found

    def clips(self) -> pa.Table:
        """Return the kept clips: video, start, end, caption."""
        return self._columns.table("clips", ["video_id", "start_s", "end_s", "caption"])

    def dropped_clips(self) -> pa.Table:
        """Return the dropped clips: video, start, end, stage and reason."""
        columns = ["video_id", "start_s", "end_s", "stage", "reason", "kind"]
        table = self._columns.table("rejects", columns)
        return table.filter(pc.equal(table["kind"], "clip")).drop_columns("kind")

    # Thresholds ---------------------------------------------------------------------------------------

    def settings(self) -> dict[str, float | None]:
        """Return the thresholds of the run by the name of their setting."""
        config = self.run["config"]
        return {
            **{f"match.{name}": config["match"][name] for name in RULE},
            **{score.setting: threshold_of(config, score.setting) for score in SCORES.values()},
        }

    def histograms(self) -> list[Row]:
        """Return for each score how many clips were kept and dropped; see :class:`Histogram`."""
        return self._histograms

    @cached_property
    def _histograms(self) -> list[Row]:
        return [asdict(each) for each in histograms(self._dataset, self.run["config"])]

    def what_if(self, settings: Mapping[str, float | None]) -> Row:
        """Count what would be kept under other thresholds.

        Args:
            settings: by name, as :meth:`settings` returns them; missing ones are the run's.
        """
        chosen = {**self.settings(), **settings}
        clips = self.candidates
        passes = np.ones(len(clips.video), bool)
        for name, score in SCORES.items():
            values, bound = clips.scores[name], chosen[score.setting]
            # Comparisons with NaN are false, so an unknown score passes.
            passes &= ~(values > bound if score.upper else values < bound)
        action_video, action_start, action_end = self._actions
        rule = MatchRule(**{name: chosen[f"match.{name}"] for name in RULE})
        shift = clips.video[passes] * FAR_S
        pairs = find_pairs(
            clips.start_s[passes] + shift, clips.end_s[passes] + shift,
            action_start + action_video * FAR_S, action_end + action_video * FAR_S, rule,
        )  # fmt: skip
        kept = np.unique(pairs.clips)
        return {
            "clips": int(passes.sum()),
            "matched_clips": len(kept),
            "pairs": len(pairs),
            "matched_actions": len(np.unique(pairs.actions)),
            "videos": len(np.unique(clips.video[passes][kept])),
            "seconds": float((clips.end_s[passes] - clips.start_s[passes])[kept].sum()),
        }

    @cached_property
    def candidates(self) -> Candidates:
        """Kept clips, and those dropped by a threshold or for want of an action."""
        scored = sorted({score.column for score in SCORES.values()})
        clips = self._columns.table("clips", ["video_id", "start_s", "end_s", *scored])
        rejects = self._columns.table("rejects", REJECT_COLUMNS)
        is_clip = pc.equal(rejects["kind"], "clip")
        wanted = pa.array(["no_match", *(score.reason for score in SCORES.values())])
        lost = rejects.filter(pc.and_(is_clip, pc.is_in(rejects["reason"], wanted)))
        scores = {
            name: np.concatenate([floats(clips[score.column]), dropped_values(lost, score.reason)])
            for name, score in SCORES.items()
        }
        return Candidates(
            video=np.concatenate([self._index(clips), self._index(lost)]),
            start_s=np.concatenate([floats(clips["start_s"]), floats(lost["start_s"])]),
            end_s=np.concatenate([floats(clips["end_s"]), floats(lost["end_s"])]),
            scores=scores,
        )

    @cached_property
    def _actions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = self._columns.table("actions", ["video_id", "start_s", "end_s"])
        return self._index(table), floats(table["start_s"]), floats(table["end_s"])

    @cached_property
    def _ids(self) -> pa.Array:
        return pc.unique(self._columns.table("videos", ["video_id"])["video_id"])

    def _index(self, table: pa.Table) -> np.ndarray:
        places: np.ndarray = np.nan_to_num(floats(pc.index_in(table["video_id"], self._ids)))
        return places
