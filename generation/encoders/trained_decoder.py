"""Base of the decoders that the project trains, on rows of states and key frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from generation.config import Decoder
from generation.core.learner import Learner, Row
from generation.core.states import Pictures, StateDecoder
from pipeline.platform.config import ConfigError


class TrainedDecoder(Learner, StateDecoder):
    """A decoder with a loss.

    Attributes:
        options: of the decoder; those of sampling may be changed after training.
    """

    options: Decoder

    def keyframes_of(self, rows: Sequence[Row]) -> Tensor:
        """Return the key frames of clip rows, uint8 ``[n, picture_px, picture_px, 3]``.

        Raises:
            ConfigError: they are not of ``state.picture_px``.
        """
        pictures = torch.stack([torch.as_tensor(row["keyframe"]) for row in rows])
        if pictures.shape[1:] != (self.picture_px, self.picture_px, 3):
            raise ConfigError(
                f"the key frames are {pictures.shape[2]} x {pictures.shape[1]}, state.picture_px is "
                f"{self.picture_px}: make the features again with this configuration"
            )
        return pictures

    @abstractmethod
    def repaint(self, rows: Sequence[Row], *, seed: int) -> Pictures:
        """Paint the key frames of clip rows from their states."""

    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        """Write ``pictures.png``: each row's true picture and, right of it, the painted one."""
        true = self.keyframes_of(rows).numpy()
        pairs = np.concatenate([true, self.repaint(rows, seed=seed)], axis=2)
        across = max(1, round(len(pairs) ** 0.5))
        pairs = np.concatenate([pairs, np.zeros_like(pairs[: -len(pairs) % across])])
        lines = [np.concatenate(pairs[i : i + across], axis=1) for i in range(0, len(pairs), across)]
        Image.fromarray(np.concatenate(lines)).save(folder / "pictures.png")
