"""Text in pictures, read for real."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.screen_text import TextBox, TextReader


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader(threads=1)


def test_lines_are_read_where_they_stand(reader: TextReader) -> None:
    image = np.full((360, 640, 3), (60, 90, 50), np.uint8)
    drawn = {"COOKING CLUB": (40, 60), "Add two eggs": (300, 320)}
    places = {}
    for text, (left, base) in drawn.items():
        cv2.putText(
            image, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2, cv2.LINE_AA
        )
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
        places[text] = (left / 640, (base - height) / 360, (left + width) / 640, base / 360)
    found = reader.read(image)
    assert [line.text for line in found] == list(drawn)
    for line in found:
        assert line.box == pytest.approx(places[line.text], abs=0.04)
        assert 0.8 < line.score <= 1
    assert reader.read(image) == found


def test_a_picture_without_text_has_none(reader: TextReader) -> None:
    found: list[TextBox] = reader.read(np.full((200, 300, 3), 120, np.uint8))
    assert found == []
