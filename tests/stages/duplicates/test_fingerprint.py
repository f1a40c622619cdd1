"""Fingerprints survive coding, scaling, bars and grading, and tell other pictures apart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.duplicates import hashes_of, thumbs_of
from stages.duplicates.decision import MAX_BITS
from stages.duplicates.fingerprint import PICTURES, fingerprint
from stages.records import Fingerprint

Gray = NDArray[np.uint8]


def scene(seed: int) -> list[Gray]:
    """Five pictures of discs, of which one moves."""
    rng = np.random.default_rng(seed)
    still = np.full((180, 320), rng.integers(60, 160), np.uint8)
    for _ in range(20):
        place = (int(rng.integers(320)), int(rng.integers(180)))
        cv2.circle(still, place, int(rng.integers(10, 40)), int(rng.integers(30, 230)), -1)
    pictures = []
    for step in range(PICTURES):
        picture = cv2.circle(still.copy(), (40 + 55 * step, 90), 35, 245, -1)
        pictures.append(np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8))
    return pictures


def coded(picture: Gray) -> Gray:
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE), np.uint8)


def boxed(picture: Gray) -> Gray:
    return np.asarray(cv2.copyMakeBorder(picture, 40, 40, 0, 0, cv2.BORDER_CONSTANT, value=16), np.uint8)


def small(picture: Gray) -> Gray:
    return np.asarray(cv2.resize(picture, (160, 90), interpolation=cv2.INTER_AREA), np.uint8)


def graded(picture: Gray) -> Gray:
    return np.asarray(np.clip(0.85 * picture.astype(np.float32) + 12, 0, 255), np.uint8)


def bits(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.asarray(np.bitwise_count(a ^ b))


@pytest.mark.parametrize("change", [coded, boxed, small, graded])
def test_a_copy_has_a_near_hash(change) -> None:  # type: ignore[no-untyped-def]
    for seed in range(5):
        hashes, _ = fingerprint(scene(seed))
        copy, _ = fingerprint([change(picture) for picture in scene(seed)])
        assert bits(hashes, copy).max() <= MAX_BITS


def test_other_scenes_have_far_hashes() -> None:
    hashes = [fingerprint(scene(seed))[0] for seed in range(10)]
    assert min(bits(a, b).min() for i, a in enumerate(hashes) for b in hashes[:i]) > MAX_BITS


def test_a_picture_that_shows_nothing_has_no_hash() -> None:
    assert fingerprint([np.full((90, 160), level, np.uint8) for level in (0, 128)])[0].tolist() == [0, 0]


def test_fingerprints_are_read_as_they_were_written() -> None:
    hashes, thumbs = fingerprint(scene(0))
    found = Fingerprint(
        clip_id="c", hashes=hashes.astype(">u8").tobytes().hex(), thumbs=thumbs.tobytes().hex()
    )
    assert hashes_of(found).tolist() == hashes.tolist()
    assert thumbs_of(found).tolist() == thumbs.tolist()
    nothing = Fingerprint(clip_id="c", hashes="", thumbs="")
    assert hashes_of(nothing).tolist() == [0] * PICTURES
