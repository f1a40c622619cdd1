"""Sound of a video file, as mono samples at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from models.errors import MediaError
from models.media.container import open_media, reason_of, start_of

SAMPLE_RATE = 16_000
MAX_JITTER = SAMPLE_RATE // 10
"""Samples by which times of sound may jump without silence between: containers round them."""


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
                raise MediaError(reason_of(error)) from error
    if not pieces:
        return np.zeros(0, np.float32)
    return np.concatenate(pieces)[early:][:wanted]


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
