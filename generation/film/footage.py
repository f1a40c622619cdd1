"""Clips and the film as files: H.264 in MP4, with chapters and subtitles.

Clips are encoded once; the film takes over their packets. Every file carries the key of what it was made
from in its ``comment``, and is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from numpy.typing import NDArray

from generation.core.states import Picture
from models.errors import MediaError
from models.files import whole_file
from models.media import frames, open_media, write_video

Frames = NDArray[np.uint8]
"""RGB frames ``[n, height, width, 3]``."""

MILLI = Fraction(1, 1000)
KEY = "comment"
STYLE = b"""[Script Info]\r
ScriptType: v4.00+\r
\r
[V4+ Styles]\r
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding\r
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A stretch of the film, half-open in seconds, with what is read under it."""

    start_s: float
    end_s: float
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """Samples ``[n, channels]`` in [-1, 1]."""

    samples: NDArray[np.float32]
    rate_hz: int


def write_clip(
    path: Path, video: Frames, *, fps: float, short_side_px: int, key: str, sound: Sound | None = None
) -> None:
    """Encode frames, and their sound where there is any.

    Args:
        short_side_px: clips that are smaller are scaled up to it, for players and eyes.
    """
    height, width = video.shape[1:3]
    scale = max(1.0, short_side_px / min(height, width))
    # The colour planes are halved: sides are even.
    size = tuple(round(side * scale / 2) * 2 for side in (width, height))
    scaled = (cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in video)
    track = None if sound is None else (sound.samples, sound.rate_hz)
    with whole_file(path) as part:
        write_video(
            part, video if size == (width, height) else scaled, fps, metadata={KEY: key}, sound=track
        )


def mp4_key(path: Path) -> str | None:
    """Return the key of a file of ours; None where there is none."""
    try:
        with open_media(path) as container:
            return container.metadata.get(KEY)
    except (OSError, MediaError):
        return None


def duration_of(path: Path) -> float:
    """Return length of a clip's pictures in seconds."""
    with open_media(path) as container:
        stream = container.streams.video[0]
        return float((stream.duration or 0) * (stream.time_base or 0))


def clip_frames(path: Path) -> list[Picture]:
    """Return all frames of a clip, RGB."""
    with open_media(path) as container:
        arrays = (frame.picture.to_ndarray(format="rgb24") for frame in frames(container))
        return [array.astype(np.uint8, copy=False) for array in arrays]


def join(path: Path, clips: Sequence[Path], chapters: Sequence[Chapter], *, title: str, key: str) -> None:
    """Write the film: the clips' pictures and sound unchanged, chapters, and a subtitle track.

    Either all clips have sound or none.
    """
    with (
        whole_file(path) as part,
        av.open(part, "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        container.metadata.update({"title": title, KEY: key})
        container.set_chapters(
            [
                {
                    "id": number, "start": _ms(chapter.start_s), "end": _ms(chapter.end_s),
                    "time_base": MILLI, "metadata": {"title": chapter.title},
                }
                for number, chapter in enumerate(chapters)
            ]
        )  # fmt: skip
        with av.open(clips[0]) as first:
            stream = container.add_stream_from_template(first.streams.video[0])
            sounding = bool(first.streams.audio)
            audio = container.add_stream_from_template(first.streams.audio[0]) if sounding else None
            subtitles = _subtitles(container)
            container.start_encoding()
        for chapter in chapters:
            container.mux(_subtitle(chapter, subtitles))
        offset = Fraction(0)
        for clip in clips:
            with av.open(clip) as source:
                taken = source.streams.video[0]
                assert taken.time_base is not None
                end = Fraction(0)
                for packet in source.demux(taken):
                    if packet.pts is None or packet.dts is None:
                        continue
                    end = max(end, (packet.pts + (packet.duration or 0)) * taken.time_base)
                    shift = round(offset / taken.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    container.mux(packet)
            if audio is not None:
                _join_sound(clip, audio, container, offset, end)
            offset += end


def _join_sound(
    clip: Path, stream: AudioStream, container: OutputContainer, offset: Fraction, end: Fraction
) -> None:
    """Copy a clip's sound up to the end of its pictures, so that the next clip's does not overlap it."""
    with av.open(clip) as source:
        taken = source.streams.audio[0]
        assert taken.time_base is not None
        shift = round(offset / taken.time_base)
        for packet in source.demux(taken):
            if packet.pts is None or packet.dts is None or packet.dts < 0:
                continue
            if (packet.pts + (packet.duration or 0)) * taken.time_base > end:
                break
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = stream
            container.mux(packet)


def as_srt(chapters: Sequence[Chapter]) -> str:
    """Return the subtitles as a SubRip file."""
    blocks = (
        f"{number}\n{_clock(chapter.start_s)} --> {_clock(chapter.end_s)}\n{chapter.text}\n"
        for number, chapter in enumerate(chapters, start=1)
    )
    return "\n".join(blocks)


def _subtitles(container: OutputContainer) -> SubtitleStream:
    stream = container.add_stream("mov_text")
    stream.metadata["language"] = "eng"
    # The encoder demands a style, from which it makes the track's sample description.
    stream.codec_context.subtitle_header = STYLE
    stream.codec_context.time_base = MILLI
    stream.time_base = MILLI
    return stream


def _subtitle(chapter: Chapter, stream: SubtitleStream) -> Packet[Stream]:
    # A sample of timed text is its length and its UTF-8 (3GPP TS 26.245); going through the encoder would
    # have the text's braces and backslashes read as ASS commands.
    text = chapter.text.encode()[:65535]
    packet = Packet(len(text).to_bytes(2, "big") + text)
    packet.stream, packet.time_base = stream, MILLI
    packet.pts = packet.dts = _ms(chapter.start_s)
    packet.duration = _ms(chapter.end_s) - _ms(chapter.start_s)
    return packet


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(_ms(seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
