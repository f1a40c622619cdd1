"""The features of one video: states, key frames, latents and text of its steps, kept in the memo.

The file is decoded once, and what was computed goes into the memo in three parts, each under a key of all
that it depends on: video and intervals, the part of the recipe that measures, the weights. So a second run
decodes nothing, and another caption costs no latents.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.torch import save
from torch import Tensor

from generation.config import Recipe
from generation.core.states import StateEncoder
from generation.core.story import prompt_of
from generation.encoders.codecs import VideoCodec, load_codec
from generation.encoders.factory import load_encoder
from generation.encoders.text import CaptionEncoder, load_text
from generation.encoders.weights import best_device
from models.errors import MediaError
from models.media.picking import Wanted, pick
from pipeline.platform.memo import Memo

KEYFRAME_PX = 448
"""Side of the square that states are made of, as in the paper; stored key frames are smaller."""
VERSION = 1
Image = NDArray[np.uint8]
Part = Literal["pictures", "latents", "text"]


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
            "pictures": key_of("pictures", self._pictures, video.video_id, intervals),
            "latents": key_of("latents", self._latents, video.video_id, intervals),
            "text": key_of("text", self._text, prompts),
        }


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


def key_of(*parts: object) -> str:
    """A key of the memo for what depends on these parts; the first one names it."""
    text = json.dumps([VERSION, *parts], sort_keys=True)
    return f"features-{parts[0]}-{hashlib.sha256(text.encode()).hexdigest()}"


def _weights(path: Path | None) -> list[list[object]]:
    """What stands for the weights in a folder: names, sizes and times of its files."""
    if path is None:
        return []
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
