"""Name the kind of an overlay by its place, its course in time and its words."""

from __future__ import annotations

import re

from stages.records import Box, OverlayKind

CENTRED = 0.14
"""Largest distance of an overlay's middle from the picture's, as a share of the picture."""
HANDLE = re.compile(r"@|©|www|https?:|\w\.(com|net|org|tv|me|co)\b|\w/\w", re.IGNORECASE)
MAX_BUG_LETTERS = 9


def kind_of(box: Box, text: str, *, persistent: bool, shown: float) -> OverlayKind:
    """Return the kind of an overlay.

    Args:
        box: where it is, as fractions of the picture.
        text: what is written there, as far as it could be read.
        persistent: whether it keeps its form and place while the scene changes.
        shown: share of the pictures in which it is seen.
    """
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    middle_x, middle_y = abs((x0 + x1) / 2 - 0.5), abs((y0 + y1) / 2 - 0.5)
    low = y0 > 0.66 and middle_x < CENTRED and width > 0.15
    if HANDLE.search(text):
        return OverlayKind.HANDLE
    if persistent:
        if width > 0.6 and height > 0.6:
            return OverlayKind.STOCK_TILED
        if middle_x < CENTRED and middle_y < CENTRED and width > 0.3:
            return OverlayKind.STOCK_CENTRE
    elif low and shown > 0.3:
        return OverlayKind.SUBTITLES
    elif height > 0.1 and width > 0.25 and shown < 0.7:
        return OverlayKind.TITLE_CARD
    letters = sum(character.isalnum() for character in text)
    if 0 < letters <= MAX_BUG_LETTERS and text.upper() == text and height < 0.15:
        return OverlayKind.CORNER_BUG
    if letters > 3 and height < 0.12:
        return OverlayKind.HANDLE
    return OverlayKind.LOGO
