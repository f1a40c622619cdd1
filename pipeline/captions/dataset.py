"""The captions of curated datasets as they are evaluated: read, sampled, and compared pair by pair."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from models.errors import UsageError
from pipeline.dataset.manifest import DatasetError
from pipeline.dataset.reading import open_dataset
from pipeline.evaluation.figures import Figure, measured, missing
from stages.match import best_matches
from stages.records import Match

Key = tuple[str, float, float]
"""Id and interval of a clip: the same clip in several datasets has the same."""
CLIP_COLUMNS = ("clip_id", "video_id", "video_uri", "start_s", "end_s", "caption")
COLUMNS = {
    "clips": (*CLIP_COLUMNS, "caption_frames_s", "screen_text"),
    "videos": ("video_id", "width_px", "height_px"),
    "actions": ("action_id", "text"),
    "matches": ("clip_id", "action_id", "iou", "start_diff_s", "rule"),
}


class CaptionsError(UsageError):
    """Captions cannot be evaluated; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedClip:
    """A clip of a dataset and what it says of it.

    Attributes:
        frames_s: times of the frames that the caption's model saw; empty where the dataset does not say.
        screen_text: lines that were read in its pictures.
        action: what is said over it, its best match; empty if there is none.
        size_px: width and height of the video as it is displayed.
    """

    clip_id: str
    video_id: str
    video_uri: str
    start_s: float
    end_s: float
    caption: str
    frames_s: tuple[float, ...]
    screen_text: tuple[str, ...]
    action: str
    size_px: tuple[int, int]

    @property
    def key(self) -> Key:
        return self.clip_id, self.start_s, self.end_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """All captions of one dataset, in order of video and time; the name is unique among those compared."""

    name: str
    folder: Path
    clips: tuple[CaptionedClip, ...]


def read_captions(datasets: Sequence[Path]) -> list[Captions]:
    """The captions of OUTPUTs of ``curate``.

    Raises:
        CaptionsError: a folder is none, or holds no captions; or one is named twice.
    """
    whole = [dataset.resolve() for dataset in datasets]
    if len(set(whole)) < len(whole):
        raise CaptionsError("a DATASET is named twice; a dataset is not compared with itself")
    short = Counter(path.name for path in whole)
    return [
        Captions(
            name=path.name if short[path.name] == 1 else str(given), folder=path, clips=_clips(path, given)
        )
        for path, given in zip(whole, datasets, strict=True)
    ]


def _clips(dataset: Path, given: Path) -> tuple[CaptionedClip, ...]:
    try:
        opened = open_dataset(dataset)
        rows = {name: opened.table(name, columns).to_pylist() for name, columns in COLUMNS.items()}
    except DatasetError as error:
        raise CaptionsError(f"DATASET {error}") from error
    actions = {row["action_id"]: row["text"] for row in rows["actions"]}
    best = best_matches([Match(**row) for row in rows["matches"]])
    sizes = {
        row["video_id"]: (row["width_px"], row["height_px"])
        for row in rows["videos"]
        if row["width_px"] and row["height_px"]
    }
    unknown = {row["video_id"] for row in rows["clips"]} - sizes.keys()
    if unknown:
        raise CaptionsError(
            f"DATASET {given}: table videos knows no size of {min(unknown)}, which has clips; "
            "curate it again"
        )
    found = [
        CaptionedClip(
            **{name: row[name] for name in CLIP_COLUMNS} | {"video_uri": opened.uri(row["video_uri"])},
            frames_s=tuple(row["caption_frames_s"] or ()),
            screen_text=tuple(row["screen_text"] or ()),
            action=actions.get(best[row["clip_id"]].action_id, "") if row["clip_id"] in best else "",
            size_px=sizes[row["video_id"]],
        )
        for row in rows["clips"]
        if row["caption"]
    ]
    if not found:
        raise CaptionsError(f"DATASET {given}: none of its {len(rows['clips'])} clips has a caption")
    return tuple(sorted(found, key=lambda clip: (clip.video_id, clip.start_s, clip.clip_id)))


def common_keys(datasets: Sequence[Captions]) -> set[Key]:
    """Clips that every dataset has a caption of."""
    return reduce(set.intersection, [{clip.key for clip in each.clips} for each in datasets])


def sample(datasets: Sequence[Captions], count: int, *, seed: int) -> list[list[CaptionedClip]]:
    """The clips to look at, of each dataset.

    Those that all datasets have, so that they are compared on the same; where there are none, each
    dataset's own. The choice depends on the seed and the clips alone.

    Args:
        count: at most so many of each.
    """
    common = common_keys(datasets)
    found = []
    for each in datasets:
        clips = sorted(
            (clip for clip in each.clips if not common or clip.key in common), key=lambda clip: clip.key
        )
        found.append(random.Random(seed).sample(clips, min(count, len(clips))))
    return found


def compared(
    name: str,
    values: Mapping[str, Mapping[Key, float]],
    videos: Mapping[Key, str],
    *,
    note: str,
    seed: int,
) -> list[Figure]:
    """Compare later datasets with the first, clip by clip; intervals are over videos.

    Args:
        name: of the figure.
        values: of each clip by dataset, in the order given.
        videos: the video of each clip.
    """
    first, *others = values
    figures = []
    for other in others:
        of = f"captions {other} minus {first}"
        keys = sorted(values[first].keys() & values[other].keys())
        if not keys:
            figures.append(missing(of, name, "they have no clip in common that has a value in both"))
            continue
        differences = [values[other][key] - values[first][key] for key in keys]
        groups = [videos[key] for key in keys]
        figures.append(
            measured(
                of, name, differences, groups, better="higher", note=f"{len(keys)} clips; {note}", seed=seed
            )
        )
    return figures
