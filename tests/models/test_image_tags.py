"""Tags name what is drawn, so the list of names fits the network's classes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.image_tags import ImageTagger
from tests.support.pictures import Image, clock


@pytest.fixture(scope="module")
def tagger() -> ImageTagger:
    return ImageTagger(threads=1)


def traffic_light() -> Image:
    image: Image = np.full((300, 400, 3), (235, 206, 135), np.uint8)
    cv2.rectangle(image, (160, 40), (240, 260), (30, 30, 30), -1)
    for y, colour in ((80, (0, 0, 255)), (150, (0, 180, 255)), (220, (0, 255, 0))):
        cv2.circle(image, (200, y), 30, colour, -1, cv2.LINE_AA)
    return image


def test_the_first_tag_is_what_is_shown(tagger: ImageTagger) -> None:
    for image, name in ((clock(), "analog clock"), (traffic_light(), "traffic light")):
        tags = tagger.tag([image], top=3)
        assert tags[0][0] == name and tags[0][1] > 0.5
        assert len(tags) == 3
        assert 1 > tags[0][1] > tags[1][1] > tags[2][1] > 0


def test_tags_of_several_pictures_are_those_of_all_together(tagger: ImageTagger) -> None:
    tags = tagger.tag([clock(), traffic_light()], top=1000)
    both = dict(tags)
    alone = [dict(tagger.tag([image], top=1000)) for image in (clock(), traffic_light())]
    assert len(tags) == 1000
    assert sum(probability for _, probability in tags) == pytest.approx(1)
    for name in ("analog clock", "traffic light", "wall clock"):
        assert both[name] == pytest.approx((alone[0][name] + alone[1][name]) / 2, abs=1e-5)
