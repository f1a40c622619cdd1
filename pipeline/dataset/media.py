"""Clips of a dataset as media files."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

from models.errors import MediaError, TransientError
from models.files import write_whole
from models.media.cutter import CutSettings, Means, cut
from pipeline.dataset.manifest import DatasetError
from pipeline.dataset.reading import Dataset, open_dataset
from pipeline.platform.cache import folder_of, local_file
from pipeline.platform.storage import is_url, store_of

MEDIA = "media"
"""Folder of clip files in an OUTPUT."""
SETTINGS = "settings.json"
"""File in it that tells how they were cut."""
THREADS = 2
"""Clips that are cut together."""
WITH_FILE = frozenset({*get_args(Means), "there"})
"""Outcomes of a clip that has a file; any other one is a problem in words."""


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
        number of clips by outcome: one of ``WITH_FILE``, or a problem in words.

    Raises:
        DatasetError: the tables cannot be read, or clips of other settings lie there.
    """
    dataset = open_dataset(output)
    # A mistyped OUTPUT must not become a folder.
    dataset.files("clips")
    folder = media_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    mark, cut_with = folder / SETTINGS, json.dumps(asdict(settings))
    if mark.exists() and mark.read_text(encoding="utf-8") != cut_with:
        raise DatasetError(f"{folder}: holds clips of another size or frame rate; remove it first")
    write_whole(mark, cut_with)
    outcomes: Counter[str] = Counter()
    write = partial(_write_clip, dataset, folder, settings)
    with ThreadPoolExecutor(THREADS) as threads:
        for batch in dataset.batches("clips", ["clip_id", "video_uri", "start_s", "end_s"]):
            outcomes.update(threads.map(write, batch.to_pylist()))
    return outcomes


def _write_clip(dataset: Dataset, folder: Path, settings: CutSettings, clip: dict[str, Any]) -> str:
    """Cut one clip, unless it is there; return its outcome."""
    target = folder / f"{clip['clip_id']}.mp4"
    if target.exists():
        return "there"
    try:
        with local_file(dataset.uri(clip["video_uri"])) as source:
            return cut(source, target, clip["start_s"], clip["end_s"], settings)
    except (MediaError, TransientError, FileNotFoundError) as error:
        return str(error)
