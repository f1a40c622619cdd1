"""Narratives of a curated dataset, as features are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from models.errors import UsageError
from pipeline.dataset.manifest import DatasetError
from pipeline.dataset.reading import open_dataset
from stages.records import Step
from stages.view import path_of


class FeatureError(UsageError):
    """Features cannot be made of a dataset; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrated:
    """A narrative and its video file."""

    video_id: str
    path: Path
    goal: str
    steps: tuple[Step, ...]


COPIED = ("step_index", "clip_id", "action_id", "start_s", "end_s")
NARRATED_JSON = TypeAdapter(Narrated)


def read_dataset(dataset: Path) -> list[Narrated]:
    """Return the narratives of an OUTPUT of ``curate``, in order of video_id.

    Raises:
        FeatureError: there are none, or video files are gone.
    """
    try:
        opened = open_dataset(dataset)
        narratives = opened.table("narratives", ["video_id", "title", "steps"]).to_pylist()
        clips = opened.table("clips", ["clip_id", "video_uri"]).to_pylist()
    except DatasetError as error:
        raise FeatureError(f"DATASET {error}") from error
    uris = {clip["clip_id"]: opened.uri(clip["video_uri"]) for clip in clips}
    found = [
        Narrated(
            video_id=row["video_id"],
            path=path_of(uris[row["steps"][0]["clip_id"]]),
            goal=row["title"],
            steps=tuple(
                Step(
                    **{name: step[name] for name in COPIED},
                    action=step["action"] or "",
                    caption=step["caption"] or "",
                )
                for step in row["steps"]
            ),
        )
        for row in sorted(narratives, key=lambda row: str(row["video_id"]))
        if row["steps"]
    ]
    if not found:
        raise FeatureError(
            f"DATASET {dataset}: holds no narratives; its report.html says why its videos were dropped"
        )
    gone = [video.path for video in found if not video.path.is_file()]
    if gone:
        raise FeatureError(
            f"DATASET {dataset}: {len(gone)} of its {len(found)} video files are gone, the first is "
            f"{gone[0]}; put them back, or curate again what is there"
        )
    return found


def held_out(videos: Sequence[Narrated], share: float) -> set[str]:
    """Return the ids of the videos that are not trained on: the first by a hash of their ids.

    A larger dataset therefore keeps most of a smaller one's choice.
    """
    ordered = sorted(
        (video.video_id for video in videos), key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    return set(ordered[: int(share * len(ordered))])
