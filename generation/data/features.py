"""Features for training, computed once: states, key frames, latents and text of a curated dataset.

One video is one unit of work, see :mod:`generation.data.maker`. Its tensors lie in files of the store
(``DATASET/_memo/features``, or ``--memo``), which models share; the tables of a model only index them.
Training one model therefore replaces nothing of another's.

MODELS/features/KIND, with KIND director, generator or decoder, holds::

    train/part-*.parquet     a row a narrative (director): video_id, goal, actions, captions, files
                             or a row a clip: clip_id, video_id, step_index, action, caption, files
    held_out/part-*.parquet  the same of the videos that are not trained on
    statistics.safetensors   of the states in train
    constants.safetensors    tensors that hold for all clips (generator)
    features.json            what they were made from, and where the files are

Size: CookGen has 193,000 clips. At 81 frames of 832 x 480 a clip takes 4.2 MB of latents, 0.9 MB of text
(110 tokens of UMT5) and 0.7 MB of CLIP tokens in bfloat16, about 0.7 times that in the files: 0.79 TB
(:mod:`generation.data.files`). SigLIP tokens are 1.7 MB: 0.92 TB.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from generation.config import Recipe
from generation.core.states import Statistics
from generation.data.files import read_clips
from generation.data.maker import FeatureMaker, Kind, Part, PartFiles, attempt, key_of, parts_of
from generation.data.narrated import NARRATED_JSON, FeatureError, Narrated, held_out, read_dataset
from generation.data.reading import FACTS, HELD_OUT, TRAIN
from generation.encoders.codecs import load_codec
from models.files import whole_folder
from pipeline.platform.progress import Bar

ROWS_A_GROUP = 64
ROWS_A_SHARD = 50_000

_TEXT = pa.string()
STORIES = pa.schema(
    {"video_id": _TEXT, "goal": _TEXT, "actions": pa.list_(_TEXT), "captions": pa.list_(_TEXT),
     "files": pa.list_(_TEXT)}
)  # fmt: skip
CLIPS = pa.schema(
    {"clip_id": _TEXT, "video_id": _TEXT, "step_index": pa.int64(), "action": _TEXT, "caption": _TEXT,
     "files": pa.list_(_TEXT)}
)  # fmt: skip


def make_features(
    kind: Kind,
    dataset: Path,
    models: Path,
    recipe: Recipe,
    *,
    runner: Literal["ray", "local"] = "ray",
    memo: Path | None = None,
) -> Path:
    """Return MODELS/features/KIND of a dataset, made where it is missing or outdated.

    Args:
        kind: the model that reads them.
        dataset: an OUTPUT of ``curate``.
        memo: folder of the store of results; default is that of the dataset.

    Raises:
        FeatureError: see :func:`read_dataset`; or no video could be decoded.
        ConfigError: the codec cannot make clips of this size.
    """
    load_codec(recipe.generator.codec).latent_shape(recipe.generator)
    videos = read_dataset(dataset)
    store = (memo or dataset / "_memo").resolve() / "features"
    folder = models / "features" / kind
    parts = parts_of(kind, recipe)
    files = PartFiles(recipe, parts, store)
    made_from = _fingerprint(videos, files, recipe)
    if _facts_of(folder) == {"made_from": made_from, "store": str(store)}:
        return folder
    dropped: dict[str, str] = {}
    with Bar("features", len(videos), unit="videos") as bar:
        for video_id, problem in _made(videos, recipe, parts, store, runner):
            if problem:
                dropped[video_id] = problem
            bar.advance(note=f"{len(dropped)} dropped" if dropped else "")
    kept = [video for video in videos if video.video_id not in dropped]
    for video in videos:
        if video.video_id in dropped:
            bar.print(f"dropped {video.path}: {dropped[video.video_id]}")
    if not kept:
        raise FeatureError(f"DATASET {dataset}: none of its {len(videos)} videos could be decoded")
    _write(kind, kept, recipe, files, store, folder, made_from)
    return folder


def _made(
    videos: Sequence[Narrated],
    recipe: Recipe,
    parts: Sequence[Part],
    store: Path,
    runner: Literal["ray", "local"],
) -> Iterator[tuple[str, str | None]]:
    """Yield (video_id, why it was dropped) as videos are finished."""
    if runner == "ray":
        # Ray takes seconds to import; the sequential runner must not pay for it.
        from generation.data.ray_features import features_on_ray

        yield from features_on_ray(videos, recipe, parts, store)
        return
    maker = FeatureMaker(recipe, parts, store)
    maker.make_constants()
    for video in videos:
        yield video.video_id, attempt(maker, video)


def _write(
    kind: Kind,
    videos: Sequence[Narrated],
    recipe: Recipe,
    files: PartFiles,
    store: Path,
    folder: Path,
    made_from: str,
) -> None:
    """Write tables, statistics and constants; the folder appears whole."""
    kept_back = held_out(videos, recipe.features.held_out)
    train = [video for video in videos if video.video_id not in kept_back]
    rest = [video for video in videos if video.video_id in kept_back]
    schema, rows_of = (STORIES, _story) if kind == "director" else (CLIPS, _clips)
    with whole_folder(folder) as fresh:
        for name, some in ((TRAIN, train), (HELD_OUT, rest)):
            rows = (row for video in some for row in rows_of(video, _relative(files, video, store)))
            _write_table(fresh / name, schema, rows)
        try:
            Statistics.of(_states(train, files)).save(fresh / "statistics.safetensors")
        except ValueError as error:
            raise FeatureError(
                f"{len(train)} videos to train on have too few steps: {error}; lower features.held_out "
                f"({recipe.features.held_out:g}), or curate more videos"
            ) from error
        constants = files.constants()
        if constants is not None:
            shutil.copyfile(constants, fresh / "constants.safetensors")
        facts = {"made_from": made_from, "store": str(store)}
        (fresh / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _states(videos: Sequence[Narrated], files: PartFiles) -> Iterator[Tensor]:
    for video in videos:
        yield from (clip["state"].float() for clip in read_clips(files.of(video)["state"]))


def _relative(files: PartFiles, video: Narrated, store: Path) -> list[str]:
    return [file.relative_to(store).as_posix() for file in files.of(video).values()]


def _story(video: Narrated, files: list[str]) -> Iterator[dict[str, Any]]:
    yield {
        "video_id": video.video_id,
        "goal": video.goal,
        "actions": [step.action for step in video.steps],
        "captions": [step.caption for step in video.steps],
        "files": files,
    }


def _clips(video: Narrated, files: list[str]) -> Iterator[dict[str, Any]]:
    for index, step in enumerate(video.steps):
        yield {
            "clip_id": step.clip_id,
            "video_id": video.video_id,
            "step_index": index,
            "action": step.action,
            "caption": step.caption,
            "files": files,
        }


def _write_table(folder: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    """Write shards of bounded size; none if there are no rows."""
    folder.mkdir(parents=True)
    ordered = list(rows)
    for shard, start in enumerate(range(0, len(ordered), ROWS_A_SHARD)):
        table = pa.Table.from_pylist(ordered[start : start + ROWS_A_SHARD], schema=schema)
        pq.write_table(
            table, folder / f"part-{shard:05d}.parquet", row_group_size=ROWS_A_GROUP, compression="zstd"
        )


def _fingerprint(videos: Sequence[Narrated], files: PartFiles, recipe: Recipe) -> str:
    rows = [
        [
            NARRATED_JSON.dump_python(video, mode="json", exclude={"path"}),
            [file.name for file in files.of(video).values()],
        ]
        for video in videos
    ]
    constants = files.constants()
    return key_of("features", rows, recipe.features.held_out, constants.name if constants else None)


def _facts_of(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
