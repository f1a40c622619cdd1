"""Packed frames: the pictures of one video on a fixed grid, as JPEG files in one uncompressed zip.

The scan writes them while it decodes the file; later stages choose from them and never decode the file.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every entry, so that the same frames make the same file."""


def packed_frames(scratch: Path, video_id: str) -> Path:
    """Return the path of a video's packed frames; absent if the scratch folder was cleared."""
    return scratch / "frames" / video_id[:2] / f"{video_id}.zip"


def remove_frames(scratch: Path, *, kept: Collection[str]) -> None:
    """Remove the packed frames of all videos but some, by id."""
    for path in packed_frames(scratch, "00").parents[1].glob("*/*.zip"):
        if path.stem not in kept:
            path.unlink(missing_ok=True)


class FramePacker:
    """Writes pictures into a zip, uncompressed, named by their time in microseconds.

    The file appears under its name only when it is whole.

    Args:
        label: kept as the comment of the zip: what the frames were made with.
    """

    def __init__(self, target: Path, label: bytes = b"") -> None:
        self._target = target
        self._label = label

    def __enter__(self) -> FramePacker:
        handle, name = tempfile.mkstemp(dir=self._target.parent, suffix=".part")
        self._part = Path(name)
        self._zip = zipfile.ZipFile(os.fdopen(handle, "wb"), "w", zipfile.ZIP_STORED)
        self._zip.comment = self._label
        return self

    def add(self, time_s: float, jpeg: bytes) -> None:
        """Append one picture as a JPEG file."""
        self._zip.writestr(zipfile.ZipInfo(frame_name(time_s), ZIP_DATE), jpeg)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        handle = self._zip.fp
        self._zip.close()
        if handle is not None:
            handle.close()
        if kind is None:
            self._part.replace(self._target)
        else:
            self._part.unlink(missing_ok=True)


def encoded(image: NDArray[np.uint8], quality: int) -> bytes:
    """Return a BGR picture ``[h, w, 3]`` as a JPEG file."""
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()


def frame_name(time_s: float) -> str:
    """Name of a packed frame in its zip."""
    return f"{round(time_s * 1_000_000):013d}.jpg"


def read_pictures(path: Path, times_s: list[float]) -> list[NDArray[np.uint8]]:
    """The same frames decoded, as BGR ``[height, width, 3]``."""
    pictures = [
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in read_frames(path, times_s)
    ]
    return [picture.astype(np.uint8, copy=False) for picture in pictures if picture is not None]


def read_frames(path: Path, times_s: list[float]) -> list[bytes]:
    """JPEG files of the packed frames at the given times, as :class:`Evidence` lists them."""
    with closing(zipfile.ZipFile(path)) as archive:
        return [archive.read(frame_name(time_s)) for time_s in times_s]


def jpeg_size(jpeg: bytes) -> tuple[int, int]:
    """Return width and height of a packed frame without decoding it."""
    at = 2
    # Segments: a marker of two bytes, then their length. The frame header is one of C0 to C2.
    while jpeg[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return int.from_bytes(jpeg[at + 7 : at + 9], "big"), int.from_bytes(jpeg[at + 5 : at + 7], "big")


def nearest_frame(path: Path, time_s: float) -> bytes | None:
    """Return the JPEG file of the packed frame nearest to a time.

    Returns:
        None if there is none: the scratch folder may be emptied at any time.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {int(name[:-4]): name for name in archive.namelist() if name[:-4].isdecimal()}
            if not names:
                return None
            return archive.read(names[min(names, key=lambda time_us: abs(time_us - time_s * 1_000_000))])
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
