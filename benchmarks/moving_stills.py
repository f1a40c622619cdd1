"""Short clips without cuts, made of photographs, for :mod:`benchmarks.train_shots`.

The camera pans slowly over a photograph while a part of another one, like a hand, darts across. Such motion
is rare in the other training clips, and the most frequent reason for false cuts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.media import write_video

Picture = NDArray[np.uint8]

SIZE = (480, 270)
SECONDS = 5.0
RATES = (24.0, 25.0, 30.0)
SOFT_PX = 15
"""Width of the edge of what passes: it is blurred by its motion."""
REPEATED = 0.05
"""Share of the pictures that repeat the one before."""


def write_clips(folder: Path, stills: Sequence[Path], count: int, rng: Generator) -> list[Path]:
    """Write clips, each photograph in two of them, and return their paths."""
    paths = []
    order = rng.permutation(len(stills))
    for number in range(count):
        still, passer = (stills[int(order[n % len(order)])] for n in (number // 2, number // 2 + 1))
        path = folder / f"still_{number:03d}.mp4"
        rate = float(rng.choice(RATES))
        write_video(path, list(moving(rng, read(still), read(passer), rate)), rate)
        paths.append(path)
    return paths


def read(path: Path) -> Picture:
    """Return a photograph in RGB, at most 720 pixels high or wide on its shorter side."""
    picture = cv2.imread(str(path))
    assert picture is not None
    scale = min(1.0, 720 / min(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small[..., ::-1], np.uint8)


def moving(rng: Generator, still: Picture, passer: Picture, rate: float) -> Iterator[Picture]:
    """Yield the pictures of a clip, RGB ``[270, 480, 3]``."""
    count = round(SECONDS * rate)
    height, width = still.shape[:2]
    wide = rng.uniform(0.6, 0.95) * min(width, height * SIZE[0] / SIZE[1])
    part = np.array([wide, wide * SIZE[1] / SIZE[0]])
    ends = rng.random((2, 2)) * (np.array([width, height]) - part)
    ends[1] = ends[0] + rng.uniform(0, 0.4) * (ends[1] - ends[0])
    front = np.asarray(cv2.resize(passer, SIZE, interpolation=cv2.INTER_AREA), np.uint8)
    course = darting(rng, count, rate)
    radii = rng.uniform(0.15, 0.5, 2) * SIZE
    picture: Picture | None = None
    for index in range(count):
        if picture is None or rng.random() >= REPEATED:
            x, y = ends[0] + (ends[1] - ends[0]) * index / count
            scale = SIZE[0] / part[0]
            back = cv2.warpAffine(still, np.array([[scale, 0, -x * scale], [0, scale, -y * scale]]), SIZE)
            picture = covered(np.asarray(back, np.uint8), front, course[index] * SIZE, radii)
        yield picture


def darting(rng: Generator, count: int, rate: float) -> NDArray[np.float64]:
    """Return a course ``[count, 2]`` of rests and quick moves, as shares of the picture and beyond it."""
    points = [rng.uniform(-0.4, 1.4, 2)]
    while len(points) < count:
        rest, quick = (max(1, round(rng.uniform(*span) * rate)) for span in ((0.0, 1.2), (0.08, 0.5)))
        points += [points[-1] + rng.normal(0, 0.004, 2) for _ in range(rest)]
        begin, end = points[-1], rng.uniform(-0.4, 1.4, 2)
        points += [begin + (end - begin) * (step + 1) / quick for step in range(quick)]
    return np.array(points[:count])


def covered(back: Picture, front: Picture, at: NDArray[np.float64], radii: NDArray[np.float64]) -> Picture:
    """Return the picture with an oval part of another, moved along with it, before it."""
    move = np.array([[1, 0, at[0] - SIZE[0] / 2], [0, 1, at[1] - SIZE[1] / 2]])
    moved = cv2.warpAffine(front, move, SIZE, borderMode=cv2.BORDER_REFLECT)
    mask = np.zeros((SIZE[1], SIZE[0]), np.float32)
    (x, y), (wide, high) = np.rint(at).astype(int), np.rint(radii).astype(int)
    cv2.ellipse(mask, (int(x), int(y)), (int(wide), int(high)), 0, 0, 360, 1, -1)
    mask = cv2.blur(mask, (SOFT_PX, SOFT_PX))
    return np.asarray(cv2.blendLinear(moved, back, mask, 1 - mask), np.uint8)
