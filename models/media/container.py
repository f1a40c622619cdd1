"""Opening video files that come from strangers.

Files are read through our own file object, so that the demuxer knows neither their name nor any
protocol: a playlist or a reference inside a file cannot make it open another one. Formats and codecs
come from closed lists; content decides, the file's name plays no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

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
            raise MediaError(reason_of(error)) from error
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


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
