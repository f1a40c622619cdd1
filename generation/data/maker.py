"""The features of one video: states, key frames, latents and text of its steps, kept in files.

The file is decoded once. What was computed lies in up to three files, each under a key of all that it
depends on: video and intervals, the part of the recipe that measures, the weights. So a second run decodes
nothing, another caption costs no latents, and models of one dataset share what they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from generation.config import Recipe
from generation.core.states import StateEncoder
from generation.core.story import prompt_of
from generation.data.files import write_clips
from generation.data.narrated import Narrated
from generation.encoders.codecs import VideoCodec, load_codec
from generation.encoders.factory import load_encoder, state_identity
from generation.encoders.geometry import width_of
from generation.encoders.text import CaptionEncoder, load_text
from generation.encoders.weights import best_device
from models.errors import MediaError
from models.files import json_digest, whole_file
from models.media.picking import Wanted, pick
from stages.records import Interval

KEYFRAME_PX = 448
"""Height of the pictures that states are made of, as in the paper; stored key frames are smaller."""
VERSION = 2
Image = NDArray[np.uint8]
Part = Literal["state", "keyframe", "latents", "text"]
Kind = Literal["director", "generator", "decoder"]


def parts_of(kind: Kind, recipe: Recipe) -> tuple[Part, ...]:
    """Return the parts that training a model reads."""
    if kind == "director":
        return ("state",)
    if kind == "decoder":
        return ("state", "keyframe")
    return ("latents", "text", "state")


class FeatureMaker:
    """Computes features of videos, one at a time; models are loaded when they are first needed.

    Args:
        recipe: how they are made.
        parts: those to make.
        store: folder of the files.
    """

    def __init__(self, recipe: Recipe, parts: Sequence[Part], store: Path) -> None:
        self._recipe = recipe
        self._files = PartFiles(recipe, parts, store)

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
        """Write the missing parts of a video; return whether there were any.

        Raises:
            MediaError: the file cannot be decoded.
        """
        files = self._files.of(video)
        missing = {part for part, file in files.items() if not file.is_file()}
        if missing - {"text"}:
            for part, clips in self._from_pictures(video, missing).items():
                write_clips(files[part], clips)
        if "text" in missing:
            prompts = [prompt_of(step.action, step.caption) for step in video.steps]
            write_clips(files["text"], [{"text": text} for text in self._text.encode_trimmed(prompts)])
        return bool(missing)

    def make_constants(self) -> None:
        """Write tensors that hold for all clips: tokens of the caption "", latents of a grey clip."""
        file = self._files.constants()
        if file is None or file.is_file():
            return
        found = {
            "null_text": self._text.encode_trimmed([""])[0].float().contiguous(),
            "unknown": self._codec.encode_beginning(None, self._recipe.generator),
        }
        with whole_file(file, shared=True) as part:
            save_file(found, part)

    def _from_pictures(self, video: Narrated, missing: set[Part]) -> dict[Part, list[dict[str, Tensor]]]:
        """Return the parts that need pictures, in one pass over the file."""
        options = self._recipe.generator
        width = width_of(KEYFRAME_PX, self._recipe.state.aspect)
        stills_wanted = [
            Wanted([(step.start_s + step.end_s) / 2], KEYFRAME_PX, width)
            for step in video.steps
            if missing & {"state", "keyframe"}
        ]
        clips_wanted = [
            Wanted(clip_times(step, options.frames, options.fps), options.height_px, options.width_px)
            for step in video.steps
            if "latents" in missing
        ]
        stills: dict[int, Image] = {}
        latents: dict[int, dict[str, Tensor]] = {}
        for index, pictures in pick(video.path, [*stills_wanted, *clips_wanted]):
            if index < len(stills_wanted):
                stills[index] = pictures[0]
            else:
                latents[index] = self._latents(pictures)
        found: dict[Part, list[dict[str, Tensor]]] = {}
        ordered = [stills[index] for index in sorted(stills)]
        if "state" in missing:
            states = self._encoder.encode(np.stack(ordered)).cpu()
            found["state"] = [{"state": state} for state in states]
        if "keyframe" in missing:
            side = (self._recipe.state.picture_px,) * 2
            small = [cv2.resize(still, side, interpolation=cv2.INTER_AREA) for still in ordered]
            found["keyframe"] = [{"keyframe": torch.from_numpy(np.asarray(each))} for each in small]
        if "latents" in missing:
            found["latents"] = [latents[index] for index in sorted(latents)]
        return found

    def _latents(self, pictures: Image) -> dict[str, Tensor]:
        """Return the latents of a clip; for key frames also those of its first frame and grey ones."""
        options = self._recipe.generator
        found = {"latents": self._codec.encode(pictures).cpu()}
        if options.condition == "keyframe":
            found["known"] = self._codec.encode_beginning(pictures[0], options).cpu()
        return found


class PartFiles:
    """Paths of the parts of a video in the store."""

    def __init__(self, recipe: Recipe, parts: Sequence[Part], store: Path) -> None:
        generator, state = recipe.generator, recipe.state
        self._parts, self._store = parts, store
        self._measured: dict[Part, list[object]] = {
            "state": [state_identity(state), _weights(state.path)],
            "keyframe": [state.picture_px, *([] if state.aspect == 1 else [state.aspect])],
            "latents": [
                generator.codec.model_dump(mode="json"), _weights(generator.codec.path), generator.frames,
                generator.fps, generator.height_px, generator.width_px, generator.condition == "keyframe",
            ],
            "text": [generator.text.model_dump(mode="json"), _weights(generator.text.path)],
        }  # fmt: skip

    def of(self, video: Narrated) -> dict[Part, Path]:
        """Return the files of a video by part."""
        intervals = [[step.start_s, step.end_s] for step in video.steps]
        prompts = [prompt_of(step.action, step.caption) for step in video.steps]
        files: dict[Part, Path] = {}
        for part in self._parts:
            of_video = prompts if part == "text" else [video.video_id, intervals]
            key = key_of(part, self._measured[part], of_video)
            files[part] = self._store / part / key[:2] / f"{key}.parquet"
        return files

    def constants(self) -> Path | None:
        """Return the file of constants, if the parts have any."""
        if "latents" not in self._parts:
            return None
        key = key_of("constants", self._measured["latents"], self._measured["text"])
        return self._store / "constants" / f"{key}.safetensors"


def attempt(maker: FeatureMaker, video: Narrated) -> str | None:
    """Make a video's features; return why it could not be read, or None."""
    try:
        maker.make(video)
    except (MediaError, OSError) as error:
        return str(error) or type(error).__name__
    return None


def clip_times(clip: Interval, count: int, fps: float) -> list[float]:
    """Return times of a clip's frames: at ``fps`` around its middle, or evenly over a shorter clip."""
    span = min(count / fps, clip.duration_s)
    first = (clip.start_s + clip.end_s - span) / 2
    return [first + (nth + 0.5) * span / count for nth in range(count)]


def key_of(*parts: object) -> str:
    """Return a digest of JSON values."""
    return json_digest([VERSION, *parts])


def _weights(path: Path | None) -> list[list[object]]:
    """Return names, sizes and times of the files in a folder of weights."""
    if path is None:
        return []
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
