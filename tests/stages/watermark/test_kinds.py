"""Kinds of overlays by place, course and words."""

from __future__ import annotations

import pytest

from stages.records import Box, OverlayKind
from stages.watermark.kinds import kind_of

CORNER: Box = (0.85, 0.04, 0.97, 0.1)


@pytest.mark.parametrize(
    ("box", "text", "persistent", "shown", "kind"),
    [
        (CORNER, "", True, 1.0, OverlayKind.LOGO),
        (CORNER, "TV4 HD", True, 1.0, OverlayKind.CORNER_BUG),
        (CORNER, "@easycook", True, 1.0, OverlayKind.HANDLE),
        (CORNER, "www.cook.example", False, 0.2, OverlayKind.HANDLE),
        (CORNER, "Home Kitchen", True, 0.6, OverlayKind.HANDLE),
        ((0.0, 0.0, 1.0, 0.95), "stock", True, 1.0, OverlayKind.STOCK_TILED),
        ((0.25, 0.4, 0.75, 0.55), "Stock Media", True, 1.0, OverlayKind.STOCK_CENTRE),
        ((0.2, 0.85, 0.8, 0.93), "add the salt", False, 0.7, OverlayKind.SUBTITLES),
        ((0.2, 0.3, 0.8, 0.6), "Best Soup", False, 0.2, OverlayKind.TITLE_CARD),
    ],
)
def test_kind(box: Box, text: str, persistent: bool, shown: float, kind: OverlayKind) -> None:
    assert kind_of(box, text, persistent=persistent, shown=shown) is kind
