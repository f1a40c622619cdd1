"""Real footage in memory, and short films made of it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.media import frames, open_media

Picture = NDArray[np.uint8]

FPS = 4.0
SIDE_PX = 400
"""Short side of the footage that is held in memory."""
SIZES = ((640, 360), (480, 360), (360, 360), (480, 270), (270, 480), (426, 240))
SUFFIXES = {".mp4", ".mkv", ".webm", ".mov", ".avi"}
MAX_S = 60.0
"""Footage that is taken of one file, from its start."""
APPEARANCE_VIDEOS = ("real/making_cake.mp4",)
HEAD_VIDEOS = ("clips/Corn_Dog",)
HELD_OUT = ("clips/BLT_Sandwich", "clips/Spring_Roll")
"""Footage below ``$VIDEOAUTEUR_DATA`` on which the two networks of the overlay detector are trained, and on
which it is measured. The head sees other footage than the appearance network, whose answers on its own
training pictures are too good.

Files with overlays or text on a screen are in none: ``real/birthday.mp4``, ``dj1`` and ``dj2``,
``scenes/testvideo.mp4`` and ``goldeneye-vfr-drop3.mp4``.
"""
STILLS_WITH_OVERLAYS = Path(__file__).with_name("youcook2_overlays.txt")
"""Videos of YouCook2 with subtitles, titles or logos in one of their key frames, by eye."""
MIN_EDGES = 2.0
"""Least mean gradient of a picture, in grey levels a pixel: fades and blank pictures show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """Pictures of one file at ``FPS``, as JPEG files; ``group`` is the folder that it lies in."""

    name: str
    group: str
    jpegs: list[NDArray[np.uint8]]


def read_footage(paths: Iterable[Path]) -> list[Footage]:
    """Decode files, in order, to pictures at ``FPS`` with a short side of at most ``SIDE_PX``.

    Raises:
        models.errors.MediaError: a file is no video.
    """
    found = []
    for path in paths:
        jpegs: list[NDArray[np.uint8]] = []
        with open_media(path) as container:
            for frame in frames(container):
                if frame.time_s >= MAX_S:
                    break
                if frame.time_s < len(jpegs) / FPS:
                    continue
                width, height = frame.picture.width, frame.picture.height
                if frame.picture.rotation % 180:
                    width, height = height, width
                scale = min(1.0, SIDE_PX / min(width, height))
                picture = frame.bgr(round(width * scale), round(height * scale))
                jpegs.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
        if len(jpegs) >= 2 * FPS:
            found.append(Footage(name=path.name, group=str(path.parent), jpegs=jpegs))
    return found


def video_files(folders: Sequence[Path], skip: Iterable[str]) -> list[Path]:
    """The video files below some folders, by name, without those of the given file names."""
    left_out = set(skip)
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.name not in left_out
    )


def still_files(folder: Path, *, head: bool) -> list[Path]:
    """Return half of the JPEG files below a folder: those for the head, or for the appearance network.

    Files of one subfolder stay together. Subfolders listed in ``STILLS_WITH_OVERLAYS`` are left out.
    """
    left_out = set(STILLS_WITH_OVERLAYS.read_text().split())
    paths = [path for path in sorted(folder.rglob("*.jpg")) if path.parent.name not in left_out]
    sources = sorted({path if path.parent == folder else path.parent for path in paths})
    chosen = set(sources[int(head) :: 2])
    return [path for path in paths if path in chosen or path.parent in chosen]


def data_files(places: Iterable[str]) -> list[Path]:
    """Return the video files at some places below ``$VIDEOAUTEUR_DATA``; none where it is not set."""
    data = os.environ.get("VIDEOAUTEUR_DATA")
    paths = [Path(data) / place for place in places] if data else []
    return [file for path in paths for file in (video_files([path], ()) if path.is_dir() else [path])]


@dataclass(frozen=True, slots=True)
class Film(Sequence[Picture]):
    """Pictures of a film, each rendered when it is asked for.

    Attributes:
        stretches: of footage, in order.
        shown: for each picture, the number of its stretch and of the picture in it.
    """

    stretches: Sequence[Stretch]
    shown: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.shown)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> Film: ...
    def __getitem__(self, index: int | slice) -> Picture | Film:
        if isinstance(index, slice):
            return Film(self.stretches, self.shown[index])
        number, place = self.shown[index]
        return self.stretches[number].picture(place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of footage, cropped, scaled, graded and perhaps mirrored."""

    jpegs: Sequence[NDArray[np.uint8]]
    size: tuple[int, int]
    area: float
    at: NDArray[np.float64]
    grade: NDArray[np.uint8]
    mirrored: bool

    def picture(self, index: int) -> Picture:
        """Return a picture, RGB ``[h, w, 3]``."""
        picture = cv2.cvtColor(cv2.imdecode(self.jpegs[index], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        picture = _cropped(np.asarray(picture, np.uint8), *self.size, self.area, self.at)
        return self.grade[picture[:, ::-1] if self.mirrored else picture]


def random_film(rng: Generator, footage: Sequence[Footage], shots: int) -> Film:
    """Join stretches of footage, each cropped, scaled and graded at random.

    Half of the films take all their stretches from one folder. A film shows something most of the time.
    """
    while True:
        film = _drawn_film(rng, footage, shots)
        if worth_showing(film):
            return film


def _drawn_film(rng: Generator, footage: Sequence[Footage], shots: int) -> Film:
    size = SIZES[int(rng.integers(len(SIZES)))]
    if rng.random() < 0.5:
        groups = sorted({one.group for one in footage})
        group = groups[int(rng.integers(len(groups)))]
        footage = [one for one in footage if one.group == group]
    stretches: list[Stretch] = []
    for _ in range(shots):
        one = footage[int(rng.integers(len(footage)))]
        shortest = 6.0 if shots == 1 else 2.5
        length = min(len(one.jpegs), round(rng.uniform(shortest, max(shortest + 1, 20 / shots)) * FPS))
        begin = int(rng.integers(0, len(one.jpegs) - length + 1))
        stretches.append(
            Stretch(
                jpegs=one.jpegs[begin : begin + length], size=size, area=rng.uniform(0.6, 1.0),
                at=rng.random(2), grade=_grade(rng), mirrored=rng.random() < 0.5,
            )
        )  # fmt: skip
    shown = [(number, place) for number, one in enumerate(stretches) for place in range(len(one.jpegs))]
    # The pipeline takes no file of less than five seconds.
    while len(shown) < 5.5 * FPS:
        shown += shown[::-1]
    return Film(stretches, shown)


def graded_crop(rng: Generator, picture: Picture, width: int, height: int) -> Picture:
    """Return a random part of a picture at that size, graded at random."""
    return _grade(rng)[_cropped(picture, width, height, rng.uniform(0.6, 1.0), rng.random(2))]


def worth_showing(pictures: Sequence[Picture]) -> bool:
    """Return whether the film shows something most of the time."""
    edges = [
        float(np.abs(cv2.Laplacian(cv2.cvtColor(pictures[index], cv2.COLOR_RGB2GRAY), cv2.CV_32F)).mean())
        for index in range(0, len(pictures), max(1, len(pictures) // 8))
    ]
    return float(np.median(edges)) > MIN_EDGES


def _cropped(picture: Picture, width: int, height: int, area: float, at: NDArray[np.float64]) -> Picture:
    """A part of the picture in the given shape, scaled to that size."""
    full_height, full_width = picture.shape[:2]
    wide = min(full_width, full_height * width / height) * math.sqrt(area)
    high = wide * height / width
    left, top = at[0] * (full_width - wide), at[1] * (full_height - high)
    part = picture[int(top) : int(top + high), int(left) : int(left + wide)]
    shrinks = part.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), np.uint8)


def _grade(rng: Generator) -> NDArray[np.uint8]:
    """A table of brightness: gain, offset and gamma."""
    levels = np.arange(256) / 255
    graded = rng.uniform(0.75, 1.2) * levels ** rng.uniform(0.75, 1.35) + rng.uniform(-0.05, 0.1)
    return np.asarray(np.clip(255 * graded, 0, 255), np.uint8)
