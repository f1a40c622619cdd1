"""Clips of a dataset as media files."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from models.errors import MediaError, TransientError
from models.files import write_whole
from models.media.cutter import CutSettings, cut
from pipeline.dataset.manifest import DatasetError
from pipeline.dataset.reading import open_dataset
from stages.view import path_of

MEDIA = "media"
"""Folder of clip files in an OUTPUT."""
SETTINGS = "settings.json"
"""File in it that tells how they were cut."""


def export_media(output: Path, settings: CutSettings) -> Counter[str]:
    """Cut every clip of an OUTPUT into ``media/CLIP_ID.mp4``; clips that lie there already are skipped.

    Returns:
        number of clips by what became of them: ``copied``, ``encoded``, ``there``, or a problem in words.

    Raises:
        DatasetError: the tables cannot be read, or clips of other settings lie there.
    """
    dataset = open_dataset(output)
    folder = output / MEDIA
    folder.mkdir(exist_ok=True)
    mark, cut_with = folder / SETTINGS, json.dumps(asdict(settings))
    if mark.exists() and mark.read_text(encoding="utf-8") != cut_with:
        raise DatasetError(f"{folder}: holds clips of another size or frame rate; remove it first")
    write_whole(mark, cut_with)
    outcomes: Counter[str] = Counter()
    for batch in dataset.batches("clips", ["clip_id", "video_uri", "start_s", "end_s"]):
        for clip in batch.to_pylist():
            target = folder / f"{clip['clip_id']}.mp4"
            if target.exists():
                outcomes["there"] += 1
                continue
            source = path_of(dataset.uri(clip["video_uri"]))
            try:
                outcomes[cut(source, target, clip["start_s"], clip["end_s"], settings)] += 1
            except (MediaError, TransientError) as error:
                outcomes[str(error)] += 1
    return outcomes
