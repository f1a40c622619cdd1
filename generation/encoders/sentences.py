"""One vector for a text, from a frozen encoder that comes as a package."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from generation import config
from generation.encoders.backbones import load_backbone
from generation.encoders.text import load_text

TEXTS_AT_ONCE = 16
PROMPT = "Recipe step: {text}. The picture shows"


class TextVectors(Protocol):
    """Texts to vectors."""

    width: int

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return vectors ``[n, width]``, each of about unit variance."""


class Remembered(ABC):
    """An encoder that reads no text twice; a data set's texts come back in every epoch."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._known: dict[str, Tensor] = {}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See :class:`TextVectors`."""
        fresh = sorted(set(texts) - self._known.keys(), key=len)
        for start in range(0, len(fresh), TEXTS_AT_ONCE):
            part = fresh[start : start + TEXTS_AT_ONCE]
            self._known.update(zip(part, self._read(part), strict=True))
        return torch.stack([self._known[text] for text in texts]) if texts else torch.zeros(0, self.width)

    @abstractmethod
    def _read(self, texts: Sequence[str]) -> Tensor:
        """Encode texts that were not read before, ``[n, width]``."""


class MeanOfMiniLM(Remembered):
    """all-MiniLM-L6-v2: the mean of its tokens."""

    def __init__(self) -> None:
        self._encoder = load_text(config.TextEncoder(kind="minilm", max_tokens=64))
        super().__init__(self._encoder.width)

    def _read(self, texts: Sequence[str]) -> Tensor:
        tokens, mask = self._encoder.encode(texts)
        return _unit(tokens.sum(1) / mask.sum(1, keepdim=True).clamp_min(1))


class SmolLM2(Remembered):
    """SmolLM2-135M, asked what the picture shows: its answer's first hidden state, and two means."""

    def __init__(self) -> None:
        self._language = load_backbone(config.Backbone(kind="smollm2", train="frozen"))
        super().__init__(3 * self._language.width)

    @torch.no_grad()
    def _read(self, texts: Sequence[str]) -> Tensor:
        rows = [torch.tensor(self._language.ids(PROMPT.format(text=text))) for text in texts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        read = self._language.decoder(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, use_cache=False
        ).hidden_states
        weights = mask[..., None] / lengths[:, None, None]
        last = read[-1][torch.arange(len(rows)), lengths - 1]
        means = [(read[layer].float() * weights).sum(1) for layer in (len(read) // 3, -1)]
        return torch.cat([_unit(part.float()) for part in (last, *means)], 1)


class SideBySide:
    """Several encoders; their vectors one after the other."""

    def __init__(self, *encoders: TextVectors) -> None:
        self._encoders = encoders
        self.width = sum(encoder.width for encoder in encoders)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See :class:`TextVectors`."""
        return torch.cat([encoder.encode(texts) for encoder in self._encoders], 1)


@functools.cache
def load_sentences(name: Literal["minilm", "smollm2", "both"]) -> TextVectors:
    """Load the encoder of a recipe's ``director.sentences``, once a process; it remembers its texts."""
    if name == "both":
        return SideBySide(MeanOfMiniLM(), SmolLM2())
    return MeanOfMiniLM() if name == "minilm" else SmolLM2()


def _unit(vectors: Tensor) -> Tensor:
    """Scale vectors so that the variance of their numbers is one."""
    unit: Tensor = F.normalize(vectors, dim=1) * vectors.shape[1] ** 0.5
    return unit
