"""Films with exact truth for :mod:`benchmarks.shots`: real clips joined by known transitions.

A film is a sequence of shots, each a stretch of one source clip, joined by hard cuts, dissolves and fades
through black or white. Flashes, camera shake and fast pans are added inside shots; they are no transitions.
A jump inside a shot leaves out some time; whether it is a cut is a matter of taste, so it is not scored.
The same timeline is rendered in several forms: frame rates, dropped frames, interlaced, telecined, barred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from models.media import frames, open_media
from stages.records import Interval

Image = NDArray[np.uint8]
Join = Literal["cut", "dissolve", "black", "white"]
Trick = Literal["", "flash", "shake", "pan", "jump"]
Weave = Literal["", "interlaced", "telecined"]

WIDTH, HEIGHT = 384, 216
MARGIN = 1.25
"""Shots are rendered larger than the picture, so that the camera can shake and pan inside them."""
JOINS: tuple[Join, ...] = ("cut", "cut", "cut", "dissolve", "black", "cut", "dissolve", "white")
TRICKS: tuple[Trick, ...] = ("", "", "", "flash", "shake", "pan", "jump")
JUMP_S = 0.7
"""Time of the source that a jump leaves out."""
MAX_JOIN_S = 1.2
MAX_PICTURES = 150
TELECINE = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))
"""Of every four film frames, the sources of the two fields of five video frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Rendering of a timeline.

    Attributes:
        fps: frames a second in the file.
        dropped_share: frames left out at random; the others keep their times.
        bars: share of the width (pillarbox, above 0) or height (letterbox, below 0) that is black.
    """

    name: str
    fps: Fraction
    weave: Weave = ""
    dropped_share: float = 0.0
    bars: float = 0.0


FORMS = (
    Form(name="24", fps=Fraction(24)),
    Form(name="25", fps=Fraction(25)),
    Form(name="29.97", fps=Fraction(30000, 1001)),
    Form(name="12", fps=Fraction(12)),
    Form(name="60", fps=Fraction(60)),
    Form(name="variable", fps=Fraction(30), dropped_share=0.4),
    Form(name="interlaced", fps=Fraction(25), weave="interlaced"),
    Form(name="telecined", fps=Fraction(30000, 1001), weave="telecined"),
    Form(name="pillarbox", fps=Fraction(25), bars=0.5),
    Form(name="letterbox", fps=Fraction(24), bars=-0.3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A stretch of a source on the timeline.

    Attributes:
        start_s: when its first picture is seen; the shot before is mixed in for ``join_s``.
        offset_s: time in the source at ``start_s``.
        join: how it begins.
        join_s: length of the transition at its beginning; 0 for a cut.
        trick_s: when its trick begins.
    """

    source: Path
    start_s: float
    offset_s: float
    join: Join
    join_s: float
    trick: Trick
    trick_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A timeline of shots."""

    shots: tuple[Shot, ...]
    duration_s: float

    @property
    def cuts_s(self) -> list[float]:
        """Return times of the first new picture after each hard cut."""
        return [shot.start_s for shot in self.shots[1:] if shot.join == "cut"]

    @property
    def jumps_s(self) -> list[float]:
        """Return times at which time is left out inside a shot."""
        return [shot.trick_s for shot in self.shots if shot.trick == "jump"]

    @property
    def gradual(self) -> list[Interval]:
        """Dissolves and fades."""
        return [
            Interval(start_s=shot.start_s, end_s=shot.start_s + shot.join_s)
            for shot in self.shots[1:]
            if shot.join != "cut"
        ]


def draw_film(sources: Sequence[Path], num_shots: int, seed: int) -> Film:
    """Draw a sequence of shots; no two neighbours are of one source."""
    rng = np.random.default_rng(seed)
    shots: list[Shot] = []
    time_s = 0.0
    for number in range(num_shots):
        choice = [path for path in sources if not shots or path != shots[-1].source]
        source = choice[int(rng.integers(len(choice)))]
        join: Join = JOINS[int(rng.integers(len(JOINS)))] if number else "cut"
        join_s = 0.0 if join == "cut" else round(float(rng.uniform(0.4, MAX_JOIN_S)), 2)
        length_s = join_s + float(rng.uniform(1.6, 2.6))
        # The shot goes on while the next one is mixed in.
        room_s = max(0.0, duration_of(source) - length_s - MAX_JOIN_S - JUMP_S)
        shots.append(
            Shot(
                source=source, start_s=time_s, offset_s=float(rng.uniform(0, room_s)),
                join=join, join_s=join_s, trick=TRICKS[int(rng.integers(len(TRICKS)))],
                trick_s=time_s + join_s + float(rng.uniform(0.3, 0.5)),
            )
        )  # fmt: skip
        time_s += length_s
    return Film(shots=tuple(shots), duration_s=time_s)


def write_film(path: Path, film: Film, form: Form) -> None:
    """Render a film as H.264."""
    rng = np.random.default_rng(0)
    count = int(film.duration_s * form.fps)
    with av.open(path, "w") as container:
        options = {"preset": "veryfast", "crf": "21", "threads": "2"}
        if form.weave:
            # With two threads x264 gives other bytes each time if the pictures are interlaced.
            options |= {"x264-params": "interlaced=1", "threads": "1"}
        stream = container.add_stream("libx264", rate=form.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = 1 / form.fps
        for index in range(count):
            dropped = rng.random() < form.dropped_share and 0 < index < count - 1
            if dropped:
                continue
            image = barred(woven(film, form, index), form.bars)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, 1 / form.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def woven(film: Film, form: Form, index: int) -> Image:
    """One frame of the file: progressive, or two fields of different times in turn."""
    if form.weave == "telecined":
        group, place = divmod(index, len(TELECINE))
        times = [float((4 * group + field) / (form.fps * 4 / 5)) for field in TELECINE[place]]
    elif form.weave == "interlaced":
        times = [float(index / form.fps), float((index + Fraction(1, 2)) / form.fps)]
    else:
        return picture_at(film, float(index / form.fps))
    image = picture_at(film, times[0])
    if times[0] != times[1]:
        image[1::2] = picture_at(film, times[1])[1::2]
    return image


def picture_at(film: Film, time_s: float) -> Image:
    """The picture at a time of the timeline, BGR ``[HEIGHT, WIDTH, 3]``."""
    time_s += 1e-6
    number = max(i for i, shot in enumerate(film.shots) if shot.start_s <= time_s)
    shot = film.shots[number]
    new = shot_picture(shot, time_s)
    if time_s >= shot.start_s + shot.join_s or not number:
        return new
    share = (time_s - shot.start_s) / shot.join_s
    old = shot_picture(film.shots[number - 1], time_s)
    if shot.join == "dissolve":
        return np.asarray(cv2.addWeighted(old, 1 - share, new, share, 0), np.uint8)
    level = 255.0 if shot.join == "white" else 0.0
    # Half of the time towards the colour, half from it.
    inner, strength = (old, 1 - 2 * share) if share < 0.5 else (new, 2 * share - 1)
    return np.asarray(
        cv2.addWeighted(inner, strength, np.full_like(inner, level), 1 - strength, 0), np.uint8
    )


def shot_picture(shot: Shot, time_s: float) -> Image:
    """The picture of a shot with its trick; the source's last picture stands where it has ended."""
    pictures, rate = load(shot.source)
    since_s = time_s - shot.trick_s
    source_s = time_s - shot.start_s + shot.offset_s
    if shot.trick == "jump" and since_s >= 0:
        source_s += JUMP_S
    image = pictures[min(len(pictures) - 1, int(source_s * rate))]
    spare_x, spare_y = image.shape[1] - WIDTH, image.shape[0] - HEIGHT
    x, y = spare_x / 2, spare_y / 2
    if shot.trick == "shake" and 0 <= since_s < 0.6:
        x += spare_x / 3 * np.sin(since_s * 31)
        y += spare_y / 3 * np.cos(since_s * 43)
    elif shot.trick == "pan":
        x = spare_x * np.clip(since_s / 0.4, 0, 1)
    image = image[round(y) : round(y) + HEIGHT, round(x) : round(x) + WIDTH].copy()
    if shot.trick == "flash" and 0 <= since_s < 0.1:
        image = np.asarray(cv2.addWeighted(image, 0.25, np.full_like(image, 255), 0.75, 0), np.uint8)
    return image


def barred(image: Image, bars: float) -> Image:
    """The picture shrunk between black bars."""
    if not bars:
        return image
    height = round(HEIGHT * (1 - max(0.0, -bars)))
    width = round(WIDTH * (1 - max(0.0, bars)))
    # Only the middle is shown, at its own proportions.
    left, top = (WIDTH - width) // 2, (HEIGHT - height) // 2
    result = np.zeros_like(image)
    result[top : top + height, left : left + width] = image[top : top + height, left : left + width]
    return result


def duration_of(path: Path) -> float:
    """Seconds of a source."""
    pictures, rate = load(path)
    return len(pictures) / rate


@lru_cache(maxsize=24)
def load(path: Path) -> tuple[list[Image], float]:
    """The first pictures of a source, cropped to fill the frame and its margin, and their rate."""
    size = round(WIDTH * MARGIN), round(HEIGHT * MARGIN)
    pictures: list[Image] = []
    with open_media(path) as container:
        rate = float(container.streams.video[0].average_rate or 25)
        for frame in frames(container):
            image = np.asarray(frame.picture.to_ndarray(format="bgr24"), np.uint8)
            pictures.append(filling(image, *size))
            if len(pictures) == MAX_PICTURES:
                break
    return pictures, rate


def filling(image: Image, width: int, height: int) -> Image:
    """The middle of a picture that fills a size, scaled to it."""
    factor = max(width / image.shape[1], height / image.shape[0])
    inner_width, inner_height = round(width / factor), round(height / factor)
    left, top = (image.shape[1] - inner_width) // 2, (image.shape[0] - inner_height) // 2
    inner = image[top : top + inner_height, left : left + inner_width]
    return np.asarray(cv2.resize(inner, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
