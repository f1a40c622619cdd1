"""Opening and decoding untrusted video files.

Files are read through our own file object, so that the demuxer knows neither their name nor any
protocol: a playlist or a reference inside a file cannot make it open another one. Formats and codecs
come from closed lists; the content decides, not the name of the file.

All errors of opening, reading and decoding are sorted here, once: damage is skipped, an unusable file
raises :class:`models.errors.MediaError`, a failing disk or network :class:`models.errors.TransientError`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, TypeAlias, overload

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from models.errors import MediaError, TransientError
from models.media.losses import AnyPacket, Losses

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
MAX_PIXELS = 4096 * 4096
"""Default bound on a picture; a decoder holds up to twenty of them, which is 500 MB at 4:2:0."""
MAX_LEAD_S = 60.0
"""Sound that starts earlier than this before the pictures has a clock of its own."""
MAX_BOXES = 1000
"""Boxes of an MP4 file among which its index is looked for."""
MAX_FAILED_READS = 100
"""Errors of the demuxer in a row after which a file counts as ended."""
TRANSIENT = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ENETDOWN, errno.ECONNRESET}
)
DAMAGE = (FFmpegError, ValueError, LookupError, ArithmeticError, NotImplementedError)
"""Exceptions by which PyAV reports damage: not only FFmpeg's own, also ``IndexError`` for a stream that
appears in the middle of a file, and ``ValueError`` for a codec without a decoder."""

Before: TypeAlias = Callable[[AnyPacket], None]


class _NamelessFile:
    """Reads and seeks, and gives nothing else away."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise _sorted(error) from error

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise _sorted(error) from error
            # A damaged offset lies before the start of the file. Answer as a plain file does.
            return -errno.EINVAL

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def open_media(
    source: Path | BinaryIO, *, max_pixels: int = MAX_PIXELS, decoder: HWAccel | None = None
) -> Iterator[InputContainer]:
    """Open a container of the closed list.

    Args:
        source: path, or a seekable file of bytes, which stays open.
        max_pixels: decoders refuse larger pictures, before they reserve memory.
        decoder: device that decodes the pictures if it can; None for the processor.

    Raises:
        MediaError: the content is not one of them, or is damaged, or the file cannot be read.
        TransientError: the disk or the network failed; reading may succeed later.
    """
    with _opened(source) if isinstance(source, Path) else nullcontext(source) as file:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "max_pixels": str(max_pixels)}
        try:
            container = av.open(
                _NamelessFile(file), options=options, metadata_errors="replace", hwaccel=decoder
            )
        except DAMAGE as error:
            raise _refused(file, reason_of(error)) from error
        assert isinstance(container, InputContainer)
        with container:
            for stream in (*container.streams.video, *container.streams.audio):
                if stream.codec_context is not None:
                    stream.codec_context.options = {"max_pixels": str(max_pixels)}
            yield container


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file that has content; a pipe or a device must not block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _sorted(error) from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise MediaError("not a regular file", "unreadable")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_size == 0:
            raise MediaError("the file has no bytes", "empty_file")
        yield file


def _refused(file: BinaryIO, reason: str) -> MediaError:
    """The error to raise for a file that FFmpeg does not open for a reason."""
    if not _begins_like_video(file):
        return MediaError(f"no container that videos come in ({reason})", "not_a_video")
    if _lacks_index(file):
        return MediaError("no index (moov): the file was cut off, not finished, or lacks bytes", "corrupt")
    return MediaError(f"the container cannot be opened ({reason})", "corrupt")


def _lacks_index(file: BinaryIO) -> bool:
    """Tell whether a file is made of MP4's boxes and lacks the one that says where the pictures are."""
    place = seen = 0
    while seen < MAX_BOXES:
        file.seek(place)
        head = file.read(16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if name == b"moov" or (not seen and (4, name) not in SIGNATURES):
            return False
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or size < 8:
            return seen > 0
        place, seen = place + size, seen + 1
    return False


def _sorted(error: OSError) -> Exception:
    """The error to raise for a failure of the file system."""
    detail = error.strerror or str(error)
    return TransientError(detail) if error.errno in TRANSIENT else MediaError(detail, "unreadable")


def packets(
    container: InputContainer, stream: VideoStream | AudioStream, losses: Losses | None = None
) -> Iterator[AnyPacket]:
    """Demux a stream to its end; where the container is damaged, continue behind the damage.

    Args:
        losses: records how far the streams reach, all of them.
    """
    failed = 0
    wanted = () if losses else (stream,)
    in_line = "matroska" in container.format.name or container.format.name == "flv"
    while failed < MAX_FAILED_READS:
        try:
            for packet in container.demux(*wanted):
                failed = 0
                # PyAV ends with an empty packet that would flush the decoder.
                if not packet.size:
                    continue
                if losses:
                    losses.read(packet, in_line=in_line)
                if packet.stream is stream:
                    yield packet
            return
        except DAMAGE:
            failed += 1


@overload
def decoded(
    container: InputContainer,
    stream: VideoStream,
    losses: Losses | None = None,
    before: Before | None = None,
) -> Iterator[VideoFrame]: ...
@overload
def decoded(
    container: InputContainer,
    stream: AudioStream,
    losses: Losses | None = None,
    before: Before | None = None,
) -> Iterator[AudioFrame]: ...
def decoded(
    container: InputContainer,
    stream: VideoStream | AudioStream,
    losses: Losses | None = None,
    before: Before | None = None,
) -> Iterator[VideoFrame | AudioFrame]:
    """Decode a stream to its end; a damaged packet costs its own frames only.

    Args:
        losses: records which pictures were lost.
        before: called with every packet that goes to the decoder.
    """
    record = losses or Losses()
    for packet in packets(container, stream, losses):
        record.sent(packet)
        if before is not None:
            before(packet)
        try:
            found = packet.decode()
        except DAMAGE:
            record.failed()
            continue
        for frame in found:
            record.came(frame)
            yield frame
    # An empty packet ends the stream; unlike None it gives the frames their time base.
    end = Packet()
    end.time_base = stream.time_base or end.time_base
    try:
        rest = stream.codec_context.decode(end)
    except DAMAGE:
        return
    for last in rest:
        record.came(last)
        yield last
    record.ended()


def start_of(container: InputContainer) -> float:
    """Time in seconds that counts as 0: the container's first presentation time.

    Transport streams rarely begin at 0. Where sound begins long before the pictures, it is stamped by
    another clock, and the pictures' start counts.
    """
    start_s = (container.start_time or 0) / av.time_base
    stream = picture_stream(container)
    if stream is None or stream.start_time is None or stream.time_base is None:
        return start_s
    pictures_s = float(stream.start_time * stream.time_base)
    return pictures_s if pictures_s - start_s > MAX_LEAD_S else start_s


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The stream of moving pictures to read: the default one, else the first that is not a cover."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [found for found in container.streams.video if not found.disposition & covers]
    return next((found for found in moving if found.disposition & Disposition.default), None) or next(
        iter(moving), None
    )


def looks_like_video(path: Path) -> bool:
    """Tell whether a file begins like a known container, damaged or not; of one that fails, that it does.

    Some videos begin in another way: only :func:`open_media` decides.
    """
    try:
        with _opened(path) as file:
            return _begins_like_video(file)
    except MediaError:
        return False
    except (OSError, TransientError):
        return True


def _begins_like_video(file: BinaryIO) -> bool:
    """Tell whether the first bytes are those of a known container, damaged or not."""
    file.seek(0)
    head = file.read(16)
    return any(head[at : at + len(mark)] == mark for at, mark in SIGNATURES)


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
