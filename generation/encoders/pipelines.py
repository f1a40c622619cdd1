"""Diffusers pipelines that paint states."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generation.config import State
from generation.core.states import Pictures, StateDecoder
from generation.encoders.weights import best_device
from pipeline.platform.config import ConfigError


def load_part(kind: Any, path: Path | None, options: State, **given: Any) -> Any:
    """Return a pipeline or a part of one, of diffusers' class ``kind``, in ``state.dtype``.

    Args:
        given: passed on: a ``subfolder``, or parts of a pipeline that are not read from the folder.
    """
    return kind.from_pretrained(
        path, dtype=getattr(torch, options.dtype), use_safetensors=True, local_files_only=True, **given
    )


def check_side(options: State, multiple_px: int, name: str) -> None:
    """Check that a pipeline can paint squares of ``state.picture_px``.

    Raises:
        ConfigError: it needs a multiple of another number.
    """
    if options.picture_px % multiple_px:
        raise ConfigError(
            f"state.picture_px is {options.picture_px}: {name} needs a multiple of {multiple_px}"
        )


class PipelineDecoder(StateDecoder):
    """A pipeline that paints squares, one state at a time.

    Args:
        pipeline: with its weights, on any device.
        options: of the states.
        width: of the states that it was trained with.
        multiple_px: divides the sides that it paints.

    Raises:
        ConfigError: ``state.width`` or ``state.picture_px`` does not fit.
    """

    def __init__(self, pipeline: Any, options: State, *, width: int, multiple_px: int) -> None:
        name = type(pipeline).__name__
        if options.width != width:
            raise ConfigError(f"state.width is {options.width}, these weights for {name} want {width}")
        check_side(options, multiple_px, name)
        self.picture_px = options.picture_px
        self._pipeline = pipeline.to(best_device())
        self._pipeline.set_progress_bar_config(disable=True)
        chosen = {"num_inference_steps": options.sample_steps, "guidance_scale": options.guidance}
        self._chosen = {name: value for name, value in chosen.items() if value is not None}

    @abstractmethod
    def condition(self, state: Tensor) -> dict[str, Any]:
        """Return the pipeline's inputs for one state ``[1, tokens, width]`` on its device, in its dtype."""

    @torch.no_grad()
    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`StateDecoder.decode`. One at a time: a picture does not depend on its neighbours."""
        pictures = [
            self._pipeline(
                height=self.picture_px,
                width=self.picture_px,
                generator=torch.Generator().manual_seed(seed),
                output_type="np",
                **self.condition(state[None].to(self._pipeline.device, self._pipeline.dtype)),
                **self._chosen,
            ).images
            for state in z
        ]
        return (np.concatenate(pictures) * 255).round().astype(np.uint8)
