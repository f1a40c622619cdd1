"""Input and output of speech recognition; its engines are in ``speech.py`` and ``whisperx.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
"""Start and end in seconds from the first sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWord:
    """Word as the recogniser heard it; times in seconds from the first sample."""

    start_s: float
    end_s: float
    text: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Words that were decoded together.

    Attributes:
        confidence: geometric mean of the probabilities of their tokens.
        no_speech: probability that there is no speech here; None if the engine does not report it.
    """

    words: list[SpokenWord]
    confidence: float
    no_speech: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Result of recognition.

    Attributes:
        language: ISO 639-1 code, empty when nothing was said.
        removed_words: number of recognised words that were removed as not spoken.
    """

    language: str
    words: list[SpokenWord]
    removed_words: int = 0


class SpeechRecogniser(Protocol):
    """Loaded engine for speech; samples are mono ``[n]`` at 16 kHz."""

    def hear(self, samples: NDArray[np.float32], language: str = "") -> Heard:
        """Return the spoken words, with their times.

        Args:
            language: ISO 639-1 code that the file states; a hint, since many files state a wrong one.
        """

    def translate(
        self, samples: NDArray[np.float32], spans: Sequence[Span], language: str
    ) -> list[str] | None:
        """Return the speech of each span in English; None if the model does not know the language."""

    def close(self) -> None:
        """Release the model."""
