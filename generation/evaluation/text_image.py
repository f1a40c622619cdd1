"""CLIP-T and CLIP-I: agreement of pictures with words and with pictures, through any CLIP.

Both are cosines times 100, the paper's scale. Figures of different CLIPs cannot be compared, so the name
of the folder belongs to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.core.states import Pictures
from generation.evaluation.networks import evenly

FAMILIES = ("clip", "siglip", "siglip2")
FRAMES = 8
"""Frames of a clip that are looked at."""


class ClipModel:
    """A CLIP or SigLIP with its tokenizer and image processor.

    Args:
        folder: as ``save_pretrained`` of model and processor writes it.

    Raises:
        ValueError: it holds another kind of model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type not in FAMILIES:
            raise ValueError(
                f"{folder}: holds a {config.model_type} model; CLIP-T and CLIP-I want one of "
                f"{', '.join(FAMILIES)} with both halves, text and vision"
            )
        self.name = folder.name
        self._length = config.text_config.max_position_embeddings
        # SigLIP was trained on padded text and has no mask.
        self._padding = "longest" if config.model_type == "clip" else "max_length"
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        processors: Any = AutoImageProcessor
        self._prepare = processors.from_pretrained(folder, local_files_only=True, backend="pil")
        self._model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)

    def encode(self, images: Pictures) -> Tensor:
        """Return unit embeddings ``[n, d]`` of pictures ``[n, height, width, 3]``."""
        with torch.inference_mode():
            pixels = self._prepare(list(images), return_tensors="pt")
            return _unit(self._model.get_image_features(**pixels).pooler_output)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings ``[n, d]``; texts longer than the model reads are cut, see :meth:`cut`."""
        tokens = self._tokenizer(
            list(texts),
            padding=self._padding,
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            return _unit(self._model.get_text_features(**tokens).pooler_output)

    def cut(self, texts: Sequence[str]) -> int:
        """Count the texts that have more tokens than the model reads."""
        return sum(len(ids) > self._length for ids in self._tokenizer(list(texts))["input_ids"])

    def note(self, texts: Sequence[str]) -> str:
        """Return the remark that belongs beside a figure of these texts."""
        cut = self.cut(texts)
        return self.name + (f"; {cut} of {len(texts)} texts longer than it reads" if cut else "")

    def frames(self, video: Pictures) -> Tensor:
        """Return unit embeddings ``[FRAMES, d]`` of frames spread over a clip ``[f, height, width, 3]``."""
        return self.encode(video[evenly(len(video), FRAMES)])


def clip_t(clip: ClipModel, texts: Sequence[str], videos: Sequence[Pictures]) -> NDArray[np.float64]:
    """Return CLIP-T of each clip, ``[n]``: mean over frames of 100 x cosine with its text."""
    found = [
        (clip.frames(video) @ words).mean()
        for video, words in zip(videos, clip.encode_texts(texts), strict=True)
    ]
    return 100 * torch.stack(found).double().numpy()


def clip_i(clip: ClipModel, made: Sequence[Pictures], real: Sequence[Pictures]) -> NDArray[np.float64]:
    """Return CLIP-I of each pair, ``[n]``: mean over frames at the same place of 100 x cosine.

    A single picture is a clip of one frame: every frame of the other clip is compared with it.
    """
    found = [(clip.frames(a) * clip.frames(b)).sum(dim=1).mean() for a, b in zip(made, real, strict=True)]
    return 100 * torch.stack(found).double().numpy()


def _unit(embedding: Tensor) -> Tensor:
    return torch.nn.functional.normalize(embedding.float(), dim=-1)
