"""Candidates for overlays, and the average of the views."""

from __future__ import annotations

import cv2
import numpy as np

from stages.watermark.appearance import Appearance
from stages.watermark.drawn import Drawn
from stages.watermark.evidence import FEATURES, average, candidates, extended, on_card, same_drawing
from stages.watermark.extent import Gray


def scenes(count: int, word: str = "") -> list[Gray]:
    """Soft random scenes, each another, with a word in the corner."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        rough = rng.integers(40, 200, (9, 16)).astype(np.uint8)
        gray = cv2.resize(rough, (384, 216), interpolation=cv2.INTER_CUBIC)
        cv2.putText(gray, word, (24, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2, cv2.LINE_AA)
        found.append(np.asarray(gray, np.uint8))
    return found


def test_every_view_has_the_same_share_in_the_average() -> None:
    grays = [np.full((4, 4), level, np.uint8) for level in (10, 10, 10, 100, 250)]
    assert (average(grays, [0, 0, 0, 1, -1]) == 55).all()
    assert (average(grays[:2], [-1, -1]) == 10).all()


def test_a_word_over_changing_scenes_is_a_candidate_that_persists_and_looks_drawn() -> None:
    found = max(candidates(scenes(6, "channel"), Appearance()), key=lambda one: one.persistent)
    values = dict(zip(FEATURES, found.features, strict=True))
    x0, y0, x1, y1 = found.box
    assert x0 < 0.15 and x1 > 0.25 and y1 < 0.3 and y0 < 0.12
    assert found.persistent == 1 and all(found.shown) and not found.drifts
    assert values["averaged"] > 0.5 and values["certain"] > 0.5 and values["travel"] < 1


def test_no_pictures_give_no_candidates() -> None:
    assert candidates([], Appearance()) == []


def test_large_words_stand_on_a_card_if_the_scene_is_faint_while_they_are_seen() -> None:
    rng = np.random.default_rng(0)
    scene, other = (rng.uniform(0, 200, (27, 48)).astype(np.float32) for _ in range(2))
    words, all_five = (0.2, 0.3, 0.8, 0.6), [True] * 5
    first_two, last_two = [True, True, False, False, False], [False, False, False, True, True]
    # A plate of 60 % over the first two pictures.
    pixels = np.stack([0.4 * scene + 30, 0.4 * scene + 30, scene, scene, scene])
    assert on_card(words, first_two, pixels)
    assert not on_card(words, last_two, pixels)
    assert on_card(words, last_two, np.stack([scene] * 3 + [0.4 * other] * 2))
    assert not on_card(words, last_two, np.stack([scene] * 3 + [0.9 * scene] * 2))
    assert on_card(words, last_two, np.stack([scene] * 3 + [np.full_like(scene, 20)] * 2))
    assert not on_card((0.2, 0.3, 0.3, 0.6), first_two, pixels)
    assert not on_card((0.2, 0.85, 0.8, 0.95), first_two, pixels)
    assert not on_card(words, all_five, pixels) and not on_card(words, [False] * 5, pixels)


def test_a_region_reaches_as_far_as_the_drawing_that_it_is_a_part_of() -> None:
    def drawn(*box: float) -> Drawn:
        x0, y0, x1, y1 = box
        return Drawn({0: (x0, y0, x1, y1)}, {0: 1.0}, {0: 8})

    part, shape = (0.4, 0.4, 0.6, 0.5), (20, 40)
    assert extended(part, [drawn(0.2, 0.38, 0.61, 0.6)], shape) == (0.2, 0.4, 0.6, 0.6)
    assert extended(part, [drawn(0.55, 0.45, 0.9, 0.9)], shape) == part


def test_a_region_hides_the_drawing_that_it_is_but_no_drawing_in_it() -> None:
    mark = (0.5, 0.85, 0.95, 0.95)
    assert same_drawing(mark, (0.52, 0.86, 0.95, 0.95))
    assert not same_drawing(mark, (0.01, 0.2, 0.99, 0.99))
    assert not same_drawing(mark, (0.6, 0.87, 0.7, 0.93))
