"""Copying the whole groups of pictures of an H.264 span and encoding only its edges.

A copied group must begin with an IDR picture, so that nothing in it refers to pictures outside. The edges
are encoded with parameter sets of their own, which lie in the stream before their first picture; those of
the source lie again before the first copied one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from models.media.losses import AnyPacket
from models.media.pictures import Frame
from models.media.units import IDR, length_bytes_of, unit_types
from models.media.writer import X264

START_CODE = re.compile(rb"\x00\x00\x00?\x01")
PIXELS = "yuv420p"
MIN_COPIED_S = 1.0
"""Time that the copied groups must last: otherwise encoding everything is as good."""
EDGE_X264 = X264 | {"crf": "18", "bf": "0"}


@dataclass(frozen=True, slots=True)
class Units:
    """Form of the units in a stream of an MP4 or Matroska file.

    Attributes:
        length_bytes: bytes of the length before each unit.
        parameters: parameter sets of the stream, in that form.
    """

    length_bytes: int
    parameters: bytes

    @classmethod
    def of(cls, stream: VideoStream) -> Units | None:
        """Read the form from a stream's own description; None where units lie behind start codes."""
        extra = bytes(stream.codec_context.extradata or b"")
        length_bytes = length_bytes_of(extra)
        if length_bytes is None or len(extra) < 7:
            return None
        found = b""
        place = 5
        for mask in (31, 255):
            count, place = extra[place] & mask, place + 1
            for _ in range(count):
                size = int.from_bytes(extra[place : place + 2], "big")
                found += size.to_bytes(length_bytes, "big") + extra[place + 2 : place + 2 + size]
                place += 2 + size
        return cls(length_bytes, found)

    def converted(self, data: bytes) -> bytes:
        """Return units behind start codes in the form of the stream."""
        parts = [part for part in START_CODE.split(data) if part]
        return b"".join(len(part).to_bytes(self.length_bytes, "big") + part for part in parts)


@dataclass(frozen=True, slots=True)
class Inside:
    """The whole groups of pictures within a span.

    Attributes:
        packets: in the order of the file.
        start: presentation time of their first picture, in the stream's units.
        end: presentation time of the first picture after them.
    """

    packets: Sequence[AnyPacket]
    start: int
    end: int


def whole_groups(read: Iterable[AnyPacket], units: Units, first: int, last: int) -> Inside | None:
    """Return the groups from the first to the last IDR picture of a span; None if there are not two.

    Args:
        read: packets of the stream, from a key frame at or before the span.
        first: start of the span, in the stream's units.
        last: end of the span; half-open.
    """
    kept: list[AnyPacket] = []
    start = end = None
    whole = 0
    for packet in read:
        if packet.pts is None or packet.dts is None:
            return None
        if (
            packet.is_keyframe
            and packet.pts >= first
            and IDR in unit_types(bytes(packet), units.length_bytes)
        ):
            if packet.pts > last:
                break
            start = packet.pts if start is None else start
            end, whole = packet.pts, len(kept)
        if start is not None:
            kept.append(packet)
    if start is None or end is None or start == end:
        return None
    return Inside(kept[:whole], start, end)


def encoded(
    shown: Iterable[Frame], stream: VideoStream, units: Units, origin_s: float, delay: int
) -> list[AnyPacket] | None:
    """Encode an edge in the size and the units of a stream; None where it is not plain 4:2:0 video.

    Args:
        shown: its frames; their times count from ``origin_s`` on the stream's clock.
        delay: decoding time before presentation, in the stream's units, as in the copied groups.
    """
    base = stream.time_base
    assert base is not None
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = stream.codec_context.width, stream.codec_context.height
    encoder.pix_fmt, encoder.time_base = PIXELS, base
    encoder.framerate = Fraction(stream.average_rate or 25)
    encoder.options = EDGE_X264
    set_colours(encoder, stream.codec_context)
    made: list[AnyPacket] = []
    for frame in shown:
        picture = frame.picture
        if picture.format.name != PIXELS or picture.interlaced_frame:
            return None
        picture.pts, picture.time_base = round((frame.time_s + origin_s) / base), base
        picture.pict_type = 0
        made += encoder.encode(picture)
    made += encoder.encode(None)
    return [
        _packet(units.converted(bytes(one)), one.pts or 0, delay, base, key=one.is_keyframe) for one in made
    ]


def set_colours(encoder: VideoCodecContext, source: VideoCodecContext | VideoFrame) -> None:
    """State range, matrix, primaries and transfer of the source: without them players guess."""
    encoder.color_range = source.color_range
    # RGB becomes Y'CbCr by the matrix of BT.601.
    is_rgb = source.format is not None and source.format.is_rgb
    encoder.colorspace = Colorspace.ITU601 if is_rgb else source.colorspace
    encoder.color_primaries, encoder.color_trc = source.color_primaries, source.color_trc


def with_parameters(packet: AnyPacket, units: Units) -> AnyPacket:
    """Return a copied packet with the source's parameter sets before it."""
    assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
    data = units.parameters + bytes(packet)
    return _packet(data, packet.pts, packet.pts - packet.dts, packet.time_base, key=True)


def _packet(data: bytes, pts: int, delay: int, base: Fraction, *, key: bool) -> AnyPacket:
    packet = av.Packet(data)
    packet.pts, packet.dts, packet.time_base = pts, pts - delay, base
    packet.is_keyframe = key
    return packet
