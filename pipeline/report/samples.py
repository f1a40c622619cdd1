"""Clips for people to look at: some of the kept ones, and those with the lowest and the highest scores."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.manifest import absolute_uri
from pipeline.dataset.reading import Dataset
from pipeline.report.scores import SCORES, floats
from pipeline.report.source import NoSourceError, source_of
from stages.frames import nearest_frame, packed_frames

SAMPLE_ACTIONS = 3
EXTREMES = 3
"""Clips shown at each end of a score."""
THUMBNAIL_SIDE_PX = 240
THUMBNAIL_QUALITY = 75
ENDS = {
    "sharpness": ("blurriest", "sharpest"),
    "exposure": ("darkest", "brightest"),
    "motion": ("stillest", "liveliest"),
    "watermark_score": ("least like a watermark", "most like a watermark"),
}
"""Names of the clips with the lowest and the highest scores, by column."""

Row = dict[str, Any]
Details = dict[str, dict[str, list[Row]]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures of the videos of a run.

    Attributes:
        scratch: folder with the packed frames of some of them.
        input_root: URI of INPUT's folder, which the URIs of the tables are relative to.
    """

    scratch: Path
    input_root: str

    def jpeg_at(self, video_id: str, uri: str, time_s: float) -> bytes | None:
        """Return the packed frame nearest to a time or, without one, the picture decoded from the video.

        Returns:
            a JPEG file; None where there is neither.
        """
        jpeg = nearest_frame(packed_frames(self.scratch, video_id), time_s)
        if jpeg is None:
            with suppress(NoSourceError):
                return source_of(absolute_uri(uri, self.input_root), local=True).jpeg_at(time_s)
        return jpeg


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A kept clip, to look at.

    Attributes:
        thumbnail: a ``data:`` URI; None where neither packed frames nor the video can be read.
        actions: what is done in it, at most ``SAMPLE_ACTIONS``.
    """

    name: str
    clip: Row
    thumbnail: str | None
    actions: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """Kept clips at one end of a score, the outermost first.

    Attributes:
        label: such as ``blurriest``.
        settings: thresholds that drop clips at this end; empty at an end without one.
    """

    label: str
    column: str
    settings: list[str]
    samples: list[Sample]


def samples_of(videos: list[Row], details: Details, pictures: Pictures, *, most: int) -> list[Sample]:
    """Return clips of the chosen videos, ``most`` in all, about as many of each."""
    samples: list[Sample] = []
    for index, video in enumerate(videos):
        video_id = video["video_id"]
        each, rest = divmod(most, len(videos))
        texts = {row["action_id"]: row["text"] for row in details["actions"][video_id]}
        spoken: dict[str, list[str]] = defaultdict(list)
        for pair in details["matches"][video_id]:
            spoken[pair["clip_id"]].append(texts[pair["action_id"]])
        for clip in spread(details["clips"][video_id], each + (index < rest)):
            actions = spoken[clip["clip_id"]][:SAMPLE_ACTIONS]
            samples.append(_sample(video_id, video["uri"], clip, actions, pictures))
    return samples


def extremes(tables: Dataset, pictures: Pictures) -> list[Extremes]:
    """Return the kept clips with the lowest and the highest value of each score.

    Clips are read one row group at a time; of equal ones the first is taken.
    """
    found: dict[tuple[str, bool], list[tuple[float, Row]]] = {
        (column, highest): [] for column in ENDS for highest in (False, True)
    }
    columns = ["video_id", "start_s", "end_s", "caption", *ENDS]
    for batch in tables.batches("clips", columns):
        for (column, highest), best in found.items():
            values = -floats(batch[column]) if highest else floats(batch[column])
            known = np.flatnonzero(~np.isnan(values))
            places = known[np.argsort(values[known], kind="stable")[:EXTREMES]]
            rows = batch.take(pa.array(places)).to_pylist()
            best += zip(values[places].tolist(), rows, strict=True)
            best.sort(key=lambda each: each[0])
            del best[EXTREMES:]
    ids = {row["video_id"] for best in found.values() for _, row in best}
    videos = of_videos(tables, "videos", ["uri", "status"], sorted(ids))
    # A copy has the id of its original.
    uris = {row["video_id"]: row["uri"] for row in videos if row["status"] != "duplicate"}
    return [
        Extremes(
            label=ENDS[column][highest],
            column=column,
            settings=[s.setting for s in SCORES.values() if (s.column, s.upper) == (column, highest)],
            samples=[_sample(row["video_id"], uris[row["video_id"]], row, [], pictures) for _, row in best],
        )
        for (column, highest), best in found.items()
        if best
    ]


def _sample(video_id: str, uri: str, clip: Row, actions: list[str], pictures: Pictures) -> Sample:
    middle_s = (clip["start_s"] + clip["end_s"]) / 2
    thumbnail = _thumbnail(pictures.jpeg_at(video_id, uri, middle_s))
    return Sample(name=name_of(uri), clip=clip, thumbnail=thumbnail, actions=actions)


def _thumbnail(jpeg: bytes | None) -> str | None:
    """Return a picture, small, as a ``data:`` URI; None if there is none or it is damaged."""
    try:
        image = None if jpeg is None else cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if image is None:
        return None
    factor = min(1.0, THUMBNAIL_SIDE_PX / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def of_videos(
    tables: Dataset, name: str, columns: Sequence[str], video_ids: Sequence[str]
) -> Iterator[Row]:
    """Yield the rows of some videos, ids included, in the order of the table."""
    wanted = pa.array(video_ids, pa.string())
    # Not by a scanner of pyarrow.dataset, whose memory grows with the table.
    for batch in tables.batches(name, ["video_id", *columns]):
        yield from batch.filter(pc.is_in(batch["video_id"], wanted)).to_pylist()


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return at most ``count`` of the items, evenly spaced, in their order."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]


def name_of(uri: str, *, parts: int = 1) -> str:
    """Return the last components of a URI's path, in characters that can be shown."""
    return unquote("/".join(uri.split("/")[-parts:]), errors="replace")
