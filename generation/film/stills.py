"""Still pictures: untrusted ones, key frames with their keys, and the contact sheet of a film."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin, UnidentifiedImageError

from generation.core.states import Picture
from models.errors import UsageError
from models.files import whole_file

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 20_000_000
MAX_PIXELS = 40_000_000
KEY = "key"
TILE_PX = 176
TEXT_PX = 12
MARGIN_PX = 10
TEXT_LINES = 6


class PictureError(UsageError):
    """A picture that is not accepted; the text says why and what is."""


def read_picture(data: bytes, *, max_pixels: int = MAX_PIXELS, max_side: int | None = None) -> Picture:
    """Decode an untrusted picture, upright and without transparency.

    The content decides on the format, which comes from a closed list; the size is known before a pixel is
    decoded. Of an animation the first picture is taken.

    Args:
        max_side: longest side in pixels; larger pictures are reduced to it.

    Raises:
        PictureError: too large, damaged, or of another format.
    """
    if len(data) > MAX_BYTES:
        raise PictureError(f"the picture has {len(data)} bytes, at most {MAX_BYTES} are taken")
    try:
        with warnings.catch_warnings():
            # Pillow's own limit; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise PictureError(
                f"the picture has {image.width} x {image.height} pixels, at most {max_pixels} are taken"
            )
        if max_side is not None:
            # At once, before colours are converted: the full picture then exists only once.
            image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        upright = ImageOps.exif_transpose(image).convert("RGBA")
    except UnidentifiedImageError as error:
        raise PictureError(f"the picture is none of {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"the picture is damaged: {error}") from error
    white = Image.new("RGBA", upright.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, upright).convert("RGB"))


def write_png(path: Path, picture: Picture, key: str) -> None:
    """Write a picture with its key inside; whole or not at all."""
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, key)
    with whole_file(path) as part:
        Image.fromarray(picture).save(part, format="PNG", pnginfo=info)


def png_key(path: Path) -> str | None:
    """Return the key of a picture of ours; None where there is none."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            key = image.info.get(KEY)
    except (OSError, SyntaxError, ValueError):
        return None
    return key if isinstance(key, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """A step on the contact sheet.

    Attributes:
        pictures: the key frame, then frames of the clips; any sizes.
    """

    title: str
    text: str
    pictures: Sequence[Picture]


def contact_sheet(heading: str, rows: Sequence[SheetRow]) -> Picture:
    """Draw one picture of a whole film: a row for each step, its pictures under its words."""
    font, small = ImageFont.load_default(TEXT_PX + 2), ImageFont.load_default(TEXT_PX)
    most = max(len(row.pictures) for row in rows)
    width = MARGIN_PX + most * (TILE_PX + MARGIN_PX)
    in_line = max(20, (width - 2 * MARGIN_PX) * 2 // TEXT_PX)
    texts = [
        [
            *textwrap.wrap(row.title, in_line * 7 // 8)[:2],
            *textwrap.wrap(row.text, in_line, max_lines=TEXT_LINES, placeholder=" ..."),
        ]
        for row in rows
    ]
    line_px = TEXT_PX + 4
    heights = [len(lines) * line_px + TILE_PX + 2 * MARGIN_PX for lines in texts]
    top = 2 * MARGIN_PX + line_px
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN_PX), (250, 250, 248))
    draw = ImageDraw.Draw(sheet)
    heading = textwrap.shorten(heading, in_line * 7 // 8)
    draw.text((MARGIN_PX, MARGIN_PX), heading, fill=(0, 0, 0), font=font)
    for row, lines, height in zip(rows, texts, heights, strict=True):
        titles = len(textwrap.wrap(row.title, in_line * 7 // 8)[:2])
        for place, line in enumerate(lines):
            colour, face = ((0, 0, 0), font) if place < titles else ((90, 90, 90), small)
            draw.text((MARGIN_PX, top + place * line_px), line, fill=colour, font=face)
        for place, picture in enumerate(row.pictures):
            tile = ImageOps.contain(Image.fromarray(picture), (TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
            left = MARGIN_PX + place * (TILE_PX + MARGIN_PX)
            sheet.paste(tile, (left, top + len(lines) * line_px + MARGIN_PX // 2))
        top += height
    return np.asarray(sheet)
