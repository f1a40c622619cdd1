"""A curated dataset in the layouts that other trainers read: clips as files, with their texts beside them.

``clips``: every kept clip in one folder, listed in the forms of several trainers at once::

    videos/CLIP_ID.mp4
    metadata.csv      file_name, video, prompt, ...: DiffSynth, the ``videofolder`` of ``datasets``
    metadata.jsonl    video_path, caption: musubi-tuner
    videos.txt, prompts.txt                finetrainers

``multishot``: the narratives, a folder a story, its shots numbered in order, as LongLive and ShotStream
read them::

    video/VIDEO_ID/000001.mp4
    caption/VIDEO_ID/000001.json          caption, action, title

``webdataset``: tar shards of one picture height and of bounded size, three members a clip::

    clips-360p-000000.tar                 CLIP_ID.mp4, CLIP_ID.jpg, CLIP_ID.json

Each holds ``export.json``, which marks the folder as an export, and appears whole. Clips are cut into
OUTPUT/media first, where a later export finds them; on the same disk they are linked, not copied.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from models.errors import UsageError
from models.files import whole_folder, write_whole
from models.media import open_media, picture_stream
from models.media.cutter import CutSettings
from models.media.spans import read_span
from pipeline import __version__
from pipeline.dataset.media import WITH_FILE, export_media, media_folder
from pipeline.dataset.reading import open_dataset

JPEG_QUALITY = 90
MARK = "export.json"
"""File that marks a folder as an export, which a later one may replace."""


class ExportError(UsageError):
    """An export cannot be made as asked; the text says why, and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A kept clip as a file, with its texts.

    Attributes:
        file: of the clip, in OUTPUT/media.
        actions: matched with it, in order of time.
        title: of its video, empty without a narrative.
    """

    clip_id: str
    video_id: str
    file: Path
    start_s: float
    end_s: float
    caption: str
    actions: tuple[str, ...]
    title: str

    def facts(self) -> dict[str, object]:
        """Return all but the file, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "file"}


def export_clips(output: Path | str, target: Path, settings: CutSettings) -> int:
    """Write the layout ``clips``; return the number of clips.

    Raises:
        ExportError: a clip cannot be cut, or ``target`` holds something else.
    """
    shots = list(_shots(output, settings))
    with _export(target, "clips") as folder:
        (folder / "videos").mkdir()
        table = io.StringIO()
        names = ("file_name", "video", "prompt", "action", "clip_id", "video_id", "start_s", "end_s")
        rows = csv.DictWriter(table, names, lineterminator="\n")
        rows.writeheader()
        for shot in shots:
            name = f"videos/{shot.clip_id}.mp4"
            _place(shot.file, folder / name)
            rows.writerow(
                {
                    "file_name": name, "video": name, "prompt": _line(shot.caption),
                    "action": _line(" ".join(shot.actions)), "clip_id": shot.clip_id,
                    "video_id": shot.video_id, "start_s": shot.start_s, "end_s": shot.end_s,
                }
            )  # fmt: skip
        write_whole(folder / "metadata.csv", table.getvalue())
        listed = [{"video_path": f"videos/{shot.clip_id}.mp4", "caption": shot.caption} for shot in shots]
        write_whole(folder / "metadata.jsonl", "".join(_json(row) for row in listed))
        write_whole(folder / "videos.txt", "".join(f"videos/{shot.clip_id}.mp4\n" for shot in shots))
        write_whole(folder / "prompts.txt", "".join(f"{_line(shot.caption)}\n" for shot in shots))
    return len(shots)


def export_multishot(output: Path | str, target: Path, settings: CutSettings) -> int:
    """Write the layout ``multishot``; return the number of stories.

    Raises:
        ExportError: a clip cannot be cut, or ``target`` holds something else.
    """
    shots = {shot.clip_id: shot for shot in _shots(output, settings)}
    stories = 0
    with _export(target, "multishot") as folder:
        for batch in open_dataset(output).batches("narratives", ["video_id", "title", "steps"]):
            for story in batch.to_pylist():
                stories += 1
                for number, step in enumerate(story["steps"], start=1):
                    name = f"{story['video_id']}/{number:06d}"
                    _place(shots[step["clip_id"]].file, folder / "video" / f"{name}.mp4")
                    told = {
                        "caption": step["caption"], "action": step["action"], "title": story["title"],
                    }  # fmt: skip
                    write_whole(folder / "caption" / f"{name}.json", _json(told))
    return stories


def export_webdataset(output: Path | str, target: Path, settings: CutSettings, *, shard_bytes: int) -> int:
    """Write the layout ``webdataset``; return the number of shards.

    The same clips give the same bytes. A clip's key frame is the picture in its middle.

    Raises:
        ExportError: a clip cannot be cut, or ``target`` holds something else.
    """
    shots = list(_shots(output, settings))
    with _export(target, "webdataset") as folder, ExitStack() as opened:
        shards: dict[int, tuple[int, tarfile.TarFile]] = {}
        total = 0
        for shot in shots:
            height, key_frame = _key_frame(shot)
            number, shard = shards.get(height, (-1, None))
            if shard is None or shard.offset > shard_bytes:
                if shard is not None:
                    shard.close()
                number, total = number + 1, total + 1
                path = folder / f"clips-{height}p-{number:06d}.tar"
                shard = opened.enter_context(tarfile.open(path, "w", format=tarfile.USTAR_FORMAT))
                shards[height] = number, shard
            for suffix, content in (
                ("mp4", shot.file.read_bytes()), ("jpg", key_frame), ("json", _json(shot.facts()).encode()),
            ):  # fmt: skip
                entry = tarfile.TarInfo(f"{shot.clip_id}.{suffix}")
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))
    return total


def _shots(output: Path | str, settings: CutSettings) -> Iterator[Shot]:
    """Cut all clips, and yield them with their texts in the dataset's order."""
    for problem, number in export_media(output, settings).items():
        if problem not in WITH_FILE:
            raise ExportError(f"{output}: {number} clips cannot be cut: {problem}")
    dataset = open_dataset(output)
    titles = {
        row["video_id"]: row["title"]
        for batch in dataset.batches("narratives", ["video_id", "title"])
        for row in batch.to_pylist()
    }
    texts = {
        row["action_id"]: (row["start_s"], row["text"])
        for batch in dataset.batches("actions", ["action_id", "start_s", "text"])
        for row in batch.to_pylist()
    }
    matched: dict[str, list[tuple[float, str]]] = {}
    for batch in dataset.batches("matches", ["clip_id", "action_id"]):
        for row in batch.to_pylist():
            matched.setdefault(row["clip_id"], []).append(texts[row["action_id"]])
    for batch in dataset.batches("clips", ["clip_id", "video_id", "start_s", "end_s", "caption"]):
        for row in batch.to_pylist():
            yield Shot(
                clip_id=row["clip_id"], video_id=row["video_id"],
                file=media_folder(output) / f"{row['clip_id']}.mp4",
                start_s=row["start_s"], end_s=row["end_s"], caption=row["caption"] or "",
                actions=tuple(text for _, text in sorted(matched.get(row["clip_id"], []))),
                title=titles.get(row["video_id"]) or "",
            )  # fmt: skip


@contextmanager
def _export(target: Path, layout: str) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``target``; an earlier export there is replaced."""
    if target.exists() and not (target.is_dir() and _may_be_replaced(target)):
        raise ExportError(f"{target}: is not an earlier export; name a new folder")
    with whole_folder(target) as folder:
        yield folder
        write_whole(folder / MARK, _json({"layout": layout, "videoauteur": __version__}))


def _may_be_replaced(target: Path) -> bool:
    return (target / MARK).is_file() or not any(target.iterdir())


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _key_frame(shot: Shot) -> tuple[int, bytes]:
    """Return a clip's picture height in pixels and the picture in its middle as a JPEG file."""
    with open_media(shot.file) as container:
        stream = picture_stream(container)
        assert stream is not None
        height, width = stream.height, stream.width
    middle_s = (shot.end_s - shot.start_s) / 2
    (picture,) = read_span(shot.file, [middle_s], height_px=height, width_px=width)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return height, jpeg.tobytes()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _line(text: str) -> str:
    """Return a text on one line, for files of a line a clip."""
    return " ".join(text.split())
