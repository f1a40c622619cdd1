"""What training reads, computed once: states, key frames, latents and text of a curated dataset.

One video is one unit of work, see :mod:`generation.data.maker`; afterwards the tables are written from
the memo.

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
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load, save
from torch import Tensor

from generation.config import Recipe
from generation.core.states import Statistics
from generation.data.maker import (
    NARRATED_JSON,
    FeatureMaker,
    Narrated,
    Part,
    PartKeys,
    Scene,
    attempt,
    key_of,
)
from generation.encoders.codecs import load_codec
from models.errors import UsageError
from pipeline.dataset.manifest import DatasetError
from pipeline.dataset.reading import open_dataset
from pipeline.platform.memo import Memo
from pipeline.platform.progress import Bar
from stages.probe import path_of

ROW_GROUP_BYTES = 16_000_000
SHARD_BYTES = 500_000_000


class FeatureError(UsageError):
    """Features cannot be made of a dataset; the text says why, and what to do."""


def read_dataset(dataset: Path) -> list[Narrated]:
    """The narratives of an OUTPUT of ``curate``, in order of video_id.

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
            scenes=tuple(
                Scene(**{name: step[name] for name in ("clip_id", "start_s", "end_s")},
                      action=step["action"] or "", caption=step["caption"] or "")
                for step in row["steps"]
            ),
        )
        for row in sorted(narratives, key=lambda row: str(row["video_id"]))
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
        from generation.data.ray_features import features_on_ray

        yield from features_on_ray(videos, recipe, store)
        return
    maker = FeatureMaker(recipe, store)
    for video in videos:
        yield video.video_id, attempt(maker, video)
    maker.close()


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
    return key_of("features", rows)


def _made_from(folder: Path) -> str | None:
    try:
        found: str = json.loads((folder / "features.json").read_text())["made_from"]
    except (OSError, ValueError, KeyError):
        return None
    return found
