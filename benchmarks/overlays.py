"""Draw random overlays over footage, with the place of every pixel known.

An overlay is a drawing with an alpha channel, and a track that places it in each picture. Kinds, sizes,
fonts, colours and words are drawn from a random generator.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Layer = NDArray[np.float32]
Box = tuple[float, float, float, float]
Track = Callable[[int], tuple[int, int] | None]

KINDS = ("logo", "stock_centre", "stock_tiled", "corner_bug", "handle", "subtitles", "title_card")
OPACITIES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
BEHAVIOURS = ("steady", "blinking", "late", "moving")
LIGHT_PX = 60
"""Distance up to which a scene lights a label in it."""
WORDS = (
    "cook home chef easy daily fresh tasty kitchen garden bake grill food best quick simple "
    "studio channel recipe spoon pepper mama family street world green golden little happy "
    "sweet table taste stock media video press image now add the salt stir in onion pour over "
    "heat until brown slice bread mix flour water wait ten minutes then serve with rice turn it "
    "low lid cover oil garlic tomato sauce"
).split()


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """An overlay on one film.

    Attributes:
        kind: one of ``KINDS``.
        behaviour: one of ``BEHAVIOURS``.
        opacity: of its most opaque pixel, in (0, 1].
        stamps: (layer, track) pairs: RGBA in [0, 1], shape ``[h, w, 4]``, and where its upper left
            corner lies in the picture of an index, None where the layer is not shown.
    """

    kind: str
    behaviour: str
    opacity: float
    stamps: Sequence[tuple[Layer, Track]]

    def draw(self, picture: Picture, index: int) -> Picture:
        """Return the RGB picture ``[h, w, 3]`` with the overlay as it is at that index."""
        result = picture.astype(np.float32)
        for layer, track in self.stamps:
            place = track(index)
            if place is not None:
                target, source = _overlap(picture.shape, layer.shape, place)
                alpha = layer[source][..., 3:] * self.opacity
                result[target] += alpha * (255 * layer[source][..., :3] - result[target])
        return np.asarray(np.clip(np.rint(result), 0, 255), np.uint8)

    @cached_property
    def extents(self) -> list[Box]:
        """Boxes of what is seen of each layer, in pixels of the layer."""
        found = []
        for layer, _ in self.stamps:
            rows, columns = np.nonzero(layer[..., 3] > 0.1)
            found.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        return found

    def boxes(self, width: int, height: int, index: int) -> list[Box]:
        """Return the boxes of the layers that one picture shows, as fractions."""
        found = []
        for (_, track), (x0, y0, x1, y1) in zip(self.stamps, self.extents, strict=True):
            place = track(index)
            if place is not None:
                x, y = place
                left, right = (float(np.clip((x + edge) / width, 0, 1)) for edge in (x0, x1))
                top, bottom = (float(np.clip((y + edge) / height, 0, 1)) for edge in (y0, y1))
                found.append((left, top, right, bottom))
        return found


def random_overlay(rng: Generator, kind: str, width: int, height: int, count: int, fps: float) -> Overlay:
    """Return an overlay of a kind for a film of `count` pictures of that size."""
    opacity = float(rng.choice(OPACITIES))
    if kind == "subtitles":
        # Subtitles and cards are made to be read.
        stamps = _subtitles(rng, width, height, count, fps)
        return Overlay(kind=kind, behaviour="steady", opacity=max(opacity, 0.6), stamps=stamps)
    if kind == "title_card":
        stamps = [_title_card(rng, width, height, count, fps)]
        return Overlay(kind=kind, behaviour="steady", opacity=max(opacity, 0.6), stamps=stamps)
    if kind == "stock_tiled":
        return Overlay(
            kind=kind,
            behaviour="steady",
            opacity=opacity,
            stamps=[(_tiled(rng, width, height), _fixed(0, 0))],
        )
    side = min(width, height)
    if kind == "stock_centre":
        layer = _fit(
            _words(rng, 1 + int(rng.integers(2)), round(0.14 * side)), round(rng.uniform(0.4, 0.8) * width)
        )
        x, y = (width - layer.shape[1]) // 2, (height - layer.shape[0]) // 2
        return Overlay(kind=kind, behaviour="steady", opacity=opacity, stamps=[(layer, _fixed(x, y))])
    if kind == "logo":
        layer = _badge(rng, round(rng.uniform(0.09, 0.2) * side))
    elif kind == "corner_bug":
        name = "".join(rng.choice(list(string.ascii_uppercase), int(rng.integers(2, 5))))
        layer = _text(
            rng,
            name + str(rng.choice(["", " HD", " LIVE", "+", "4"])),
            round(rng.uniform(0.05, 0.09) * side),
        )
    else:
        layer = _text(rng, _handle(rng), round(rng.uniform(0.04, 0.07) * side))
    layer = _fit(layer, round(0.6 * width))
    behaviour = str(rng.choice(BEHAVIOURS, p=(0.55, 0.15, 0.15, 0.15)))
    track = _track(rng, behaviour, layer, width, height, count, fps, anywhere=kind == "handle")
    return Overlay(kind=kind, behaviour=behaviour, opacity=opacity, stamps=[(layer, track)])


def label(rng: Generator, side: int) -> Layer:
    """Return a printed label as it stands in a scene: turned, soft, on a coloured ground."""
    words = _words(rng, int(rng.integers(1, 3)), max(10, round(rng.uniform(0.06, 0.12) * side)), plain=True)
    pad = words.shape[0] // 4 + 2
    words = np.pad(words, ((pad, pad), (pad, pad), (0, 0)))
    ground = rng.uniform(0.1, 0.9, 3)
    ink = np.where(ground.mean() > 0.5, 0.08, 0.92) * np.ones(3)
    alpha = words[..., 3:]
    rgb = ground + alpha * (ink - ground)
    plate = np.concatenate([rgb, np.ones_like(alpha)], axis=2).astype(np.float32)
    high, wide = plate.shape[:2]
    margin = round(0.6 * max(high, wide))
    corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    angle = math.radians(rng.uniform(-18, 18))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    bent = (corners - corners.mean(0)) @ turn.T * rng.uniform(0.85, 1, (4, 1)) + corners.mean(0) + margin
    matrix = cv2.getPerspectiveTransform(corners, bent.astype(np.float32))
    size = (wide + 2 * margin, high + 2 * margin)
    warped = cv2.GaussianBlur(cv2.warpPerspective(plate, matrix, size), (0, 0), rng.uniform(0.6, 1.4))
    rows, columns = np.nonzero(warped[..., 3] > 0.02)
    return np.asarray(warped[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], np.float32)


def pasted(picture: Picture, plate: Layer, place: tuple[int, int]) -> Picture:
    """Return the picture with a label in it, lit like the scene around it."""
    result = picture.astype(np.float32)
    x, y = place
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + plate.shape[1], picture.shape[1]), min(y + plate.shape[0], picture.shape[0])
    if x1 > x0 and y1 > y0:
        part = plate[y0 - y : y1 - y, x0 - x : x1 - x]
        top, left = max(y0 - LIGHT_PX, 0), max(x0 - LIGHT_PX, 0)
        near = cv2.GaussianBlur(result[top : y1 + LIGHT_PX, left : x1 + LIGHT_PX], (0, 0), LIGHT_PX / 4)
        light = 0.35 + 0.65 * near[y0 - top : y1 - top, x0 - left : x1 - left] / 255
        target = result[y0:y1, x0:x1]
        target += part[..., 3:] * (255 * light * part[..., :3] - target)
    return np.asarray(np.clip(result, 0, 255), np.uint8)


def _overlap(
    picture: tuple[int, ...], layer: tuple[int, ...], place: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of a picture that a layer covers, and the part of the layer that lies in the picture."""
    x, y = place
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + layer[1], picture[1]), min(y + layer[0], picture[0])
    x1, y1 = max(x0, x1), max(y0, y1)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _fixed(x: int, y: int) -> Track:
    return lambda index: (x, y)


def _track(
    rng: Generator,
    behaviour: str,
    layer: Layer,
    width: int,
    height: int,
    count: int,
    fps: float,
    *,
    anywhere: bool,
) -> Track:
    """Draw the place of a small mark: in a corner, or anywhere along the rim."""
    free_x, free_y = max(0, width - layer.shape[1]), max(0, height - layer.shape[0])
    margin = rng.uniform(0.02, 0.08) * min(width, height)
    near_x, near_y = min(margin, free_x / 2), min(margin, free_y / 2)
    x = float(rng.choice([near_x, free_x - near_x]))
    y = float(rng.choice([near_y, free_y - near_y]))
    if anywhere and rng.random() < 0.5:
        x = rng.uniform(near_x, max(free_x - near_x, near_x + 1))
    if behaviour == "moving":
        return _bouncing(rng, (x, y), (free_x, free_y), fps)
    if behaviour == "late":
        starts = rng.uniform(0.25, 0.6) * count
        return lambda index: (round(x), round(y)) if index >= starts else None
    if behaviour == "blinking":
        period, shift = rng.uniform(2, 6) * fps, rng.random()
        share = rng.uniform(0.4, 0.7)
        return lambda index: (round(x), round(y)) if (index / period + shift) % 1 < share else None
    return _fixed(round(x), round(y))


def _bouncing(rng: Generator, start: tuple[float, float], free: tuple[int, int], fps: float) -> Track:
    """A mark that drifts and turns at the rim, or that jumps between corners."""
    if rng.random() < 0.5:
        stay = rng.uniform(3, 6) * fps
        order = rng.permutation(4)
        shares = ((0.04, 0.04), (0.96, 0.04), (0.96, 0.96), (0.04, 0.96))
        places = [(round(x * free[0]), round(y * free[1])) for x, y in shares]
        return lambda index: places[order[int(index / stay) % 4]]
    speed = rng.uniform(0.01, 0.05, 2) * rng.choice([-1, 1], 2) * max(free) / fps

    def at(index: int) -> tuple[int, int]:
        place = []
        for begin, room, step in zip(start, free, speed, strict=True):
            at = (begin + step * index) % (2 * room) if room > 0 else 0.0
            place.append(round(min(at, 2 * room - at)))
        return place[0], place[1]

    return at


def _subtitles(
    rng: Generator, width: int, height: int, count: int, fps: float
) -> list[tuple[Layer, Track]]:
    """Lines that change every few seconds, centred above the lower rim."""
    stamps: list[tuple[Layer, Track]] = []
    size = round(rng.uniform(0.05, 0.08) * min(width, height))
    base = rng.uniform(0.86, 0.96) * height
    boxed, seed = rng.random() < 0.3, int(rng.integers(2**31))
    begin = rng.uniform(0, 1) * fps
    while begin < count:
        end = begin + rng.uniform(1.5, 4) * fps
        words = " ".join(rng.choice(WORDS, int(rng.integers(2, 7))))
        # One style for all lines of a film.
        layer = _fit(_text(np.random.default_rng(seed), words, size, boxed=boxed), round(0.92 * width))
        place = ((width - layer.shape[1]) // 2, round(base - layer.shape[0]))
        stamps.append((layer, lambda index, a=begin, b=end, at=place: at if a <= index < b else None))  # type: ignore[misc]
        begin = end + rng.choice([0, rng.uniform(0.3, 2)]) * fps
    return stamps


def _title_card(rng: Generator, width: int, height: int, count: int, fps: float) -> tuple[Layer, Track]:
    """Large words over the picture, or on a plate that fills it, for a few seconds."""
    words = _fit(
        _words(rng, int(rng.integers(1, 4)), round(rng.uniform(0.1, 0.16) * min(width, height))),
        round(0.85 * width),
    )
    whole = rng.random() < 0.4
    card = np.zeros((height, width, 4), np.float32)
    if whole:
        card[...] = [*(rng.uniform(0, 0.35, 3)), 1]
    top = max(0, round((height - words.shape[0]) * rng.uniform(0.3, 0.7)))
    left = max(0, round((width - words.shape[1]) * (0.5 if rng.random() < 0.7 else rng.uniform(0.1, 0.4))))
    words = words[:height]
    part = card[top : top + words.shape[0], left : left + words.shape[1]]
    words = words[: part.shape[0], : part.shape[1]]
    alpha = words[..., 3:]
    part[..., :3] += alpha * (words[..., :3] - part[..., :3])
    part[..., 3:] = np.maximum(part[..., 3:], alpha)
    length = min(rng.uniform(2.5, 4) * fps, count)
    begin = 0.0 if rng.random() < 0.6 else rng.uniform(0, count - length)
    return card, lambda index: (0, 0) if begin <= index < begin + length else None


def _tiled(rng: Generator, width: int, height: int) -> Layer:
    """A word that is repeated over the whole picture along slanted rows."""
    word = _text(
        rng,
        str(rng.choice(WORDS)) + str(rng.choice(["", "stock", " media", ".com"])),
        round(rng.uniform(0.06, 0.1) * min(width, height)),
    )
    gap_x, gap_y = rng.uniform(0.5, 1.2) * word.shape[1], rng.uniform(1.5, 3) * word.shape[0]
    side = round(1.5 * max(width, height))
    canvas = np.zeros((side, side, 4), np.float32)
    y, row = 0.0, 0
    while y + word.shape[0] < side:
        x = (row % 2) * (word.shape[1] + gap_x) / 2
        while x + word.shape[1] < side:
            canvas[int(y) : int(y) + word.shape[0], int(x) : int(x) + word.shape[1]] = word
            x += word.shape[1] + gap_x
        y, row = y + word.shape[0] + gap_y, row + 1
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-35, 35), 1)
    turned = cv2.warpAffine(canvas, turn, (side, side))
    top, left = (side - height) // 2, (side - width) // 2
    return np.asarray(turned[top : top + height, left : left + width], np.float32)


def _handle(rng: Generator) -> str:
    name = "".join(rng.choice(WORDS, 2))
    return str(
        rng.choice([f"@{name}", f"www.{name}.com", f"{name.title()}", f"fb.com/{name}", f"© {name}"])
    )


def _badge(rng: Generator, side: int) -> Layer:
    """A shape with a sign or letters in it, at times with a name beside it."""
    big = 4 * side
    image = Image.new("RGBA", (big, big))
    pen = ImageDraw.Draw(image)
    outer, inner = _colours(rng)
    edge = big // 16
    shape = rng.integers(4)
    if shape == 0:
        pen.ellipse((edge, edge, big - edge, big - edge), outer)
    elif shape == 1:
        pen.rounded_rectangle((edge, big // 6, big - edge, big - big // 6), big // 8, outer)
    elif shape == 2:
        pen.polygon(
            [
                (edge, edge),
                (big - edge, edge),
                (big - edge, big // 2),
                (big // 2, big - edge),
                (edge, big // 2),
            ],
            outer,
        )
    else:
        pen.ellipse((edge, edge, big - edge, big - edge), outline=outer, width=big // 10)
        inner = outer
    if rng.random() < 0.5:
        letters = "".join(rng.choice(list(string.ascii_uppercase), int(rng.integers(1, 3))))
        pen.text((big // 2, big // 2), letters, inner, _font(big // 3), anchor="mm", stroke_width=big // 60)
    else:
        points = int(rng.integers(3, 7))
        middle, radius, turn = big / 2, big * rng.uniform(0.18, 0.28), rng.uniform(0, 2 * math.pi)
        angles = [turn + 2 * math.pi * k / points for k in range(points)]
        pen.polygon([(middle + radius * math.cos(a), middle + radius * math.sin(a)) for a in angles], inner)
    badge = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS), np.float32) / np.float32(255)
    if rng.random() < 0.5:
        return badge
    name = _text(rng, "".join(rng.choice(WORDS, 2)).title(), max(8, side // 2))
    whole = np.zeros((max(side, name.shape[0]), side + name.shape[1] + side // 6, 4), np.float32)
    for part, left in ((badge, 0), (name, side + side // 6)):
        top = (whole.shape[0] - part.shape[0]) // 2
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return whole


def _words(rng: Generator, lines: int, size: int, *, plain: bool = False) -> Layer:
    """A few lines of words, centred, in one style."""
    text = "\n".join(" ".join(rng.choice(WORDS, int(rng.integers(1, 4)))).title() for _ in range(lines))
    return _text(rng, text, size, plain=plain)


def _text(rng: Generator, text: str, size: int, *, boxed: bool = False, plain: bool = False) -> Layer:
    """Text in a random style: colour, weight, width, slant, outline, shadow or box behind it."""
    ink, other = _colours(rng)
    size = max(8, size)
    scale = 2
    font = _font(scale * size)
    weight = int(rng.integers(0, max(2, scale * size // 14)))
    style = rng.choice(["plain", "outline", "shadow"]) if not (plain or boxed) else "plain"
    outline = weight + max(1, scale * size // 16)
    probe = ImageDraw.Draw(Image.new("RGBA", (8, 8)))
    left, top, right, bottom = probe.multiline_textbbox(
        (0, 0), text, font, align="center", stroke_width=outline
    )
    pad = scale * size // 4 if boxed else 2 * scale
    image = Image.new("RGBA", (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad))
    pen = ImageDraw.Draw(image)
    at = (pad - left, pad - top)
    if boxed:
        pen.rectangle((0, 0, *image.size), (0, 0, 0, 150))
        ink = (245, 245, 245, 255)
    if style == "shadow":
        drop = max(1, scale * size // 14)
        pen.multiline_text(
            (at[0] + drop, at[1] + drop), text, (10, 10, 10, 170), font, align="center", stroke_width=weight
        )
    if style == "outline":
        pen.multiline_text(at, text, other, font, align="center", stroke_width=outline)
    pen.multiline_text(at, text, ink, font, align="center", stroke_width=weight)
    wide = rng.uniform(0.8, 1.25)
    small = image.resize(
        (max(4, round(image.width / scale * wide)), max(4, image.height // scale)), Image.Resampling.LANCZOS
    )
    layer = np.asarray(small, np.float32) / np.float32(255)
    if rng.random() < 0.2 and not boxed:
        slant = np.array([[1, -0.2, 0.2 * layer.shape[0]], [0, 1, 0]], np.float32)
        layer = np.asarray(
            cv2.warpAffine(layer, slant, (layer.shape[1] + layer.shape[0] // 5, layer.shape[0])), np.float32
        )
    return layer


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _colours(rng: Generator) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """A colour of ink, mostly white or near it, and one that stands out from it."""
    light = rng.random() < 0.65
    ink = rng.integers(215, 256) * np.ones(3) if light else rng.integers(0, 256, 3)
    other = np.where(ink.mean() > 110, rng.integers(0, 50), rng.integers(210, 256)) * np.ones(3)
    (r, g, b), (s, t, u) = (tuple(int(value) for value in colour) for colour in (ink, other))
    return (r, g, b, 255), (s, t, u, 255)


def _fit(layer: Layer, width: int) -> Layer:
    """The layer, made smaller where it is wider than that."""
    if layer.shape[1] <= width:
        return layer
    size = (width, max(4, round(layer.shape[0] * width / layer.shape[1])))
    return np.asarray(cv2.resize(layer, size, interpolation=cv2.INTER_AREA), np.float32)
