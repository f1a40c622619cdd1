"""Sound of a video file, as mono samples at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from models.errors import MediaError
from models.media.container import DAMAGE, MAX_LEAD_S, decoded, open_media, start_of
from models.media.languages import language_of

SAMPLE_RATE = 16_000
MAX_JITTER = SAMPLE_RATE // 10
"""Samples by which times of sound may jump without silence between: containers round them."""
BLOCK = SAMPLE_RATE
"""Samples over which channels are compared before they are mixed."""
SILENT_CHANNEL = 1e-2
"""Energy, relative to the loudest channel, below which a channel is left out of the mix."""
CANCELLED = 0.4
"""Of ``n`` channels that have nothing in common a mean keeps ``1 / n`` of their energy; channels of which
it keeps less than this share of that cancel each other out."""
FIRST_TIMES = 25
"""Frames from which the clock of a stream is read; single time stamps leap."""

Samples = NDArray[np.float32]
Piece = tuple[float | None, Samples]
"""Presentation time in seconds where it is known, and samples ``[channels, n]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """A stream of sound that can be decoded.

    Attributes:
        index: among the audio streams of the file.
        language: ISO 639-1 code, empty where the file does not state one.
    """

    index: int
    language: str


def audio_tracks(path: Path) -> list[AudioTrack]:
    """The sound tracks of a file in the order in which to look for speech: the default one first.

    Raises:
        MediaError: the file cannot be opened.
    """
    asides = Disposition.comment | Disposition.visual_impaired | Disposition.karaoke

    def rank(stream: AudioStream) -> tuple[bool, bool]:
        return bool(stream.disposition & asides), not stream.disposition & Disposition.default

    with open_media(path) as container:
        known = [
            (rank(stream), AudioTrack(index=index, language=language_of(stream)))
            for index, stream in enumerate(container.streams.audio)
            if stream.codec_context is not None
        ]
    return [track for _, track in sorted(known, key=lambda found: found[0])]


def read_audio(path: Path, *, until_s: float, track: int = 0) -> Samples:
    """Read an audio stream as mono samples at 16 kHz, ``[n]`` in [-1, 1].

    Sample 0 is at presentation time 0, and every other at its own: where the file holds no sound, or
    damaged sound, there is silence; what lies before 0 or after ``until_s`` is cut. After the last sound
    there are no samples. A track that lies outside of the pictures as a whole is stamped by another
    clock, the time of day for instance, and is taken to begin with them.

    Args:
        track: index among the audio streams.

    Raises:
        MediaError: there is no such stream, or the file cannot be opened.
        models.errors.TransientError: reading failed and may succeed later.
    """
    with open_media(path) as container:
        samples, clock_s = _placed(container, track, until_s, 0.0)
    if samples.size or clock_s is None or -MAX_LEAD_S <= clock_s <= until_s + MAX_LEAD_S:
        return samples
    with open_media(path) as container:
        return _placed(container, track, until_s, clock_s)[0]


def _placed(
    container: InputContainer, track: int, until_s: float, zero_s: float
) -> tuple[Samples, float | None]:
    """The samples from 0 to ``until_s``, and the time of the first sound.

    Args:
        zero_s: time that counts as 0.
    """
    if track >= len(container.streams.audio) or container.streams.audio[track].codec_context is None:
        raise MediaError("no audio stream that can be decoded")
    stream = container.streams.audio[track]
    wanted = max(0, round(until_s * SAMPLE_RATE))
    # Memory is reserved as it is written.
    samples = np.zeros(wanted, np.float32)
    end = outside = 0
    place: int | None = None
    origin_s = start_of(container) + zero_s
    if not zero_s:
        _skip_lead(container, stream, origin_s)
    pieces = _pieces(container, stream, origin_s)
    first = list(islice(pieces, FIRST_TIMES))
    for time_s, piece in _mixed(chain(first, pieces)):
        start = place if time_s is None else round(time_s * SAMPLE_RATE)
        start = 0 if start is None else start
        if place is not None and 0 <= place < wanted and start - place <= MAX_JITTER:
            start = place
        if start >= wanted or start + piece.size <= 0:
            outside += piece.size
            # A single time stamp may leap, but decoding sound that is not needed must end.
            if outside > 2 * MAX_LEAD_S * SAMPLE_RATE:
                break
        place = start + piece.size
        if start >= wanted:
            end = wanted if end else 0
            continue
        low, high = max(0, start), min(wanted, place)
        if low < high:
            samples[low:high] = piece[low - start : high - start]
            end = high
    return samples[:end], _clock_s(first)


def _clock_s(first: list[Piece]) -> float | None:
    """Return when sound begins by its own clock: a single time stamp may leap, two in a row agree."""
    times = [time_s for time_s, _ in first if time_s is not None]
    agreed = (a for a, b in pairwise(times) if 0 <= b - a < MAX_LEAD_S)
    return next(agreed, times[0] if times else None)


def _skip_lead(container: InputContainer, stream: AudioStream, origin_s: float) -> None:
    """Seek past sound that begins long before the pictures."""
    if stream.start_time is None or stream.time_base is None:
        return
    if float(stream.start_time * stream.time_base) < origin_s - MAX_LEAD_S:
        with suppress(*DAMAGE):
            container.seek(round(origin_s / stream.time_base), stream=stream)


def _pieces(container: InputContainer, stream: AudioStream, origin_s: float) -> Iterator[Piece]:
    """Decode at 16 kHz; the form of a stream may change on its way."""
    form: tuple[str, str, int] | None = None
    resampler: av.AudioResampler | None = None
    for frame in decoded(container, stream):
        time_s = None if frame.time is None else frame.time - origin_s
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or found != form:
            form = found
            resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=SAMPLE_RATE)
        try:
            parts = resampler.resample(frame)
        except DAMAGE:
            resampler = None
            continue
        for part in parts:
            yield time_s, part.to_ndarray().astype(np.float32, copy=False)
            time_s = None
    if resampler is not None:
        with suppress(*DAMAGE):
            for part in resampler.resample(None):
                yield None, part.to_ndarray().astype(np.float32, copy=False)


def _mixed(pieces: Iterator[Piece]) -> Iterator[tuple[float | None, Samples]]:
    """Mix each piece down, with the channels of its block that carry sound."""
    block: list[Piece] = []

    def mix() -> Iterator[tuple[float | None, Samples]]:
        weights = _weights(np.concatenate([part for _, part in block], axis=1))
        for time_s, part in block:
            yield time_s, np.clip(weights @ part, -1.0, 1.0)
        block.clear()

    for piece in pieces:
        if block and piece[1].shape[0] != block[0][1].shape[0]:
            yield from mix()
        block.append(piece)
        if sum(part.shape[1] for _, part in block) >= BLOCK:
            yield from mix()
    if block:
        yield from mix()


def _weights(channels: Samples) -> Samples:
    """Weights ``[channels]`` that sum up to 1 with which to mix samples ``[channels, n]``.

    The mean of the channels that carry sound, or the loudest alone where they cancel each other out.
    """
    # Damaged floating-point sound holds values that are no numbers.
    np.nan_to_num(channels, copy=False)
    energy = np.square(channels, dtype=np.float64).mean(axis=1)
    active = energy >= SILENT_CHANNEL * energy.max()
    weights: Samples = (active / active.sum()).astype(np.float32)
    mixed = np.square(weights @ channels, dtype=np.float64).mean()
    if mixed < CANCELLED / active.sum() * energy[active].mean():
        weights = np.zeros_like(weights)
        weights[energy.argmax()] = 1.0
    return weights
