"""The pictures by which captions are judged: those that their model saw.

They come from the packed frames of the dataset as long as these are there, and otherwise from the video,
decoded anew.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from models.errors import MediaError
from models.media.picking import Wanted, pick
from pipeline.captions.dataset import CaptionedClip, Captions, CaptionsError, Key
from pipeline.dataset import SCRATCH
from pipeline.evaluation.judging import as_jpeg
from stages.frames import packed_frames, read_frames
from stages.view import path_of

FRAMES = 10
"""Of a clip whose dataset does not say what the model saw, as in the paper."""
SHORT_SIDE_PX = 448


@dataclass(frozen=True, slots=True)
class Shown:
    """Pictures of clips as JPEG files, and why some have none."""

    pictures: dict[Key, list[bytes]] = field(default_factory=dict)
    problems: dict[Key, str] = field(default_factory=dict)


def show(datasets: Sequence[Captions], samples: Sequence[Sequence[CaptionedClip]]) -> Shown:
    """The pictures of the sampled clips; see :func:`find_pictures`.

    Raises:
        CaptionsError: no clip has pictures.
    """
    shown = find_pictures(datasets, samples)
    if not shown.pictures:
        key, problem = next(iter(shown.problems.items()))
        raise CaptionsError(f"no clip has pictures to judge its caption by; clip {key[0]}: {problem}")
    return shown


def find_pictures(datasets: Sequence[Captions], samples: Sequence[Sequence[CaptionedClip]]) -> Shown:
    """The pictures of the sampled clips that have some, and why the others have none.

    A clip of several datasets is shown by the same pictures for all its captions: those that the model
    saw which saw most.

    Args:
        samples: the clips of each dataset.
    """
    shown, times = Shown(), _times(samples)
    missing: dict[str, dict[Key, CaptionedClip]] = {}
    for dataset, clips in zip(datasets, samples, strict=True):
        for clip in clips:
            if clip.key not in shown.pictures:
                path = packed_frames(dataset.folder / SCRATCH, clip.video_id)
                found = _packed(path, times[clip.key])
                if found is None:
                    missing.setdefault(clip.video_uri, {})[clip.key] = clip
                else:
                    shown.pictures[clip.key] = found
    for uri, lacking in missing.items():
        _decode(uri, [clip for clip in lacking.values() if clip.key not in shown.pictures], times, shown)
    return shown


def _times(samples: Iterable[Iterable[CaptionedClip]]) -> dict[Key, tuple[float, ...]]:
    times: dict[Key, tuple[float, ...]] = {}
    for clip in (clip for clips in samples for clip in clips):
        if len(clip.frames_s) > len(times.get(clip.key, ())):
            times[clip.key] = clip.frames_s
    for clip in (clip for clips in samples for clip in clips):
        step_s = (clip.end_s - clip.start_s) / FRAMES
        times.setdefault(clip.key, tuple(clip.start_s + (nth + 0.5) * step_s for nth in range(FRAMES)))
    return times


def _packed(path: Path, times_s: Sequence[float]) -> list[bytes] | None:
    try:
        return read_frames(path, list(times_s))
    except (OSError, KeyError, zipfile.BadZipFile):
        return None


def _decode(
    uri: str, clips: Sequence[CaptionedClip], times: Mapping[Key, tuple[float, ...]], shown: Shown
) -> None:
    """Pictures of clips of one file, in one pass."""
    if urlsplit(uri).scheme != "file":
        problem = f"its frames are not in {SCRATCH} any more, and {uri} is not on this machine"
        shown.problems.update({clip.key: problem for clip in clips})
        return
    wanted = [Wanted(list(times[clip.key]), *_size(clip)) for clip in clips]
    try:
        for index, pictures in pick(path_of(uri), wanted):
            shown.pictures[clips[index].key] = [as_jpeg(picture) for picture in pictures]
    except (OSError, MediaError) as error:
        problem = f"{path_of(uri)}: {error}"
        shown.problems.update({clip.key: problem for clip in clips if clip.key not in shown.pictures})


def _size(clip: CaptionedClip) -> tuple[int, int]:
    """Height and width of its pictures, as the scan makes them."""
    width, height = clip.size_px
    factor = min(1.0, SHORT_SIDE_PX / min(width, height))
    return max(2, round(height * factor)), max(2, round(width * factor))
