"""The language-centric way: key frames painted from captions by a diffusers pipeline.

Two painters. A text-to-image pipeline paints each key frame by itself: prettier pictures, less consistent
ones. The rolling context of the paper's second version paints with an inpainting pipeline (FLUX.1-Fill,
Stable Diffusion): four scenes share a grid, the last key frames fill its first cells, the next ones are
painted into the others, from the captions and, if wished, starting from the director's decoded states.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from generation import config
from generation.core.states import Picture, Pictures
from generation.encoders.grid import CELLS, SIDE, cells_of, masked_grid
from generation.encoders.pictures import square
from generation.encoders.weights import best_device, description
from models.files import parts_digest, sha256_of
from pipeline.platform.config import ConfigError

PLACES = ("top left", "top right", "bottom left", "bottom right")


class TextPainter:
    """Paints each key frame from its caption alone.

    Args:
        pipeline: text to image.
        identity: digest of its weights and of the options.
    """

    memory, cells, uses_hints = 0, 1, False

    def __init__(self, pipeline: DiffusionPipeline, options: config.PainterSettings, identity: str) -> None:
        self.identity = identity
        self._pipeline = pipeline
        self._options = options

    def paint(
        self, captions: Sequence[str], *, known: Sequence[Picture], hints: Sequence[Picture], seed: int
    ) -> Pictures:
        """See :class:`generation.film.make.Painter`."""
        picture = _run(self._pipeline, self._options, seed, self._options.picture_px, prompt=captions[0])
        return square(picture[None], min(picture.shape[:2]))


class RollingPainter:
    """Paints the next key frames of a grid of four scenes in view of those before.

    Args:
        pipeline: inpainting or fill.
        identity: digest of its weights and of the options.
    """

    cells = CELLS

    def __init__(self, pipeline: DiffusionPipeline, options: config.PainterSettings, identity: str) -> None:
        self.identity = identity
        self.memory = options.memory
        self.uses_hints = options.strength < 1
        self._pipeline = pipeline
        self._options = options

    def paint(
        self, captions: Sequence[str], *, known: Sequence[Picture], hints: Sequence[Picture], seed: int
    ) -> Pictures:
        """See :class:`generation.film.make.Painter`."""
        cell_px = self._options.picture_px
        grid, mask = masked_grid([*known, *hints], cell_px, slice(len(known), CELLS))
        scenes = (f"{place}: {text}" for place, text in zip(PLACES, captions, strict=False))
        painted = _run(
            self._pipeline, self._options, seed, SIDE * cell_px,
            prompt="A grid of four scenes that follow each other. " + " ".join(scenes),
            image=Image.fromarray(grid),
            mask_image=Image.fromarray(mask),
            strength=self._options.strength if hints else 1.0,
        )  # fmt: skip
        return cells_of(square(painted[None], SIDE * cell_px)[0])[len(known) : len(captions)]


def load_painter(folder: Path, options: config.PainterSettings) -> TextPainter | RollingPainter:
    """Load a painter from a pipeline's folder, as ``save_pretrained`` writes it; safetensors only.

    Raises:
        ConfigError: it is no such folder, or its pipeline cannot paint.
    """
    index = description(folder, "model_index.json", option="--painter", of="a diffusers pipeline")
    name = index.get("_class_name")
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=getattr(torch, options.dtype)
        )
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"--painter {folder}: {name} cannot be loaded: {error}") from error
    taken = inspect.signature(pipeline.__call__).parameters
    if "prompt" not in taken or ("image" in taken and "mask_image" not in taken):
        raise ConfigError(f"--painter {folder}: {name} paints neither from text nor into a mask")
    pipeline.set_progress_bar_config(disable=True)
    weights = [[path.relative_to(folder).as_posix(), sha256_of(path)] for path in _weights(folder)]
    identity = parts_digest(options.model_dump_json(), name, weights)
    kind = RollingPainter if "mask_image" in taken else TextPainter
    return kind(pipeline.to(best_device()), options, identity)


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.safetensors"))


def _run(
    pipeline: DiffusionPipeline, options: config.PainterSettings, seed: int, side_px: int, **inputs: Any
) -> Picture:
    chosen = {"num_inference_steps": options.steps, "guidance_scale": options.guidance}
    # Without a value the pipeline's own default holds: it differs much between models.
    inputs |= {name: value for name, value in chosen.items() if value is not None}
    random = torch.Generator().manual_seed(seed % 2**63)
    painted = pipeline(height=side_px, width=side_px, generator=random, output_type="np", **inputs).images[
        0
    ]
    return np.asarray((painted * 255).round(), np.uint8)
