"""Repetition among the texts of a story."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

WORD = re.compile(r"\w+")
REPEATED_TEXT = 0.7
"""Overlap of words from which a step repeats another. Stricter than the director's own control, which
otherwise would be measured by what it enforces."""


def text_overlap(one: str, other: str) -> float:
    """Words that two texts share, over all their words (Jaccard); case and punctuation play no part."""
    a, b = ({*WORD.findall(text.lower())} for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


def text_repetition(texts: Sequence[str], *, limit: float = REPEATED_TEXT) -> float | None:
    """Share of the later steps whose text overlaps an earlier one by ``limit``; None of one step."""
    later = range(1, len(texts))
    repeated = [any(text_overlap(texts[i], texts[j]) >= limit for j in range(i)) for i in later]
    return float(np.mean(repeated)) if repeated else None
