"""Writing videos of our own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray

X264 = {"preset": "veryfast", "flags": "+bitexact", "threads": "1", "mbtree": "0"}
"""Options of x264 with which the same pictures give the same bytes: with macroblock trees, its code for
AVX-512 reads memory that was never written."""


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    metadata: Mapping[str, str] | None = None,
    crf: int = 18,
    sound: tuple[NDArray[np.float32], int] | None = None,
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
        crf: constant rate factor, 0 (lossless) to 51 (worst).
        sound: samples ``[n, channels]`` in [-1, 1] of one or two channels, and their rate in Hz; encoded as
            AAC.

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
        stream = container.add_stream("libx264", rate=rate, options=X264 | {"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        layout = "mono" if sound is None or sound[0].shape[1] == 1 else "stereo"
        track = None if sound is None else container.add_stream("aac", rate=sound[1], layout=layout)
        for index, picture in enumerate(chain([first], pictures)):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None and track is not None:
            samples, rate_hz = sound
            planes = np.ascontiguousarray(samples.T.clip(-1, 1), np.float32)
            audio = AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            audio.sample_rate, audio.pts = rate_hz, 0
            container.mux(track.encode(audio))
            container.mux(track.encode())
