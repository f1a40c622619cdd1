"""Fingerprints of clips: what is left of a picture after it was coded again, scaled or letterboxed.

Each of a clip's pictures, at fixed shares of its length, gives a 64-bit perceptual hash (the signs of its
lowest cosine coefficients) and a thumbnail of 8 x 8 grey values. Black bars are cut off first.
"""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.settings import Section
from stages.base import Pool, Stage
from stages.clip import frames_in
from stages.frames import read_frames
from stages.records import Clip, Fingerprint, Video

PICTURES = 5
"""Pictures of a clip; a shorter one repeats some."""
THUMB_PX = 8
HASH_PX = 32
BAR_LEVEL = 28
"""Rows and columns at the rim that are nowhere brighter are bars."""
MIN_SPREAD = 4.0
"""Standard deviation of a picture, in grey levels, below which it has nothing to be known by."""


class DuplicateSettings(Section):
    """Near-duplicates, within and across videos.

    Attributes:
        drop: whether they are looked for, and all but one of them are dropped. All videos then wait for
            the last one's clips before any of them is captioned.
    """

    drop: bool = False


class FingerprintClips(Stage):
    """Computes the fingerprint of every clip from its packed frames.

    The decision over all clips runs after the last video: see ``pipeline/curation/duplicates.py``.
    """

    name: ClassVar[str] = "duplicates"
    pool: ClassVar[Pool] = "media"
    reads = ("content_id", "evidence", "kept_clips")
    writes = ("fingerprints",)
    needs_frames = True

    def __init__(self, settings: DuplicateSettings) -> None:
        self.settings = settings

    def measure(self, video: Video) -> Video:
        return video.with_results(
            fingerprints=[self._fingerprint(video, clip) for clip in video.kept_clips]
        )

    def _fingerprint(self, video: Video, clip: Clip) -> Fingerprint:
        assert video.evidence is not None
        times = video.evidence.frame_times_s[frames_in(video.evidence, clip)]
        if not times:
            return Fingerprint(clip_id=clip.clip_id, hashes="", thumbs="")
        wanted = [times[int((k + 0.5) * len(times) / PICTURES)] for k in range(PICTURES)]
        unique = list(dict.fromkeys(wanted))
        jpegs = dict(zip(unique, read_frames(self.workspace.frames_path(video), unique), strict=True))
        hashes, thumbs = fingerprint([_gray(jpegs[time_s]) for time_s in wanted])
        return Fingerprint(
            clip_id=clip.clip_id, hashes=hashes.astype(">u8").tobytes().hex(), thumbs=thumbs.tobytes().hex()
        )


def fingerprint(grays: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Hash some pictures of one clip.

    Args:
        grays: luma ``[h, w]``, all of one size.

    Returns:
        Hashes ``[n]``, 0 for pictures that show nothing, and thumbnails ``[n, 8, 8]``.
    """
    part = without_bars(np.maximum.reduce(grays))
    hashes = np.zeros(len(grays), np.uint64)
    thumbs = np.zeros((len(grays), THUMB_PX, THUMB_PX), np.uint8)
    for number, gray in enumerate(grays):
        small = cv2.resize(gray[part], (HASH_PX, HASH_PX), interpolation=cv2.INTER_AREA)
        thumbs[number] = cv2.resize(small, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA)
        if small.std() < MIN_SPREAD:
            continue
        # Without the first row and column, which hold the mean and plain gradients of light.
        waves = cv2.dct(small.astype(np.float32))[1:9, 1:9].ravel()
        bits = waves > np.median(waves)
        hashes[number] = np.packbits(bits).view(">u8")[0]
    return hashes, thumbs


def hashes_of(found: Fingerprint) -> NDArray[np.uint64]:
    """The hashes of a clip, ``[PICTURES]``; 0 for pictures that show nothing."""
    return np.frombuffer(bytes.fromhex(found.hashes).ljust(8 * PICTURES, b"\0"), ">u8").astype(np.uint64)


def thumbs_of(found: Fingerprint) -> NDArray[np.uint8]:
    """The thumbnails of a clip, ``[PICTURES, 8, 8]``."""
    size = PICTURES * THUMB_PX**2
    values = np.frombuffer(bytes.fromhex(found.thumbs).ljust(size, b"\0"), np.uint8)
    return values.reshape(PICTURES, THUMB_PX, THUMB_PX)


def without_bars(brightest: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The part of a picture inside black bars, given the brightest value of every pixel."""
    parts = []
    for axis in (1, 0):
        # A few noisy or lettered pixels do not make a bar bright.
        bright = np.flatnonzero((brightest > BAR_LEVEL).mean(axis=axis) > 0.02)
        size = brightest.shape[1 - axis]
        low, high = (int(bright[0]), int(bright[-1]) + 1) if len(bright) else (0, size)
        # What is left of less than a third is no picture between bars.
        parts.append(slice(low, high) if high - low >= size / 3 else slice(0, size))
    return parts[0], parts[1]


def _gray(jpeg: bytes) -> NDArray[np.uint8]:
    gray = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    assert gray is not None
    return np.asarray(gray, np.uint8)
