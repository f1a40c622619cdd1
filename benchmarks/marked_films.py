"""Films with a known overlay, the same films untouched, and films that look as if they had one.

They are for :mod:`benchmarks.watermark` and :mod:`benchmarks.train_watermark`. Only pictures at 4 a second
are written, as small H.264 files, and measured by the product's own stages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

from benchmarks.footage import FPS, SIDE_PX, Footage, Picture, random_film
from benchmarks.overlays import KINDS, Box, label, pasted, random_overlay
from models.language import Endpoint
from models.media import write_video
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.platform.memo import Memo
from stages.base import Stage, Workspace
from stages.records import Transcript, Video
from stages.watermark.stage import union

HARD = ("busy_middle", "two_cameras", "label_still", "label_moving")
UNTOUCHED = "untouched"
STAGES = ("probe", "scan", "clip", "watermark")
SETTINGS = {
    "transcribe": {"require_speech": False},
    "clip": {"min_sharpness": 0, "min_motion": 0, "min_exposure": 0, "max_exposure": 1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One film to make and judge: ``kind`` is an overlay's, or one of ``HARD``."""

    seed: int
    number: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedFilm:
    """A film whose overlay is known.

    Attributes:
        kind: of the overlay; ``UNTOUCHED``, or one of ``HARD``.
        pictures: RGB ``[h, w, 3]``, at ``FPS``.
        crf: of the file.
        places: boxes of the overlay in every picture, as fractions; none without one.
        opacity: of the overlay; 0 without one.
    """

    kind: str
    pictures: Sequence[Picture] = field(repr=False)
    crf: int = 23
    shots: int = 1
    places: Sequence[Sequence[Box]] = field(default=(), repr=False)
    opacity: float = 0.0
    behaviour: str = ""

    @property
    def box(self) -> Box | None:
        """Box of all pixels that the overlay covers in any picture, as fractions; None without one."""
        boxes = [box for place in self.places for box in place]
        return union(boxes) if boxes else None


def planned(seed: int, clips: int) -> list[Case]:
    """Return the cases of a seed: every kind of overlay equally often, and a hard film for every two."""
    kinds = [*(KINDS[number % len(KINDS)] for number in range(clips)),
             *(HARD[number % len(HARD)] for number in range(clips // 2))]  # fmt: skip
    return [Case(seed=seed, number=number, kind=kind) for number, kind in enumerate(kinds)]


def films_of(case: Case, footage: Sequence[Footage]) -> list[MarkedFilm]:
    """Make the films of a case: untouched and with its overlay, or one hard film."""
    rng = np.random.default_rng([case.seed, case.number])
    if case.kind in HARD:
        return [MarkedFilm(kind=case.kind, pictures=hard_film(rng, footage, case.kind))]
    shots = int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.15, 0.15, 0.2, 0.2, 0.15, 0.15]))
    pictures = list(random_film(rng, footage, shots))
    height, width = pictures[0].shape[:2]
    overlay = random_overlay(rng, case.kind, width, height, len(pictures), FPS)
    covered = [overlay.draw(picture, index) for index, picture in enumerate(pictures)]
    crf = int(rng.integers(19, 29))
    return [
        MarkedFilm(kind=UNTOUCHED, pictures=pictures, crf=crf, shots=shots),
        MarkedFilm(
            kind=case.kind, pictures=covered, crf=crf, shots=shots, opacity=overlay.opacity,
            places=[overlay.boxes(width, height, index) for index in range(len(pictures))],
            behaviour=overlay.behaviour,
        ),
    ]  # fmt: skip


class Measurer:
    """The product's stages up to the watermark filter, with the default configuration; a context."""

    def __init__(self) -> None:
        config = Config.model_validate(SETTINGS)
        self.threshold = config.watermark.threshold
        self._folder = tempfile.TemporaryDirectory()
        scratch = Path(self._folder.name)
        self._path = scratch / "film.mp4"
        workspace = Workspace(
            scratch=scratch, answers=Memo(scratch / "memo"), vision=None,
            language=Endpoint(base_url="http://127.0.0.1:9/v1", model="none"),
        )  # fmt: skip
        self.stages: list[Stage] = [stage for stage in build_stages(config) if stage.name in STAGES]
        for stage in self.stages:
            stage.open(workspace)

    def video(self, film: MarkedFilm, stages: Iterable[Stage] | None = None) -> Video:
        """Write a film and run all stages on it, or some."""
        write_video(self._path, film.pictures, FPS, crf=film.crf)
        silence = Transcript(language="", sentences=[], model="none")
        video = Video(uri=self._path.as_uri(), video_id="film", content_id="film", transcript=silence)
        for stage in self.stages if stages is None else stages:
            video = stage.measure(video)
        return video


def hard_film(rng: Generator, footage: Sequence[Footage], kind: str) -> list[Picture]:
    """A film without an overlay that looks as if it had one.

    ``busy_middle``: a still camera, a busy part in the middle. ``two_cameras``: two of these that take
    turns. ``label_still`` and ``label_moving``: a printed label in the scene, before a still camera with a
    busy middle, or moving with the scene in one of several shots.
    """
    if kind == "label_moving":
        return _with_label(rng, list(random_film(rng, footage, int(rng.integers(2, 5)))))
    film = random_film(rng, footage, 1)
    height, width = film[0].shape[:2]
    stills = [film[0]]
    if kind == "two_cameras":
        other = random_film(rng, footage, 1)[0]
        stills.append(np.asarray(cv2.resize(other, (width, height)), np.uint8))
    if kind == "label_still":
        plate = label(rng, min(width, height))
        stills = [pasted(still, plate, _place(rng, still, plate)) for still in stills]
    mask = _middle(rng, width, height)
    busy = random_film(rng, footage, 2)
    change = rng.uniform(2, 5) * FPS
    noise = rng.uniform(0.5, 2.5)
    shake = rng.choice([0.0, 0.4])
    result = []
    for index in range(len(film)):
        still = stills[int(index / change) % len(stills)].astype(np.float32)
        shift = np.array([[1, 0, rng.normal(0, shake)], [0, 1, rng.normal(0, shake)]], np.float32)
        still = cv2.warpAffine(still, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        moving = cv2.resize(busy[index % len(busy)], (width, height)).astype(np.float32)
        picture = still + mask * (moving - still) + rng.normal(0, noise, still.shape)
        result.append(np.asarray(np.clip(picture, 0, 255), np.uint8))
    return result


def _middle(rng: Generator, width: int, height: int) -> Any:
    """A soft mask ``[h, w, 1]`` of a busy part around the middle."""
    y, x = np.mgrid[:height, :width]
    middle = (rng.uniform(0.4, 0.6) * width, rng.uniform(0.4, 0.65) * height)
    radii = (rng.uniform(0.2, 0.42) * width, rng.uniform(0.2, 0.42) * height)
    away = np.hypot((x - middle[0]) / radii[0], (y - middle[1]) / radii[1])
    return np.clip((1.15 - away) / 0.3, 0, 1)[..., None].astype(np.float32)


def _place(rng: Generator, picture: Picture, plate: Any) -> tuple[int, int]:
    """Draw the place of a label in a scene: anywhere."""
    high, wide = picture.shape[:2]
    x, y = rng.uniform(0, 1, 2) * (max(0, wide - plate.shape[1]), max(0, high - plate.shape[0]))
    return int(x), int(y)


def _with_label(rng: Generator, film: list[Picture]) -> list[Picture]:
    """A label that moves with the scene, from some picture to the end of its shot."""
    plate = label(rng, min(film[0].shape[:2]))
    begin = int(rng.integers(0, max(1, len(film) - round(3 * FPS))))
    x, y = _place(rng, film[0], plate)
    at = np.array([x, y], np.float64)
    result = film[:begin]
    before: Any = None
    for index in range(begin, len(film)):
        gray = cv2.cvtColor(film[index], cv2.COLOR_RGB2GRAY).astype(np.float32)
        if before is not None:
            if float(np.abs(gray - before).mean()) > 40:
                return result + film[index:]
            move, _ = cv2.phaseCorrelate(before, gray)
            at += move if np.hypot(*move) < 0.1 * SIDE_PX else 0
        before = gray
        place = np.rint(at + rng.normal(0, 0.5, 2))
        result.append(pasted(film[index], plate, (int(place[0]), int(place[1]))))
    return result
