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
from pipeline.platform.cache import folder_of, local_file
from pipeline.platform.storage import is_url, store_of

MEDIA = "media"
"""Folder of clip files in an OUTPUT."""
SETTINGS = "settings.json"
"""File in it that tells how they were cut."""


def media_folder(output: Path | str) -> Path:
    """Return the folder with the clips of an OUTPUT; for one in a bucket, a folder of this node."""
    return folder_of(str(output), MEDIA) if is_url(output) else Path(output) / MEDIA


def upload_media(url: str) -> None:
    """Upload the clips of this node's folder that an OUTPUT in a bucket does not hold yet."""
    store = store_of(url)
    there = {found.key: found.bytes for found in store.list(MEDIA)}
    for path in sorted(media_folder(url).glob("*")):
        key = f"{MEDIA}/{path.name}"
        if there.get(key) != path.stat().st_size:
            store.put(key, path)


def export_media(output: Path | str, settings: CutSettings) -> Counter[str]:
    """Cut every clip of an OUTPUT into CLIP_ID.mp4 of its media folder; clips that lie there are skipped.

    An OUTPUT in a bucket has its clips on this node, and :func:`upload_media` sends them.

    Returns:
        number of clips by what became of them: ``copied``, ``encoded``, ``there``, or a problem in words.

    Raises:
        DatasetError: the tables cannot be read, or clips of other settings lie there.
    """
    dataset = open_dataset(output)
    folder = media_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
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
            try:
                with local_file(dataset.uri(clip["video_uri"])) as source:
                    outcomes[cut(source, target, clip["start_s"], clip["end_s"], settings)] += 1
            except (MediaError, TransientError, FileNotFoundError) as error:
                outcomes[str(error)] += 1
    return outcomes
