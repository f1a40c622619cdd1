"""Similarity of texts to a topic, by the sentence encoder alone.

A text's similarity to the topic is compared with its mean similarity to other subjects of videos, so that
a text that is near to everything scores low. The curves were fitted on nine topics and measured on others:
``python -m benchmarks.relevance``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

OTHERS = (
    "sewing, knitting and other needlework",
    "repairing cars and bicycles",
    "building and repairing with wood and tools",
    "growing plants in a garden",
    "make-up, hair and skin care",
    "computers, phones and software",
    "sport and exercise",
    "playing games",
    "drawing, painting and paper crafts",
    "caring for pets and animals",
    "cleaning and tidying the house",
    "playing and teaching music",
    "travel and sightseeing",
    "money, business and the news",
    "talking about oneself and one's day",
    "greeting viewers and asking them to subscribe",
    "preparing and cooking food",
)
"""The topic itself may be among them: one in seventeen moves the mean little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Map from a mean margin to a score: one half at the middle, which separates topics best."""

    slope: float
    middle: float

    def score(self, margin: float) -> float:
        """Return the score, in [0, 1]."""
        return round(float(1 / (1 + np.exp(-self.slope * (margin - self.middle)))), 4)


VIDEO_CURVE = Curve(slope=50.0, middle=0.118)
"""For the mean of many texts."""
CLIP_CURVE = Curve(slope=27.0, middle=0.11)
"""For one or few: less sure of itself."""


class Encoder(Protocol):
    """Encoder of texts to unit vectors, such as ``models.sentences.SentenceEncoder``."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors ``[n, width]``."""


class Topic:
    """Topic that texts are compared with.

    Args:
        topic: a sentence or a few words, in English.
    """

    def __init__(self, topic: str, encoder: Encoder) -> None:
        self._encoder = encoder
        vectors = encoder.encode([topic, *OTHERS])
        self._direction = vectors[0] - vectors[1:].mean(axis=0)

    def margins(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return how much nearer each text is to the topic than to other subjects, in cosine: ``[n]``."""
        margins: NDArray[np.float32] = self._encoder.encode(texts) @ self._direction
        return margins
