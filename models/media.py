"""Opening video files that come from strangers, and writing our own.

Files are read through our own file object, so that the demuxer knows neither their name nor any
protocol: a playlist or a reference inside a file cannot make it open another one. Formats and codecs
come from closed lists; content decides, the file's name plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from models.errors import MediaError

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf"
VIDEO_CODECS = frozenset(
    "h264 hevc av1 libdav1d vp8 vp9 libvpx libvpx-vp9 mpeg4 mpeg2video mpeg1video theora wmv1 wmv2 "
    "wmv3 vc1 flv h263 msmpeg4v2 msmpeg4v3 msmpeg4 mjpeg prores dnxhd".split()
)
SIGNATURES = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "),
    (0, b"\x47\x40"), (0, b"\x00\x00\x01\xba"), (0, b"FLV\x01"), (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75"), (0, b"\x06\x0e\x2b\x34"),
)  # fmt: skip
SAMPLE_RATE = 16_000
MAX_JITTER = SAMPLE_RATE // 10
"""Samples by which times of sound may jump without silence between: containers round them."""


class _NamelessFile:
    """Reads and seeks, and gives nothing else away."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A decoded picture and the time at which it is shown.

    Attributes:
        time_s: presentation time in seconds, 0 at the container's start.
        duration_s: how long it is shown, 0 where the file does not say.
    """

    time_s: float
    duration_s: float
    picture: VideoFrame

    def bgr(self, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """The picture scaled by averaging, upright, as ``[height, width, 3]`` in BGR order."""
        turn = self.picture.rotation % 360
        width, height = (height_px, width_px) if turn in (90, 270) else (width_px, height_px)
        # Two steps: swscale's scaling straight into bgr24 tints what is nearly black.
        scaled = self.picture.reformat(width=width, height=height, interpolation="AREA")
        image = scaled.to_ndarray(format="bgr24")
        # PyAV's rotation is counter-clockwise, and so is numpy's.
        return np.ascontiguousarray(np.rot90(image, turn // 90) if turn else image, dtype=np.uint8)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a container of the closed list.

    Raises:
        MediaError: the content is not one of them, or is damaged.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            container = av.open(
                _NamelessFile(file),
                options={"format_whitelist": FORMATS, "protocol_whitelist": "none"},
                metadata_errors="replace",
            )
        except (FFmpegError, ValueError) as error:
            raise MediaError(_say(error)) from error
        assert isinstance(container, InputContainer)
        with container:
            yield container


def start_of(container: InputContainer) -> float:
    """The container's first presentation time in seconds; transport streams rarely begin at 0."""
    return (container.start_time or 0) / av.time_base


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of pictures that move; the cover of a song is a stream of one picture."""
    covers = Disposition.attached_pic
    return next((found for found in container.streams.video if not found.disposition & covers), None)


def looks_like_video(path: Path) -> bool:
    """Whether the first bytes are those of a known container, damaged or not."""
    with path.open("rb") as file:
        head = file.read(16)
    return any(head[at : at + len(mark)] == mark for at, mark in SIGNATURES)


def frames(container: InputContainer) -> Iterator[Frame]:
    """Decode the picture stream, in order of presentation.

    AVI tells only when a picture is decoded, and what the demuxer makes a presentation time of leaps
    to and fro where pictures refer to later ones. They leave the decoder in order and a constant delay
    after their own decoding times, so these place them.

    Pictures without a time, or with one that does not advance, are passed over: they cannot be
    placed. Decoding ends quietly at damage that the decoder cannot cross; the caller sees how far it
    came.
    """
    stream = picture_stream(container)
    if stream is None:
        return
    stream.thread_type = "AUTO"
    origin_s = start_of(container)
    only_decoding_times = container.format.name == "avi"
    delay = 0
    last_pts: int | None = None
    try:
        for picture in container.decode(stream):
            pts, dts, base = picture.pts, picture.dts, picture.time_base
            if only_decoding_times and pts is not None:
                if last_pts is None:
                    delay = 0 if dts is None else pts - dts
                else:
                    # The last pictures come out when nothing is left to decode.
                    pts = last_pts + max(1, picture.duration or 0) if dts is None else dts + delay
            if pts is None or base is None or (last_pts is not None and pts <= last_pts):
                continue
            last_pts = pts
            yield Frame(
                time_s=round(float(pts * base) - origin_s, 6),
                duration_s=float((picture.duration or 0) * base),
                picture=picture,
            )
    except FFmpegError:
        return


def read_audio(path: Path, *, until_s: float) -> NDArray[np.float32]:
    """The first audio stream as mono samples at 16 kHz, ``[n]`` in [-1, 1].

    Sample 0 is at presentation time 0, and every other at its own: where the file holds no sound there
    is silence, what lies before 0 or after ``until_s`` is cut. Decoding ends at damage that the decoder
    cannot cross.

    Raises:
        MediaError: there is no audio stream, or it cannot be opened.
    """
    wanted = round(until_s * SAMPLE_RATE)
    pieces: list[NDArray[np.float32]] = []
    early = count = 0
    with open_media(path) as container:
        if not container.streams.audio:
            raise MediaError("no audio stream")
        try:
            for time_s, samples in _mono(container):
                start = count if time_s is None else round(time_s * SAMPLE_RATE)
                if not pieces:
                    early, count = max(0, -start), min(0, start)
                if start - count > (MAX_JITTER if pieces else 0):
                    pieces.append(np.zeros(min(start, wanted) - count, np.float32))
                    count += pieces[-1].size
                pieces.append(samples)
                count += samples.size
                if count >= wanted:
                    break
        except FFmpegError as error:
            if not pieces:
                raise MediaError(_say(error)) from error
    if not pieces:
        return np.zeros(0, np.float32)
    return np.concatenate(pieces)[early:][:wanted]


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write RGB pictures as H.264 (yuv420p) into the container that the suffix names.

    The same frames give the same bytes with the same libraries: threads are fixed, nothing of the time
    is written.

    Args:
        path: an existing file is replaced.
        frames: pictures ``[height, width, 3]`` of one even size, ``[n, height, width, 3]`` at once or one
            after the other.
        fps: pictures a second.
        metadata: written into the container, as far as it knows the keys.

    Raises:
        ValueError: no frames, or an odd size.
    """
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path}: there are no frames to write")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"{path}: H.264 wants an even size, not {width}x{height}")
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(path, "w", container_options={"fflags": "+bitexact"}) as container:
        container.metadata.update(metadata or {})
        options = {"preset": "veryfast", "crf": "18", "flags": "+bitexact", "threads": "1"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for index, picture in enumerate(chain([first], pictures)):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _mono(container: InputContainer) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
    """(presentation time where it is known, samples); the form of a stream may change on its way."""
    form: tuple[str, str, int] | None = None
    origin_s = start_of(container)
    for frame in container.decode(container.streams.audio[0]):
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if found != form:
            form = found
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        time_s = None if frame.time is None else frame.time - origin_s
        for part in resampler.resample(frame):
            yield time_s, part.to_ndarray()[0].astype(np.float32, copy=False)
            time_s = None
    if form is not None:
        yield from ((None, part.to_ndarray()[0]) for part in resampler.resample(None))


def _say(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
