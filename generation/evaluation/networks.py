"""Networks that turn clips into features for a Fréchet distance, and what the distance may be called.

FVD is defined by I3D or VideoMAE; only the latter comes in a form that loads as data (safetensors and a
class of transformers). Every other network gives a distance under its own name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.core.states import Pictures


class PictureNetwork(Protocol):
    """Pictures to features; every :class:`generation.core.states.StateEncoder` is one."""

    name: str

    def encode(self, images: Pictures) -> Tensor:
        """Return features ``[n, ...]`` of pictures ``[n, height, width, 3]``."""


class VideoNetwork(Protocol):
    """Clips to features.

    Attributes:
        distance: what a Fréchet distance between its features is called.
    """

    distance: str

    def features(self, videos: Sequence[Pictures]) -> NDArray[np.float64]:
        """Return features ``[n, d]`` of RGB clips ``[frames, height, width, 3]`` of two frames or more."""


class VideoFeatures:
    """Features of a picture network over time: the mean, and the mean size of change between frames.

    Frozen frames and flicker show in the second half, which pictures one by one would not tell.
    """

    def __init__(self, network: PictureNetwork) -> None:
        self._network = network
        self.distance = f"frechet(mean and change of {network.name})"

    def features(self, videos: Sequence[Pictures]) -> NDArray[np.float64]:
        """See :class:`VideoNetwork`.

        Raises:
            ValueError: a clip has fewer than two frames.
        """
        return np.stack([self._of_one(video) for video in videos])

    def _of_one(self, video: Pictures) -> NDArray[np.float64]:
        if len(video) < 2:
            raise ValueError(f"video features need at least 2 frames of a clip, found {len(video)}")
        frames = self._network.encode(video).flatten(1).double().numpy()
        return np.concatenate([frames.mean(axis=0), np.abs(np.diff(frames, axis=0)).mean(axis=0)])


class VideoMae:
    """Mean of the last hidden tokens of a VideoMAE, from a folder as ``save_pretrained`` writes it.

    Args:
        folder: of a ``VideoMAEModel`` or a class over it, with its ``preprocessor_config.json``.

    Raises:
        ValueError: it holds another model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, VideoMAEImageProcessorPil, VideoMAEModel

        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if kind != "videomae":
            raise ValueError(f"{folder}: holds a {kind} model; a video network must be a VideoMAE")
        self._prepare = VideoMAEImageProcessorPil.from_pretrained(folder, local_files_only=True)
        self._model = VideoMAEModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.distance = f"FVD(VideoMAE, {folder.name})"

    def features(self, videos: Sequence[Pictures]) -> NDArray[np.float64]:
        """See :class:`VideoNetwork`; frames are taken evenly, as many as the network wants."""
        found = []
        for video in videos:
            frames = [
                np.asarray(frame) for frame in video[evenly(len(video), self._model.config.num_frames)]
            ]
            with torch.inference_mode():
                hidden = self._model(**self._prepare(frames, return_tensors="pt")).last_hidden_state
            found.append(hidden[0].mean(dim=0).double().numpy())
        return np.stack(found)


def evenly(length: int, count: int) -> NDArray[np.intp]:
    """``count`` places spread over ``length``, from the first to the last; some twice where too few."""
    return np.linspace(0, length - 1, count).round().astype(np.intp)
