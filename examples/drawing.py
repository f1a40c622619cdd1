"""Draw flat, outlined, textured pictures that move.

Positions and sizes are in *units*: a picture is 100 units high, its origin is its centre, x grows
to the right and y downwards. A picture therefore fits any size and aspect ratio. Colours are RGB.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

Image: TypeAlias = NDArray[np.uint8]
"""RGB pixels, (height, width, 3)."""

Animation: TypeAlias = Callable[[float], Image]
"""The image at a time in seconds from the start of the shot."""

Picture: TypeAlias = Callable[[int, int], Animation]
"""Prepares the animation for a width and a height in pixels."""

Colour: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]

_SUBPIXEL_BITS = 4
_EDGE = 0.7


def tone(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor below 1) or lighter (above 1)."""
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in colour)
    return red, green, blue


class Canvas:
    """Shapes on an image, in units; every shape has a darker outline unless ``edge`` is 0.

    Attributes:
        image: what was drawn so far; the canvas draws into it.
        half_width: the right border in units; the borders above and below are at -50 and 50.
    """

    def __init__(self, image: Image) -> None:
        height_px, width_px = image.shape[:2]
        self.image = image
        self.half_width = 50.0 * width_px / height_px
        self._px_per_unit = height_px / 100.0

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        colour: Colour,
        *,
        angle_deg: float = 0.0,
        edge: float = _EDGE,
    ) -> None:
        """A filled ellipse, turned clockwise by ``angle_deg``."""
        if edge:
            self._disc(centre, radii, tone(colour, 0.5), angle_deg, edge)
        self._disc(centre, radii, colour, angle_deg, 0.0)

    def polygon(self, points: Sequence[Point], colour: Colour, *, edge: float = _EDGE) -> None:
        """A filled polygon, convex or not."""
        corners = self._fixed(points)
        cv2.fillPoly(self.image, [corners], colour, cv2.LINE_AA, _SUBPIXEL_BITS)
        if edge:
            self._lines(corners, tone(colour, 0.5), edge, closed=True)

    def stroke(self, points: Sequence[Point], width: float, colour: Colour, *, edge: float = _EDGE) -> None:
        """A line through the points, with round ends."""
        corners = self._fixed(points)
        if edge:
            self._lines(corners, tone(colour, 0.5), width + 2 * edge, closed=False)
        self._lines(corners, colour, width, closed=False)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def shade(self, centre: Point, radii: Point, strength: float) -> None:
        """Darken a soft ellipse like a shadow; ``strength`` 1 is black. Slow: for what is still."""
        shadow = Canvas(np.zeros_like(self.image))
        shadow.ellipse(centre, radii, (255, 255, 255), edge=0.0)
        soft = cv2.GaussianBlur(shadow.image, (0, 0), 2.0 * self._px_per_unit)
        self.image[:] = self.image * (1.0 - strength / 255.0 * soft)

    def light(self) -> None:
        """Light what was drawn from the upper left; the corners fall off. Slow, as above."""
        height_px, width_px = self.image.shape[:2]
        y, x = np.mgrid[-1 : 1 : height_px * 1j, -1 : 1 : width_px * 1j]
        falloff = 1.08 - 0.2 * ((x + 0.35) ** 2 + (y + 0.4) ** 2) / 2.0
        self.image[:] = np.clip(self.image * falloff[:, :, None], 0, 255)

    def _fixed(self, points: Iterable[Point]) -> NDArray[np.int32]:
        """Points in units to OpenCV's fixed-point pixels, (n, 2)."""
        height_px, width_px = self.image.shape[:2]
        px = np.asarray(list(points), np.float64) * self._px_per_unit
        px += (width_px / 2.0, height_px / 2.0)
        fixed: NDArray[np.int32] = np.rint(px * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        return fixed

    def _disc(self, centre: Point, radii: Point, colour: Colour, angle_deg: float, grow: float) -> None:
        height_px, width_px = self.image.shape[:2]
        fixed = 1 << _SUBPIXEL_BITS
        x = width_px / 2.0 + self._px_per_unit * centre[0]
        y = height_px / 2.0 + self._px_per_unit * centre[1]
        axes = [max(1, round((size + grow) * self._px_per_unit * fixed)) for size in radii]
        cv2.ellipse(
            self.image,
            (round(x * fixed), round(y * fixed)),
            axes,
            angle_deg,
            0,
            360,
            colour,
            cv2.FILLED,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )

    def _lines(self, corners: NDArray[np.int32], colour: Colour, width: float, *, closed: bool) -> None:
        thickness = max(1, round(width * self._px_per_unit))
        cv2.polylines(self.image, [corners], closed, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


@dataclass(frozen=True, slots=True)
class Blob:
    """An irregular lump: a slice, a crumb, a nut.

    Attributes:
        place: its centre, in units.
        radius: in units.
        colour: of its face.
        corners: distances of its corners from the centre, as shares of the radius.
    """

    place: Point
    radius: float
    colour: Colour
    corners: tuple[float, ...]

    def draw(
        self,
        canvas: Canvas,
        *,
        place: Point | None = None,
        turn: float = 0.0,
        grow: float = 1.0,
    ) -> None:
        """Draw it, at its own place or at another, turned by radians and scaled."""
        x, y = place or self.place
        radius = self.radius * grow
        angles = [turn + 2 * math.pi * k / len(self.corners) for k in range(len(self.corners))]
        outline = [
            (x + radius * share * math.cos(angle), y + radius * share * math.sin(angle))
            for share, angle in zip(self.corners, angles, strict=True)
        ]
        canvas.polygon(outline, self.colour)
        shine = (x - 0.3 * radius, y - 0.3 * radius)
        canvas.ellipse(shine, (0.3 * radius, 0.2 * radius), tone(self.colour, 1.3), edge=0.0)


def blobs(
    rng: Generator,
    count: int,
    colours: Sequence[Colour],
    *,
    within: float,
    radius: float = 3.6,
    centre: Point = (0.0, 0.0),
) -> list[Blob]:
    """Lumps scattered evenly over the disc of radius ``within`` round ``centre``, in units."""
    scattered = []
    for index in range(count):
        # The golden angle spreads points evenly over a disc at any count.
        angle = 2.39996 * index + float(rng.uniform(-0.2, 0.2))
        distance = within * math.sqrt((index + 0.5) / count)
        place = (centre[0] + distance * math.cos(angle), centre[1] + distance * math.sin(angle))
        corners = tuple(float(share) for share in rng.uniform(0.72, 1.1, 9))
        size = radius * float(rng.uniform(0.8, 1.25))
        scattered.append(Blob(place, size, colours[index % len(colours)], corners))
    return scattered


Surface: TypeAlias = Callable[[Generator, int, int, Colour], NDArray[np.float64]]
"""Paints (randomness, height in pixels, width in pixels, colour) as (height, width, 3) values."""


def wood(rng: Generator, height_px: int, width_px: int, colour: Colour) -> NDArray[np.float64]:
    """Planks with streaks along them."""
    streaks = rng.normal(0.0, 0.07, (height_px, max(2, width_px // 60)))
    grain = np.asarray(cv2.resize(streaks, (width_px, height_px)), np.float64)
    plank = np.arange(height_px) * 5 // height_px
    grain += rng.normal(0.0, 0.06, 5)[plank][:, None]
    seams = np.diff(plank, prepend=0) > 0
    grain[seams] -= 0.35
    return (1.0 + grain)[:, :, None] * np.array(colour, np.float64)


def stone(rng: Generator, height_px: int, width_px: int, colour: Colour) -> NDArray[np.float64]:
    """A speckled worktop."""
    noise = rng.normal(0.0, 1.0, (height_px, width_px))
    speckles = np.asarray(cv2.GaussianBlur(noise, (0, 0), height_px / 250), np.float64)
    clouds = np.asarray(cv2.GaussianBlur(noise, (0, 0), height_px / 20), np.float64)
    value = 1.0 + 0.05 * clouds / clouds.std() - 0.3 * (speckles > 1.6 * speckles.std())
    painted: NDArray[np.float64] = value[:, :, None] * np.array(colour, np.float64)
    return painted


def cloth(rng: Generator, height_px: int, width_px: int, colour: Colour) -> NDArray[np.float64]:
    """A checked tablecloth on white."""
    square_px = max(2, height_px // 9)
    across = np.arange(width_px) // square_px % 2
    down = np.arange(height_px) // square_px % 2
    dye = 0.2 + 0.35 * (across[None, :] + down[:, None])
    weave = 1.0 + rng.normal(0.0, 0.03, (height_px, width_px))
    white = np.array((242, 238, 230), np.float64)
    mixed = white + dye[:, :, None] * (np.array(colour, np.float64) - white)
    return weave[:, :, None] * mixed


def tiles(rng: Generator, height_px: int, width_px: int, colour: Colour) -> NDArray[np.float64]:
    """A tiled wall."""
    side_px = max(3, height_px // 8)
    rows, columns = np.arange(height_px) // side_px, np.arange(width_px) // side_px
    glaze = rng.normal(1.0, 0.045, (rows[-1] + 1, columns[-1] + 1))[rows[:, None], columns]
    joint_px = max(1, height_px // 150)
    glaze[np.arange(height_px) % side_px < joint_px] = 0.75
    glaze[:, np.arange(width_px) % side_px < joint_px] = 0.75
    painted: NDArray[np.float64] = glaze[:, :, None] * np.array(colour, np.float64)
    return painted


Painter: TypeAlias = Callable[[Canvas, float], None]
"""Draws what moves onto a copy of what stands still, at a time in seconds."""


def film(
    seed: int,
    surface: Surface,
    colour: Colour,
    make: Callable[[Canvas, Generator], Painter],
) -> Picture:
    """A picture from its still part and its moving part, seen by a slightly drifting camera.

    Args:
        seed: of everything random in it; a seed draws the same picture every time.
        surface: what the background is made of.
        colour: of the background.
        make: draws what stands still and returns the painter of what moves.
    """

    def prepare(width_px: int, height_px: int) -> Animation:
        rng = np.random.default_rng(seed)
        margin_px = max(1, height_px // 50)
        height, width = height_px + 2 * margin_px, width_px + 2 * margin_px
        background = surface(rng, height, width, colour)
        background += rng.normal(0.0, 3.5, (height, width, 1))
        still = Canvas(np.clip(background, 0, 255).astype(np.uint8))
        paint = make(still, rng)
        still.light()
        phase = float(rng.uniform(0.0, 2 * math.pi))

        def draw(time_s: float) -> Image:
            canvas = Canvas(still.image.copy())
            paint(canvas, time_s)
            angle = phase + 0.9 * time_s
            centre = (
                width / 2 - 0.5 + 0.9 * margin_px * math.cos(angle),
                height / 2 - 0.5 + 0.9 * margin_px * math.sin(0.8 * angle),
            )
            seen = cv2.getRectSubPix(canvas.image, (width_px, height_px), centre)
            return np.asarray(seen, np.uint8)

        return draw

    return prepare


def plain(colour: Colour) -> Picture:
    """One colour that never changes."""

    def prepare(width_px: int, height_px: int) -> Animation:
        image: Image = np.full((height_px, width_px, 3), colour, np.uint8)
        return lambda time_s: image

    return prepare


def moving_blobs(seed: int, colour: Colour) -> Picture:
    """Lumps circling over a speckled ground: the plainest picture with texture and motion.

    Two of them with different colours make a hard cut for every shot detector.
    """

    def make(still: Canvas, rng: Generator) -> Painter:
        opposite = (255 - colour[0], 255 - colour[1], 255 - colour[2])
        lumps = blobs(rng, 24, [tone(colour, 1.4), tone(opposite, 0.9)], within=44, radius=5)

        def paint(canvas: Canvas, time_s: float) -> None:
            for index, lump in enumerate(lumps):
                angle = 1.2 * time_s + index
                x, y = lump.place
                place = (x + 6 * math.cos(angle), y + 6 * math.sin(angle))
                lump.draw(canvas, place=place, turn=angle)

        return paint

    return film(seed, stone, colour, make)


@dataclass(frozen=True, slots=True)
class Watermark:
    """A channel's badge and name, half transparent, the same on every frame.

    Attributes:
        text: the name.
        opacity: of the mark, in (0, 1].
    """

    text: str
    opacity: float = 0.6

    def prepare(self, width_px: int, height_px: int) -> Callable[[Image], Image]:
        """Lay the mark out in the upper right corner; returns what stamps an image of that size."""
        size_px = max(8, height_px // 16)
        font = ImageFont.load_default(size=size_px)
        left, _, right, _ = font.getbbox(self.text)
        border = size_px // 2
        x = width_px - border - (right - left)
        layer = PilImage.new("LA", (width_px, height_px))
        pen = ImageDraw.Draw(layer)
        pen.text((x, border), self.text, (255, 255), font, stroke_width=1, stroke_fill=(30, 255))
        badge = x - 1.6 * size_px
        pen.ellipse((badge, border, badge + 1.2 * size_px, border + 1.2 * size_px), (255, 255))
        tip = (badge + 0.9 * size_px, border + 0.6 * size_px)
        back = badge + 0.42 * size_px
        pen.polygon([tip, (back, border + 0.3 * size_px), (back, border + 0.9 * size_px)], (30, 255))
        pixels = np.asarray(layer, np.float32)
        # Blending is dear, so it is kept to the corner that the mark lies in.
        corner = np.s_[: 3 * border + size_px, max(0, int(badge) - 1) :]
        ink, alpha = pixels[corner][:, :, :1], self.opacity / 255.0 * pixels[corner][:, :, 1:]

        def stamp(image: Image) -> Image:
            stamped = image.copy()
            stamped[corner] = image[corner] + alpha * (ink - image[corner])
            return stamped

        return stamp
