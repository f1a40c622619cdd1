"""Verify a dataset: files, schema, keys, references, intervals, and that nothing is missing or twice.

Tables are read batch by batch, in their order; what is held in memory are the ids of one video at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from models.files import sha256_of
from pipeline.dataset.manifest import DatasetError, File
from pipeline.dataset.reading import Dataset, open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.dataset.tables import Row

KEYS = {"videos": "uri", "clips": "clip_id", "actions": "action_id", "narratives": "video_id"}
COLUMNS = {
    "videos": ["video_id", "uri", "status", "duplicate_of", "num_clips", "num_actions", "num_matches"],
    "clips": ["video_id", "clip_id", "start_s", "end_s"],
    "actions": ["video_id", "action_id", "start_s", "end_s", "matched"],
    "matches": ["video_id", "clip_id", "action_id"],
    "narratives": ["video_id", "steps"],
    "rejects": ["video_id", "kind", "uri", "clip_id", "action_id"],
}
MAX_SHOWN = 20
"""Problems of one kind that are listed; the rest is counted."""
Group = dict[str, list[Row]]


@dataclass
class Report:
    """Outcome of a check.

    Attributes:
        rows: by table.
        problems: in words, the first of each kind; empty if the dataset is sound.
        has_checksums: whether there was a manifest to verify the files against.
    """

    rows: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    has_checksums: bool = True
    _counts: Counter[str] = field(default_factory=Counter)

    def found(self, kind: str, detail: str) -> None:
        """Record a problem."""
        self._counts[kind] += 1
        if self._counts[kind] <= MAX_SHOWN:
            self.problems.append(f"{kind}: {detail}")
        elif self._counts[kind] == MAX_SHOWN + 1:
            self.problems.append(f"{kind}: and more")


def check_dataset(place: Path | str) -> Report:
    """Check an OUTPUT of ``curate``, in a folder or a bucket; of a bucket every byte is read again.

    Raises:
        pipeline.dataset.manifest.DatasetError: it cannot be read at all.
    """
    with TemporaryDirectory() as copies:
        return _checked(open_dataset(place, copies=Path(copies)))


def _checked(dataset: Dataset) -> Report:
    report = Report(has_checksums=dataset.manifest is not None)
    if dataset.manifest is not None:
        for file in dataset.manifest.all_files():
            _check_file(dataset, file, report)
    if report.problems and dataset.url is not None:
        # A damaged object is not copied.
        return report
    for name in TABLES:
        _check_schema(dataset, name, report)
    if not report.problems:
        for group in _by_video(dataset, report):
            _check_video(group, report)
    return report


def _check_file(dataset: Dataset, file: File, report: Report) -> None:
    try:
        digest = sha256_of(dataset.path(file))
    except OSError as error:
        report.found("file", f"{file.path}: {error.strerror}")
        return
    except DatasetError:
        digest = ""
    if digest != file.sha256:
        report.found("checksum", f"{file.path}: its bytes are not those of the manifest")


def _check_schema(dataset: Dataset, name: str, report: Report) -> None:
    for path in dataset.files(name):
        try:
            footer = pq.read_metadata(path)
        except (OSError, pa.ArrowException) as error:
            report.found("file", f"{name}/{path.name}: {error}")
            continue
        report.rows[name] += footer.num_rows
        found = footer.schema.to_arrow_schema()
        for column in TABLES[name]:
            if column.name in found.names and found.field(column.name).type != column.type:
                report.found(
                    "schema", f"{name}.{column.name} is {found.field(column.name).type}, not {column.type}"
                )


def _by_video(dataset: Dataset, report: Report) -> Iterator[Group]:
    """The rows of each video, merged from all tables, in order of its id."""
    streams = {name: _grouped(dataset, name, report) for name in TABLES}
    heads = {name: next(stream, None) for name, stream in streams.items()}
    while any(heads.values()):
        first = min(head[0] for head in heads.values() if head)
        group: Group = {name: [] for name in TABLES}
        for name, head in heads.items():
            if head and head[0] == first:
                group[name] = head[1]
                heads[name] = next(streams[name], None)
        yield group


def _grouped(dataset: Dataset, name: str, report: Report) -> Iterator[tuple[str, list[Row]]]:
    rows = (row for batch in dataset.batches(name, COLUMNS[name]) for row in batch.to_pylist())
    before = ""
    for video_id, found in groupby(rows, key=itemgetter("video_id")):
        if not isinstance(video_id, str) or video_id <= before:
            report.found("order", f"{name}: video {video_id} comes after {before}")
            if not isinstance(video_id, str):
                continue
        before = max(before, video_id)
        yield video_id, list(found)


def _check_video(group: Group, report: Report) -> None:
    for name, key in KEYS.items():
        for value, count in Counter(row[key] for row in group[name]).items():
            if count > 1 or value is None:
                report.found("key", f"{name}.{key} {value} stands {count} times")
    _check_places(group, report)
    _check_references(group, report)
    _check_counts(group, report)


def _check_places(group: Group, report: Report) -> None:
    """Intervals, and each clip and action in one place."""
    for name, key in (("clips", "clip_id"), ("actions", "action_id")):
        for row in group[name]:
            if not 0 <= row["start_s"] < row["end_s"]:
                report.found("interval", f"{name} {row[key]}: {row['start_s']} to {row['end_s']} s")
        kept = {row[key] for row in group[name]}
        rejected = [row[key] for row in group["rejects"] if row["kind"] == name[:-1]]
        for value in kept.intersection(rejected):
            report.found("reject", f"{key} {value} is in {name} and in rejects")
        for value, count in Counter(rejected).items():
            if count > 1:
                report.found("reject", f"{key} {value} stands {count} times in rejects")


def _check_references(group: Group, report: Report) -> None:
    clips = {row["clip_id"] for row in group["clips"]}
    actions = {row["action_id"] for row in group["actions"]}
    uris = {row["uri"] for row in group["videos"]}
    steps = [step for row in group["narratives"] for step in row["steps"] or ()]
    for table, rows in (("matches", group["matches"]), ("narratives", steps)):
        for row in rows:
            if row["clip_id"] not in clips:
                report.found("reference", f"{table}: clip {row['clip_id']} is not in clips")
            if row["action_id"] not in actions and (table == "matches" or row["action_id"] is not None):
                report.found("reference", f"{table}: action {row['action_id']} is not in actions")
    matched = {row["action_id"] for row in group["matches"]}
    for row in group["actions"]:
        if row["matched"] != (row["action_id"] in matched):
            report.found("reference", f"actions: matched of {row['action_id']} contradicts matches")
    for row in group["videos"]:
        if row["status"] == "duplicate" and row["duplicate_of"] not in uris:
            report.found("reference", f"videos: {row['uri']} is a copy of {row['duplicate_of']}, unknown")
    for name in ("clips", "actions", "matches", "narratives", "rejects"):
        if group[name] and not uris:
            report.found("reference", f"{name}: video {group[name][0]['video_id']} is not in videos")


def _check_counts(group: Group, report: Report) -> None:
    rejected = {row["uri"] for row in group["rejects"] if row["kind"] == "file"}
    for row in group["videos"]:
        if row["status"] in ("rejected", "failed") and row["uri"] not in rejected:
            report.found("count", f"videos: {row['uri']} is {row['status']}, and not in rejects")
        if row["status"] == "kept":
            for name in ("clips", "actions", "matches"):
                told, there = row[f"num_{name}"], len(group[name])
                if told != there:
                    report.found("count", f"videos: {row['uri']} has {told} {name}, there are {there}")
            if len(group["narratives"]) != 1:
                report.found("count", f"videos: {row['uri']} is kept, and has no narrative")
