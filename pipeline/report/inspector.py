"""A finished dataset, held in memory for questions: what was kept, what was dropped, and what if.

Tables stay in Arrow; only rows that are shown become Python objects. Thresholds are applied to the scores
that the tables hold: a dropped clip's score stands in its reject.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.report.scores import SCORES, dropped_values, floats, histograms, threshold_of
from pipeline.report.status import RUN_FILE, read_run
from stages.match import MatchRule, find_pairs

RULE = ("max_start_diff_s", "min_iou", "sufficient_iou")
FAR_S = 1e6
"""Distance between videos on the one axis that pairs are looked for on."""
Row = dict[str, Any]


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
        output: of `videoauteur curate`; its tables may not exist yet.

    Raises:
        NoRunError: there was no run.
        DatasetError: the tables cannot be read.
    """

    def __init__(self, output: Path) -> None:
        self._dataset = open_dataset(output)
        self.run = read_run(output)
        finished = (output / RUN_FILE).is_file()
        self.tables = {
            name: self._dataset.table(name) if finished else schema.empty_table()
            for name, schema in TABLES.items()
        }

    @cached_property
    def uris(self) -> dict[str, str]:
        """The file of each video."""
        videos = self.tables["videos"].select(["video_id", "uri"]).to_pylist()
        return {
            row["video_id"]: self._dataset.uri(row["uri"]) for row in reversed(videos) if row["video_id"]
        }

    def media(self, video_id: str) -> Path | None:
        """Return the file of a video of this dataset; None if it has none on this machine."""
        uri = self.uris.get(video_id)
        if uri is None or urlsplit(uri).scheme != "file":
            return None
        path = Path(unquote(urlsplit(uri).path, errors="surrogateescape"))
        return path if path.is_file() else None

    def funnel(self) -> Row:
        """Return counts of videos, clips and actions, and everything dropped by stage and reason."""
        counted = {name: table.num_rows for name, table in self.tables.items()}
        groups = self.tables["rejects"].group_by(["kind", "stage", "reason"]).aggregate([([], "count_all")])
        rejects = sorted(groups.to_pylist(), key=lambda row: -row["count_all"])
        statuses = Counter(self.tables["videos"]["status"].to_pylist())
        return {
            "rows": counted,
            "videos": dict(statuses),
            "matched": int(pc.sum(self.tables["actions"]["matched"]).as_py() or 0),
            "rejects": [{**row, "count": row.pop("count_all")} for row in rejects],
        }

    def videos(self, *, text: str, status: str, offset: int, limit: int) -> Row:
        """Return some rows of the videos whose name or title holds a text."""
        table = self.tables["videos"].select(
            ["video_id", "uri", "title", "status", "duration_s", "num_clips", "num_actions", "num_matches"]
        )
        mask = pc.or_kleene(_holds(table["uri"], text), _holds(table["title"], text))
        if status:
            mask = pc.and_kleene(mask, pc.equal(table["status"], status))
        return _page(table.filter(mask), offset, limit)

    def video(self, video_id: str) -> Row | None:
        """Return everything about a video; None if it is not of this dataset."""
        found = {name: self._of(name, video_id) for name in TABLES}
        if not found["videos"]:
            return None
        return {"video": found.pop("videos")[0], **found, "playable": self.media(video_id) is not None}

    def rejects(self, *, kind: str, stage: str, reason: str, offset: int, limit: int) -> Row:
        """Return some of the rejects of a kind, stage and reason; empty strings take all."""
        table = self.tables["rejects"]
        mask = pa.array(np.ones(table.num_rows, bool))
        for column, value in (("kind", kind), ("stage", stage), ("reason", reason)):
            if value:
                mask = pc.and_(mask, pc.equal(table[column], value))
        return _page(table.filter(mask), offset, limit)

    def search(self, text: str, *, offset: int, limit: int) -> Row:
        """Return clips whose caption, and actions whose text, holds a text."""
        found = {}
        for name, column in (("clips", "caption"), ("actions", "text")):
            table = self.tables[name].select(["video_id", "start_s", "end_s", column])
            found[name] = _page(table.filter(_holds(table[column], text)), offset, limit)
        return found

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
        clips, rejects = self.tables["clips"], self.tables["rejects"]
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
        table = self.tables["actions"]
        return self._index(table), floats(table["start_s"]), floats(table["end_s"])

    @cached_property
    def _ids(self) -> pa.Array:
        return pc.unique(self.tables["videos"]["video_id"])

    def _index(self, table: pa.Table) -> np.ndarray:
        places: np.ndarray = np.nan_to_num(floats(pc.index_in(table["video_id"], self._ids)))
        return places

    def _of(self, name: str, video_id: str) -> list[Row]:
        table = self.tables[name]
        rows: list[Row] = table.filter(pc.equal(table["video_id"], video_id)).to_pylist()
        return rows


def compare(old: Inspected, new: Inspected, *, offset: int, limit: int) -> Row:
    """Return the clips that differ between two runs: kept by one only, or captioned otherwise.

    Clips are the same if video, start and end are.
    """

    def clips(run: Inspected) -> dict[tuple[str, float, float], str]:
        rows = run.tables["clips"].select(["video_id", "start_s", "end_s", "caption"]).to_pylist()
        return {(row["video_id"], row["start_s"], row["end_s"]): row["caption"] or "" for row in rows}

    def why(run: Inspected) -> dict[tuple[str, float, float], str]:
        table = run.tables["rejects"]
        rows = table.filter(pc.equal(table["kind"], "clip")).to_pylist()
        return {
            (row["video_id"], row["start_s"], row["end_s"]): f"{row['stage']}: {row['reason']}"
            for row in rows
        }

    before, after = clips(old), clips(new)
    lost, gained = why(new), why(old)
    changes: dict[str, list[Row]] = defaultdict(list)
    for key in sorted(before.keys() | after.keys()):
        video_id, start_s, end_s = key
        row = {"video_id": video_id, "start_s": start_s, "end_s": end_s}
        if key not in after:
            changes["lost"].append({**row, "why": lost.get(key, "no such clip"), "old": before[key]})
        elif key not in before:
            changes["gained"].append({**row, "why": gained.get(key, "no such clip"), "new": after[key]})
        elif before[key] != after[key]:
            changes["captions"].append({**row, "old": before[key], "new": after[key]})
    counts = {kind: len(changes[kind]) for kind in ("lost", "gained", "captions")}
    settings = {
        name: [value, new.settings()[name]]
        for name, value in old.settings().items()
        if value != new.settings()[name]
    }
    rows = [{"kind": kind, **row} for kind in counts for row in changes[kind]]
    return {
        "counts": counts,
        "settings": settings,
        "total": len(rows),
        "rows": rows[offset : offset + limit],
    }


def _holds(column: pa.ChunkedArray, text: str) -> Any:
    if not text:
        return pa.array(np.ones(len(column), bool))
    return pc.fill_null(pc.match_substring(column, text, ignore_case=True), False)


def _page(table: pa.Table, offset: int, limit: int) -> Row:
    return {"total": table.num_rows, "rows": table.slice(offset, limit).to_pylist()}
