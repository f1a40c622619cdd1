"""How near texts are to a topic, by the sentence encoder alone.

A text's likeness to the topic is held against its mean likeness to other subjects of videos, so that what
is near to everything is near to nothing. Slope and middle were fitted on eight topics and measured on nine
others: ``python -m benchmarks.relevance``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.sentences import SentenceEncoder

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
SLOPE, MIDDLE = 50.0, 0.118


class Topic:
    """A topic that texts are held against.

    Args:
        topic: a sentence or a few words, in English.
        threads: of the encoder.
    """

    def __init__(self, topic: str, *, threads: int) -> None:
        self._encoder = SentenceEncoder(threads=threads)
        vectors = self._encoder.encode([topic, *OTHERS])
        self._direction = vectors[0] - vectors[1:].mean(axis=0)

    def margins(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """By how much each text is nearer to the topic than to other subjects, in cosine: ``[n]``."""
        margins: NDArray[np.float32] = self._encoder.encode(texts) @ self._direction
        return margins


def score(margin: float) -> float:
    """A mean margin as a score in [0, 1]; half at the margin that tells on-topic from off-topic videos."""
    return round(float(1 / (1 + np.exp(-SLOPE * (margin - MIDDLE)))), 4)
