"""Cutting clips out of a video, as files of their own.

A clip that begins and ends at key frames is copied: no quality is lost and it costs no encoding. Shots
often do, because encoders place key frames at cuts. Of other clips of H.264 only the pictures before the
first and after the last key frame are encoded, see :mod:`models.media.splice`; the rest are encoded as a
whole. Sound is always encoded, because packets of sound rarely begin where pictures do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, dropwhile, pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from models.errors import MediaError
from models.files import whole_file
from models.media import splice
from models.media.container import DAMAGE, decoded, open_media, packets, picture_stream, start_of
from models.media.losses import AnyPacket
from models.media.pictures import Bounds, Frame, frames
from models.media.sound import audio_tracks, clock_ahead_s
from models.media.writer import X264

CLOCK = 90_000
SOUND_RATE = 48_000
NEAR_S = 1e-3
"""Times in tables and in containers are rounded; closer ones are the same."""
MAX_PACKET_S = 0.5
"""Sound is sought so much earlier than it is needed."""
SILENT = 1e-3
"""Amplitude up to which a track counts as silent in a span, and another one is taken."""
BACK_S = (0.0, 2.0, 10.0)
"""Seconds by which to seek before the place, tried in this order until the key frame before it is found: a
container without an index may land behind it."""
OWN_BACK_S = {"avi": (), "mpeg": (10.0,)}
"""The same for containers that state few times: AVI's follow from the first packet on, those of a program
stream are right some packets behind the place."""
COPIED_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "mpeg4"})
"""Codecs that an MP4 file may hold."""
BOTTOM_FIRST = (3, 5)
"""libav's orders of fields in which the lower one is shown first."""
CLIP_X264 = X264 | {"crf": "18"}

Means = Literal["copied", "spliced", "encoded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSettings:
    """Form of the clips.

    Attributes:
        height_px: of the pictures; the width follows. None keeps the size.
        fps: frames a second; None keeps the frames and their times.
    """

    height_px: int | None = None
    fps: float | None = None

    @property
    def may_copy(self) -> bool:
        return self.height_px is None and self.fps is None


def cut(source: Path, target: Path, start_s: float, end_s: float, settings: CutSettings) -> Means:
    """Write the frames of ``[start_s, end_s)`` and their sound as an MP4 file; time 0 is ``start_s``.

    Args:
        target: an existing file is replaced; it appears only when it is whole.
        start_s: presentation time; see :func:`models.media.start_of`.

    Raises:
        MediaError: there are no pictures in the span, or the source cannot be decoded.
    """
    sound = _sound(source, start_s, end_s)
    with whole_file(target) as part:
        if settings.may_copy and _copied(source, part, start_s, end_s, sound):
            return "copied"
        if settings.may_copy and _spliced(source, part, start_s, end_s, sound):
            return "spliced"
        _encoded(source, part, start_s, end_s, settings, sound)
        return "encoded"


def _copied(source: Path, target: Path, start_s: float, end_s: float, sound: NDArray[np.float32]) -> bool:
    """Copy the packets of a span; False where it does not begin and end at key frames."""
    with open_media(source) as container:
        stream = picture_stream(container)
        if stream is None or stream.codec_context.name not in COPIED_CODECS or stream.time_base is None:
            return False
        if container.format.name == "avi":
            return False
        origin_s = start_of(container)
        read = _from_key(container, stream, origin_s + start_s)
        found = _whole_groups(read, stream.time_base, origin_s, start_s, end_s)
        if not found or not _advance(found):
            return False
        with _writer(target, stream.time_base) as output:
            copy = output.add_stream_from_template(stream, opaque=True)
            _move(found, copy, round((origin_s + start_s) / stream.time_base))
            _mux(output, found, sound)
    return True


def _whole_groups(
    read: Iterable[AnyPacket], base: Fraction, origin_s: float, start_s: float, end_s: float
) -> list[AnyPacket]:
    """The packets of a span of whole groups of pictures; none where an edge lies within a group."""
    found: list[AnyPacket] = []
    for packet in read:
        if packet.pts is None or packet.dts is None:
            return []
        time_s = float(packet.pts * base) - origin_s
        if not found:
            if packet.is_keyframe and abs(time_s - start_s) <= NEAR_S:
                found.append(packet)
            elif time_s > start_s:
                return []
        elif time_s >= end_s - NEAR_S:
            # Pictures after this one in the file may still be shown before it.
            following = next(iter(read), None)
            late = following is not None and following.pts is not None and following.pts < packet.pts
            return found if packet.is_keyframe and not late else []
        elif time_s >= start_s - NEAR_S:
            found.append(packet)
    return found


def _advance(found: Sequence[AnyPacket]) -> bool:
    """Return whether decoding times advance: in files that were joined they may go back."""
    times = [packet.dts or 0 for packet in found]
    return all(before < after for before, after in pairwise(times))


def _move(found: Sequence[AnyPacket], target: VideoStream, zero: int) -> None:
    """Let packets belong to another stream, with times that count from ``zero`` on."""
    # A picture may begin a little before the span; a negative time would cost the last picture.
    zero = min(zero, *(packet.pts for packet in found if packet.pts is not None))
    for packet in found:
        packet.stream = target
        packet.pts = None if packet.pts is None else packet.pts - zero
        packet.dts = None if packet.dts is None else packet.dts - zero


def _spliced(source: Path, target: Path, start_s: float, end_s: float, sound: NDArray[np.float32]) -> bool:
    """Copy the whole groups of a span and encode the pictures around them; False where that is no use."""
    with open_media(source) as container:
        stream = picture_stream(container)
        if stream is None or stream.codec_context.name != "h264" or stream.time_base is None:
            return False
        units = splice.Units.of(stream)
        if container.format.name == "avi" or units is None:
            return False
        origin_s, base = start_of(container), stream.time_base
        first, last = (round((origin_s + time_s) / base) for time_s in (start_s, end_s))
        inside = splice.whole_groups(_from_key(container, stream, origin_s + start_s), units, first, last)
        if inside is None or (inside.end - inside.start) * base < splice.MIN_COPIED_S:
            return False
        delay = (inside.packets[0].pts or 0) - (inside.packets[0].dts or 0)
        edges = []
        for low_s, high_s in (
            (start_s, float(inside.start * base) - origin_s),
            (float(inside.end * base) - origin_s, end_s),
        ):
            with _shown(source, low_s, high_s) as (_, shown):
                edges.append(splice.encoded(shown, stream, units, origin_s, delay))
        before, after = edges
        if before is None or after is None:
            return False
        head = splice.with_parameters(inside.packets[0], units)
        joined = [*before, head, *inside.packets[1:], *after]
        if not _advance(joined):
            return False
        with _writer(target, base) as output:
            copy = output.add_stream_from_template(stream)
            _move(joined, copy, first)
            _mux(output, joined, sound)
    return True


def _encoded(
    source: Path,
    target: Path,
    start_s: float,
    end_s: float,
    settings: CutSettings,
    sound: NDArray[np.float32],
) -> None:
    with _shown(source, start_s, end_s) as (stream, shown):
        first = next(shown, None)
        if first is None or first.time_s < start_s - NEAR_S:
            raise MediaError(f"no pictures from {start_s:.3f} s to {end_s:.3f} s")
        width, height = _size(first.picture, stream.sample_aspect_ratio, settings.height_px)
        rate = Fraction(settings.fps or stream.average_rate or 25).limit_denominator(1001)
        with _writer(target, Fraction(1, CLOCK)) as output:
            woven = _woven(stream) if first.picture.interlaced_frame else {}
            made = output.add_stream("libx264", rate=rate, options=CLIP_X264 | woven)
            made.width, made.height, made.pix_fmt = width, height, "yuv420p"
            made.codec_context.time_base = Fraction(1, CLOCK)
            splice.set_colours(made.codec_context, first.picture)
            timed: Iterator[tuple[float, Frame]] = (
                (max(0.0, frame.time_s - start_s), frame) for frame in chain([first], shown)
            )
            if settings.fps is not None:
                timed = _at_rate(timed, settings.fps, end_s - start_s)
            encoded: list[AnyPacket] = []
            for time_s, frame in timed:
                picture = _picture(frame, width, height)
                picture.pts, picture.time_base = round(time_s * CLOCK), Fraction(1, CLOCK)
                encoded += made.encode(picture)
            _mux(output, [*encoded, *made.encode()], sound)


def _woven(stream: VideoStream) -> dict[str, str]:
    """Options of the encoder for pictures of two fields, in the order of the source."""
    bottom_first = stream.codec_context.field_order in BOTTOM_FIRST
    return {"x264-params": "bff=1" if bottom_first else "tff=1"}


@contextmanager
def _shown(source: Path, start_s: float, end_s: float) -> Iterator[tuple[VideoStream, Iterator[Frame]]]:
    """The frames of a span, decoded from the key frame before it, and their stream."""
    with open_media(source) as container:
        earlier = OWN_BACK_S.get(container.format.name, BACK_S)
    for back_s in (*earlier, None):
        with open_media(source) as container:
            stream = picture_stream(container)
            if stream is None:
                raise MediaError("no pictures in it")
            if back_s is not None:
                _seek(container, stream, start_of(container) + start_s - back_s)
            shown = frames(container, bounds=Bounds(max_span_s=1e6, max_hold_s=1e6))
            first = next(shown, None)
            if back_s is None or (first is not None and first.time_s <= start_s + NEAR_S):
                yield stream, _span(chain([first] if first else [], shown), start_s, end_s)
                return


def _span(shown: Iterable[Frame], start_s: float, end_s: float) -> Iterator[Frame]:
    for frame in shown:
        if frame.time_s >= end_s - NEAR_S:
            return
        if frame.time_s >= start_s - NEAR_S:
            yield frame


def _at_rate(
    timed: Iterable[tuple[float, Frame]], fps: float, length_s: float
) -> Iterator[tuple[float, Frame]]:
    """Show on a regular grid what is on display at each time."""
    count = 0
    last: Frame | None = None
    for time_s, frame in timed:
        while last is not None and count / fps < time_s - NEAR_S:
            yield count / fps, last
            count += 1
        last = frame
    while last is not None and count / fps < length_s - NEAR_S:
        yield count / fps, last
        count += 1


def _size(picture: VideoFrame, aspect: Fraction | None, height_px: int | None) -> tuple[int, int]:
    """Even width and height in square pixels, upright."""
    width, height = float(picture.width * (aspect or 1)), float(picture.height)
    if picture.rotation % 180:
        width, height = height, width
    scale = height_px / height if height_px else 1.0
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _picture(frame: Frame, width: int, height: int) -> VideoFrame:
    turns = frame.picture.rotation % 360 // 90
    size = (height, width) if turns % 2 else (width, height)
    scaled = frame.picture.reformat(*size, format="yuv420p", interpolation="AREA")
    return _turned(scaled, turns) if turns else scaled


def _turned(picture: VideoFrame, turns: int) -> VideoFrame:
    """Turn a picture of yuv420p counter-clockwise, plane by plane: its colours stay as they are."""
    height, width = picture.height, picture.width
    planes = np.split(picture.to_ndarray().reshape(-1), [width * height, width * height * 5 // 4])
    shapes = (height, width), *[(height // 2, width // 2)] * 2
    turned = [np.rot90(plane.reshape(shape), turns) for plane, shape in zip(planes, shapes, strict=True)]
    rows = np.concatenate([plane.reshape(-1) for plane in turned]).reshape(-1, len(turned[0][0]))
    return VideoFrame.from_ndarray(rows, format="yuv420p")


def _sound(source: Path, start_s: float, end_s: float) -> NDArray[np.float32]:
    """Stereo samples ``[2, n]`` of the first track that is not silent in a span; empty without sound."""
    samples = np.zeros((2, 0), np.float32)
    for track in audio_tracks(source):
        samples, placed = _heard(source, track.index, start_s, end_s)
        if not placed:
            ahead_s = clock_ahead_s(source, track.index)
            samples, _ = _heard(source, track.index, start_s, end_s, ahead_s)
        if np.abs(samples).max(initial=0.0) > SILENT:
            break
    return samples


def _heard(
    source: Path, track: int, start_s: float, end_s: float, ahead_s: float = 0.0
) -> tuple[NDArray[np.float32], bool]:
    """Stereo samples ``[2, n]`` of a track in a span, and whether any sound lies in it.

    Args:
        ahead_s: see :func:`models.media.sound.clock_ahead_s`.
    """
    samples = np.zeros((2, round((end_s - start_s) * SOUND_RATE)), np.float32)
    placed = False
    with open_media(source) as container:
        stream = container.streams.audio[track]
        zero_s = start_of(container) + start_s + ahead_s
        _seek(container, stream, zero_s - MAX_PACKET_S)
        place = None
        for time_s, piece in _pieces(container, stream, zero_s):
            start = place if time_s is None else round(time_s * SOUND_RATE)
            start = 0 if start is None else start
            # Containers round times; continuous sound must not get gaps or overlaps from that.
            if place is not None and abs(start - place) < SOUND_RATE // 50:
                start = place
            place = start + piece.shape[1]
            low, high = max(0, start), min(samples.shape[1], place)
            if low < high:
                samples[:, low:high] = piece[:, low - start : high - start]
                placed = True
            if start >= samples.shape[1]:
                break
    return samples, placed


def _pieces(
    container: InputContainer, stream: AudioStream, zero_s: float
) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SOUND_RATE)
    form = None
    for frame in decoded(container, stream):
        if form not in (None, (frame.format.name, frame.layout.name, frame.sample_rate)):
            resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SOUND_RATE)
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        time_s = None if frame.time is None else frame.time - zero_s
        for part in resampler.resample(frame):
            yield time_s, part.to_ndarray().astype(np.float32, copy=False)
            time_s = None


def _seek(container: InputContainer, stream: VideoStream | AudioStream, time_s: float) -> None:
    """Go to the last key frame at or before a time of the container's clock."""
    if stream.time_base is not None:
        # Without an index of this stream the container is read from its start.
        with suppress(*DAMAGE):
            container.seek(max(0, round((time_s + NEAR_S) / stream.time_base)), stream=stream)


def _from_key(container: InputContainer, stream: VideoStream, time_s: float) -> Iterator[AnyPacket]:
    """Read the packets of pictures from the last key frame at or before a time of the container's clock."""
    base = stream.time_base or Fraction(1)
    for back_s in BACK_S:
        _seek(container, stream, time_s - back_s)
        read = dropwhile(lambda packet: not packet.is_keyframe, packets(container, stream))
        first = next(read, None)
        if first is not None and (first.pts is None or first.pts * base <= time_s + NEAR_S):
            break
    return chain([first] if first else [], read)


def _writer(target: Path, base: Fraction) -> OutputContainer:
    """Open an MP4 file to write.

    Args:
        base: of the pictures' times. The edit list must count in it: in milliseconds it may end a little
            before the last picture does, and players leave that picture out.
    """
    options = {"fflags": "+bitexact", "movie_timescale": str(base.denominator)}
    return av.open(target, "w", format="mp4", container_options=options)


def _mux(output: OutputContainer, pictures: list[AnyPacket], sound: NDArray[np.float32]) -> None:
    """Write pictures and sound, in order of time."""
    if not sound.size:
        output.mux(pictures)
        return
    track = output.add_stream("aac", rate=SOUND_RATE)
    track.codec_context.layout = "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(np.clip(sound, -1, 1)), "fltp", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
    heard = [*track.encode(frame), *track.encode(None)]

    def moment(packet: AnyPacket) -> float:
        return float((packet.dts or 0) * (packet.time_base or 0))

    output.mux(sorted([*pictures, *heard], key=moment))
