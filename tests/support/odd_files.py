"""Files as cameras, recorders, editors and broken disks make them, each from the same short film.

The film has three shots of one second, 25 pictures a second, 160 x 96 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import av
import cv2
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from examples.drawing import Image, moving_blobs, plain
from models.media import SAMPLE_RATE

FPS = 25
SIZE = (160, 96)
COLOURS = ((200, 120, 60), (60, 140, 200), (120, 190, 80))
AnyPacket: TypeAlias = "Packet[Any]"
Change: TypeAlias = "Callable[[int, AnyPacket], AnyPacket | None]"
"""Returns a packet to write for a packet of pictures and its number, or None for none."""


def pictures(size: tuple[int, int] = SIZE, fps: int = FPS) -> Iterator[Image]:
    """Yield the pictures of the film, RGB ``[height, width, 3]``."""
    for seed, colour in enumerate(COLOURS):
        shot = moving_blobs(seed, colour)(*size)
        for number in range(fps):
            yield shot(number / fps)


def add_pictures(
    container: OutputContainer,
    codec: str = "libx264",
    *,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    **features: object,
) -> VideoStream:
    """Add a stream of pictures; further features are those of the encoder."""
    threads = {"threads": "1", **(options or {})}
    stream = container.add_stream(codec, rate=FPS, options=threads)  # type: ignore[call-overload]
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    for name, value in features.items():
        setattr(stream.codec_context, name, value)
    return stream


def encode(
    container: OutputContainer,
    stream: VideoStream,
    images: Iterator[Image] | Sequence[Image],
    **features: object,
) -> None:
    """Encode pictures into a stream; features are those of every frame."""
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        if stream.pix_fmt != "yuv420p":
            frame = frame.reformat(format=stream.pix_fmt)
        for name, value in features.items():
            setattr(frame, name, value)
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_film(
    path: Path,
    codec: str = "libx264",
    *,
    size: tuple[int, int] = SIZE,
    images: Sequence[Image] = (),
    **features: object,
) -> None:
    """Write the film, or other pictures, as the only stream of a file."""
    with av.open(path, "w") as container:
        stream = add_pictures(container, codec, size=size, **features)  # type: ignore[arg-type]
        encode(container, stream, images or pictures(size))


def rewritten(
    source: Path, target: Path, change: Change | None = None, *, later_s: int = 0, **options: str
) -> None:
    """Copy streams into another container, with all times moved and packets of pictures changed."""
    numbers = count()
    with av.open(source) as old, av.open(target, "w", options=options) as new:
        assert isinstance(old, InputContainer) and isinstance(new, OutputContainer)
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is None or packet.pts is None:
                continue
            shift = int(later_s / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            changed: AnyPacket | None = packet
            if change is not None and packet.stream.type == "video":
                changed = change(next(numbers), packet)
            if changed is not None:
                changed.stream = streams[packet.stream.index]
                new.mux(changed)


def turned(path: Path, clockwise_deg: int) -> None:
    """Write a player's turn into the track header, as a camera that was held upright does."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise_deg]
    matrix = [cos, sin, 0, -sin, cos, 0, 0, 0, 1]
    units = [1 << 30 if index % 3 == 2 else 1 << 16 for index in range(9)]
    data = bytearray(path.read_bytes())
    # From the box's name: version, two dates, number, reserved, duration (24 bytes), reserved (8),
    # layer, group, volume, reserved (8).
    at = data.index(b"tkhd") + 4 + 24 + 8 + 8
    assert data[at : at + 4] == (1 << 16).to_bytes(4, "big"), "not where the matrix was expected"
    for index, (value, unit) in enumerate(zip(matrix, units, strict=True)):
        data[at + 4 * index : at + 4 * index + 4] = (value * unit).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def write_two_streams(path: Path) -> None:
    """Write a preview of plain red, and the film as the default stream after it."""
    with av.open(path, "w") as container:
        preview, film = (add_pictures(container) for _ in range(2))
        preview.disposition, film.disposition = Disposition(0), Disposition.default
        encode(container, preview, [plain((200, 30, 30))(*SIZE)(0.0)] * 75)
        encode(container, film, pictures())


def write_cover(path: Path) -> None:
    """Write a still cover before the film."""
    with av.open(path, "w") as container:
        cover = add_pictures(container, "mjpeg", pix_fmt="yuvj420p", size=(320, 320))
        cover.disposition = Disposition.attached_pic
        film = add_pictures(container)
        frame = av.VideoFrame.from_ndarray(np.full((320, 320, 3), 255, np.uint8))
        frame.pts = 0
        container.mux([*cover.encode(frame), *cover.encode()])
        encode(container, film, pictures())


def write_without_times(path: Path) -> None:
    """Write a transport stream of which every second picture has lost its time stamps."""
    write_film(path)
    data = bytearray(path.read_bytes())
    at, number = data.find(b"\x00\x00\x01\xe0"), 0
    while at >= 0:
        # Flags of the packet's header: time stamps follow. They become filler.
        if number % 2:
            length = data[at + 8]
            data[at + 7] = 0
            data[at + 9 : at + 9 + length] = b"\xff" * length
        at, number = data.find(b"\x00\x00\x01\xe0", at + 4), number + 1
    path.write_bytes(data)


def woven() -> list[Image]:
    """Return pictures of two fields each, half a picture apart; cuts fall between two fields."""
    fields = list(pictures(fps=2 * FPS))
    both = zip(fields[1::2], fields[2::2], strict=False)
    images = []
    for upper, lower in both:
        image = upper.copy()
        image[1::2] = lower[1::2]
        images.append(image)
    return images


def letterboxed() -> list[Image]:
    """Return the film between black bars above and below."""
    return [
        np.asarray(cv2.copyMakeBorder(image, 12, 12, 0, 0, cv2.BORDER_CONSTANT), np.uint8)
        for image in pictures((160, 72))
    ]


def pillarboxed(colour: tuple[int, int, int]) -> list[Image]:
    """Return the film between bars of a colour left and right, as wide as itself together."""
    return [
        np.asarray(cv2.copyMakeBorder(image, 0, 0, 80, 80, cv2.BORDER_CONSTANT, value=colour), np.uint8)
        for image in pictures()
    ]


def write_channels(
    path: Path, *tracks: NDArray[np.float32], names: Sequence[str] = (), layout: str = "stereo"
) -> None:
    """Write one track of floating-point sound ``[channels, n]`` at 16 kHz after the other."""
    with av.open(path, "w") as container:
        for index in range(len(tracks)):
            sound = container.add_stream("pcm_f32le", rate=SAMPLE_RATE)
            sound.codec_context.layout = layout
            if names:
                sound.metadata["language"] = names[index]
        for sound, channels in zip(container.streams.audio, tracks, strict=True):
            interleaved = np.ascontiguousarray(channels.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved.astype(np.float32), "flt", layout)
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            container.mux([*sound.encode(frame), *sound.encode(None)])
