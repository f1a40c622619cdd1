"""What training reads, computed once: states, key frames, latents and text of a curated dataset.

One video is one unit of work: its file is decoded once, and what was computed goes into the memo in three
parts, each under a key of all that it depends on: video and intervals, the part of the recipe that
measures, the weights. So a second run decodes nothing, and another caption costs no latents.

MODELS/features holds::

    stories/part-*.parquet  one row a narrative: video_id, goal, actions, captions, tensors
    clips/part-*.parquet    one row a step: clip_id, video_id, step_index, action, caption, tensors
    statistics.safetensors  of all states
    features.json           what they were made from

``tensors`` are the bytes of a safetensors file. Of a story: ``states [steps, tokens, width]``, raw. Of a
clip: ``state [tokens, width]``, ``keyframe [picture_px, picture_px, 3]``, ``latents [c, f, h, w]``,
``text [n, d]`` and ``text_mask [n]``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.torch import load, save
from torch import Tensor

from generation.codecs import VideoCodec, load_codec
from generation.conditioning import CaptionEncoder, load_text
from generation.config import Recipe
from generation.states.base import StateEncoder, Statistics
from generation.states.factory import load_encoder
from generation.states.weights import best_device
from generation.story import prompt_of
from models.errors import MediaError
from models.media import Frame, frames, open_media
from pipeline.memo import Memo
from pipeline.progress import Bar
from stages.probe import path_of

KEYFRAME_PX = 448
"""Side of the square that states are made of, as in the paper; stored key frames are smaller."""
ROW_GROUP_BYTES = 16_000_000
SHARD_BYTES = 500_000_000
VERSION = 1
Image = NDArray[np.uint8]
Part = Literal["pictures", "latents", "text"]


class FeatureError(RuntimeError):
    """Features cannot be made of a dataset; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One step of a narrative and the clip that shows it, in seconds of presentation time."""

    clip_id: str
    start_s: float
    end_s: float
    action: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrated:
    """A narrative and its video file."""

    video_id: str
    path: Path
    goal: str
    scenes: tuple[Scene, ...]


NARRATED_JSON = TypeAdapter(Narrated)


def read_dataset(dataset: Path) -> list[Narrated]:
    """The narratives of an OUTPUT of ``curate``, in order of video_id.

    Raises:
        FeatureError: there are none, or video files are gone.
    """
    tables = {}
    for name, columns in (
        ("narratives", ["video_id", "title", "steps"]),
        ("clips", ["clip_id", "video_uri"]),
    ):
        files = sorted((dataset / name).glob("*.parquet"))
        if not files:
            raise FeatureError(f"DATASET {dataset}: no table {name} in it; name an OUTPUT of `curate`")
        parts = [pq.read_table(file, columns=columns) for file in files]
        tables[name] = pa.concat_tables(parts).to_pylist()
    uris = {clip["clip_id"]: clip["video_uri"] for clip in tables["clips"]}
    found = [
        Narrated(
            video_id=row["video_id"],
            path=path_of(uris[row["steps"][0]["clip_id"]]),
            goal=row["title"],
            scenes=tuple(
                Scene(**{name: step[name] for name in ("clip_id", "start_s", "end_s")},
                      action=step["action"] or "", caption=step["caption"] or "")
                for step in row["steps"]
            ),
        )
        for row in sorted(tables["narratives"], key=lambda row: str(row["video_id"]))
        if row["steps"]
    ]  # fmt: skip
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


class FeatureMaker:
    """Computes the features of videos, one at a time; models are loaded when they are first needed.

    Args:
        memo: folder of the store of results.
    """

    def __init__(self, recipe: Recipe, memo: Path) -> None:
        self._recipe = recipe
        self._memo = Memo(memo)
        self._keys = PartKeys(recipe)

    @cached_property
    def _encoder(self) -> StateEncoder:
        return load_encoder(self._recipe.state)

    @cached_property
    def _codec(self) -> VideoCodec:
        return load_codec(self._recipe.generator.codec, device=str(best_device()))

    @cached_property
    def _text(self) -> CaptionEncoder:
        return load_text(self._recipe.generator.text, device=best_device())

    def make(self, video: Narrated) -> bool:
        """Fill the memo with the parts of a video; whether anything had to be computed.

        Raises:
            MediaError: the file cannot be decoded.
        """
        keys = self._keys.of(video)
        missing = {part for part, key in keys.items() if self._memo.get(key) is None}
        if missing & {"pictures", "latents"}:
            for part, tensors in self._looked_at(video, missing).items():
                self._put(keys[part], tensors)
        if "text" in missing:
            prompts = [prompt_of(scene.action, scene.caption) for scene in video.scenes]
            text, mask = self._text.encode(prompts)
            self._put(keys["text"], {"text": text.cpu(), "text_mask": mask.cpu()})
        return bool(missing)

    def close(self) -> None:
        """Close the memo."""
        self._memo.close()

    def _looked_at(self, video: Narrated, missing: set[Part]) -> dict[Part, dict[str, Tensor]]:
        """The parts that need pictures, in one pass over the file; clips are let go one by one."""
        options = self._recipe.generator
        squares_wanted = [
            Wanted([(scene.start_s + scene.end_s) / 2], KEYFRAME_PX, KEYFRAME_PX)
            for scene in video.scenes
            if "pictures" in missing
        ]
        clips_wanted = [
            Wanted(clip_times(scene, options.frames, options.fps), options.height_px, options.width_px)
            for scene in video.scenes
            if "latents" in missing
        ]
        squares: dict[int, Image] = {}
        latents: dict[int, Tensor] = {}
        for index, pictures in pick(video.path, [*squares_wanted, *clips_wanted]):
            if index < len(squares_wanted):
                squares[index] = pictures[0]
            else:
                latents[index] = self._codec.encode(pictures).cpu()
        found: dict[Part, dict[str, Tensor]] = {}
        if squares:
            side = (self._recipe.state.picture_px,) * 2
            ordered = [squares[index] for index in sorted(squares)]
            small = [cv2.resize(square, side, interpolation=cv2.INTER_AREA) for square in ordered]
            found["pictures"] = {
                "state": self._encoder.encode(np.stack(ordered)).float().cpu(),
                "keyframe": torch.from_numpy(np.stack(small)),
            }
        if latents:
            found["latents"] = {"latents": torch.stack([latents[index] for index in sorted(latents)])}
        return found

    def _put(self, key: str, tensors: dict[str, Tensor]) -> None:
        packed = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        self._memo.put(key, json.dumps(base64.b64encode(packed).decode()))


class PartKeys:
    """Under which keys the parts of a video lie in the memo."""

    def __init__(self, recipe: Recipe) -> None:
        generator, state = recipe.generator, recipe.state
        self._pictures = [state.model_dump(mode="json"), _weights(state.path)]
        self._latents = [
            generator.codec.model_dump(mode="json"), _weights(generator.codec.path),
            generator.frames, generator.fps, generator.height_px, generator.width_px,
        ]  # fmt: skip
        self._text = [generator.text.model_dump(mode="json"), _weights(generator.text.path)]

    def of(self, video: Narrated) -> dict[Part, str]:
        """Keys by part."""
        intervals = [[scene.start_s, scene.end_s] for scene in video.scenes]
        prompts = [prompt_of(scene.action, scene.caption) for scene in video.scenes]
        return {
            "pictures": _key("pictures", self._pictures, video.video_id, intervals),
            "latents": _key("latents", self._latents, video.video_id, intervals),
            "text": _key("text", self._text, prompts),
        }


def make_features(
    dataset: Path,
    models: Path,
    recipe: Recipe,
    *,
    runner: Literal["ray", "local"] = "ray",
    memo: Path | None = None,
) -> Path:
    """MODELS/features of a dataset; what is there already and still right is left alone.

    Args:
        dataset: an OUTPUT of ``curate``.
        memo: folder of the store of results; default is that of the dataset.

    Raises:
        FeatureError: see :func:`read_dataset`; or no video could be decoded.
        ConfigError: the codec cannot make clips of this size.
    """
    load_codec(recipe.generator.codec).latent_shape(recipe.generator)
    videos = read_dataset(dataset)
    store = (memo or dataset / "_memo").resolve()
    folder = models / "features"
    fingerprint = _fingerprint(videos, recipe)
    if _made_from(folder) == fingerprint:
        return folder
    dropped: dict[str, str] = {}
    with Bar("features", len(videos), unit="videos") as bar:
        for video_id, problem in _made(videos, recipe, store, runner):
            if problem:
                dropped[video_id] = problem
            bar.advance(note=f"{len(dropped)} dropped" if dropped else "")
    kept = [video for video in videos if video.video_id not in dropped]
    for video in videos:
        if video.video_id in dropped:
            bar.print(f"dropped {video.path}: {dropped[video.video_id]}")
    if not kept:
        raise FeatureError(f"DATASET {dataset}: none of its {len(videos)} videos could be decoded")
    _write(kept, recipe, store, folder, fingerprint)
    return folder


def _made(
    videos: Sequence[Narrated], recipe: Recipe, store: Path, runner: Literal["ray", "local"]
) -> Iterator[tuple[str, str | None]]:
    """(video_id, why it was dropped) as they are done."""
    if runner == "ray":
        # Ray takes seconds to import; the sequential runner must not pay for it.
        from generation.ray_jobs import features_on_ray

        yield from features_on_ray(videos, recipe, store)
        return
    maker = FeatureMaker(recipe, store)
    for video in videos:
        yield video.video_id, attempt(maker, video)
    maker.close()


def attempt(maker: FeatureMaker, video: Narrated) -> str | None:
    """Why a video could not be read, or None."""
    try:
        maker.make(video)
    except (MediaError, OSError) as error:
        return str(error) or type(error).__name__
    return None


def clip_times(scene: Scene, count: int, fps: float) -> list[float]:
    """Times of a clip's frames: at ``fps`` around its middle, or evenly all over it if it is shorter."""
    span = min(count / fps, scene.end_s - scene.start_s)
    first = (scene.start_s + scene.end_s - span) / 2
    return [first + (nth + 0.5) * span / count for nth in range(count)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pictures to be taken out of a video: at these times, in order, of one size."""

    times_s: list[float]
    height_px: int
    width_px: int


def pick(path: Path, wanted: Sequence[Wanted]) -> Iterator[tuple[int, Image]]:
    """Decode a file once: (place, RGB pictures ``[n, height, width, 3]``) of each wanted, once complete.

    A time gets the frame that is on display then; one after the end gets the last.

    Raises:
        MediaError: it has no pictures, or cannot be opened.
    """
    due = sorted(
        (time_s, index, place)
        for index, one in enumerate(wanted)
        for place, time_s in enumerate(one.times_s)
    )
    done = 0
    pictures: dict[int, list[Image]] = {}
    shown: Frame | None = None
    with open_media(path) as container:
        for frame in chain(frames(container), [None]):
            while done < len(due) and (frame is None or due[done][0] < frame.time_s):
                # Before the first frame, the first is taken.
                source = shown or frame
                if source is None:
                    raise MediaError("no pictures in it")
                _, index, _ = due[done]
                one = wanted[index]
                pictures.setdefault(index, []).append(covering(source, one.height_px, one.width_px))
                done += 1
                if len(pictures[index]) == len(one.times_s):
                    yield index, np.stack(pictures.pop(index))
            if done == len(due):
                return
            shown = frame


def covering(frame: Frame, height_px: int, width_px: int) -> Image:
    """The centre of a frame in RGB, cut to the aspect and scaled to the size."""
    upright = frame.picture.rotation % 180 == 0
    source = (frame.picture.height, frame.picture.width)
    rows, columns = source if upright else source[::-1]
    scale = max(height_px / rows, width_px / columns)
    height, width = max(height_px, round(rows * scale)), max(width_px, round(columns * scale))
    image = frame.bgr(width, height)
    top, left = (height - height_px) // 2, (width - width_px) // 2
    return np.ascontiguousarray(image[top : top + height_px, left : left + width_px, ::-1])


def _write(videos: Sequence[Narrated], recipe: Recipe, store: Path, folder: Path, fingerprint: str) -> None:
    """Tables and statistics from the memo; the folder is there whole, or as it was."""
    memo, keys = Memo(store), PartKeys(recipe)

    def unpacked(video: Narrated, part: Part) -> dict[str, Tensor]:
        text = memo.get(keys.of(video)[part])
        assert text is not None
        return load(base64.b64decode(json.loads(text)))

    def stories() -> Iterator[dict[str, Any]]:
        for video in videos:
            yield {
                "video_id": video.video_id,
                "goal": video.goal,
                "actions": [scene.action for scene in video.scenes],
                "captions": [scene.caption for scene in video.scenes],
                "tensors": save({"states": unpacked(video, "pictures")["state"]}),
            }

    def clips() -> Iterator[dict[str, Any]]:
        for video in videos:
            tensors = unpacked(video, "pictures") | unpacked(video, "latents") | unpacked(video, "text")
            for index, scene in enumerate(video.scenes):
                yield {
                    "clip_id": scene.clip_id,
                    "video_id": video.video_id,
                    "step_index": index,
                    "action": scene.action,
                    "caption": scene.caption,
                    "tensors": save({name: tensor[index].clone() for name, tensor in tensors.items()}),
                }

    fresh = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    _write_table(fresh / "stories", STORIES, stories())
    _write_table(fresh / "clips", CLIPS, clips())
    states = (state for video in videos for state in unpacked(video, "pictures")["state"])
    try:
        Statistics.of(states).save(fresh / "statistics.safetensors")
    except ValueError as error:
        raise FeatureError(f"the narratives have too few steps: {error}") from error
    (fresh / "features.json").write_text(json.dumps({"made_from": fingerprint}) + "\n")
    memo.close()
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


_TEXT = pa.string()
STORIES = pa.schema(
    {"video_id": _TEXT, "goal": _TEXT, "actions": pa.list_(_TEXT), "captions": pa.list_(_TEXT),
     "tensors": pa.binary()}
)  # fmt: skip
CLIPS = pa.schema(
    {"clip_id": _TEXT, "video_id": _TEXT, "step_index": pa.int64(), "action": _TEXT, "caption": _TEXT,
     "tensors": pa.binary()}
)  # fmt: skip


def _write_table(folder: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    """Shards of bounded size, with row groups that a training process holds without effort."""
    folder.mkdir(parents=True)
    waiting = iter(rows)
    row = next(waiting, None)
    shard = 0
    while row is not None:
        written = 0
        with pq.ParquetWriter(folder / f"part-{shard:05d}.parquet", schema, compression="zstd") as writer:
            while row is not None and written < SHARD_BYTES:
                group, size = [], 0
                while row is not None and size < ROW_GROUP_BYTES:
                    group.append(row)
                    size += len(row["tensors"])
                    row = next(waiting, None)
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                written += size
        shard += 1


def _fingerprint(videos: Sequence[Narrated], recipe: Recipe) -> str:
    keys = PartKeys(recipe)
    rows = [
        [NARRATED_JSON.dump_python(video, mode="json", exclude={"path"}), keys.of(video)]
        for video in videos
    ]
    return _key("features", rows)


def _made_from(folder: Path) -> str | None:
    try:
        found: str = json.loads((folder / "features.json").read_text())["made_from"]
    except (OSError, ValueError, KeyError):
        return None
    return found


def _key(*parts: object) -> str:
    text = json.dumps([VERSION, *parts], sort_keys=True)
    return f"features-{parts[0]}-{hashlib.sha256(text.encode()).hexdigest()}"


def _weights(path: Path | None) -> list[list[object]]:
    """What stands for the weights in a folder: names, sizes and times of its files."""
    if path is None:
        return []
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
