"""Sound of a video file, as mono samples at 16 kHz."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from models.errors import MediaError
from models.media.container import (
    DAMAGE,
    MAX_LEAD_S,
    decoded,
    open_media,
    packets,
    picture_stream,
    start_of,
)
from models.media.languages import language_of

SAMPLE_RATE = 16_000
MAX_JITTER = SAMPLE_RATE // 10
"""Samples by which times of sound may jump without silence between: containers round them."""
MAX_LATE = SAMPLE_RATE // 50
LATE_PIECES = 10
"""Samples by which so many pieces in a row may be late or early: after them their times count."""
BLOCK = SAMPLE_RATE
"""Samples over which channels are compared before they are mixed."""
SILENT_CHANNEL = 1e-4
"""Energy, relative to the loudest channel, below which a channel is left out of the mix: speech may be far
below the hum of a bad cable in another channel."""
SILENT_CENTRE = 1e-7
"""Energy up to which a centre channel is empty whatever the others hold: codecs leave noise in it."""
CANCELLED = 0.4
"""Of ``n`` channels that have nothing in common a mean keeps ``1 / n`` of their energy; channels of which
it keeps less than this share of that cancel each other out."""
STILL_LOUD = 0.25
"""Energy, relative to the loudest channel, from which the channel that was chosen alone remains chosen: a
change between channels of opposite phase clicks."""
CENTRE = "FC"
"""Channel that holds the speech where sound has more than two."""
FIRST_TIMES = 25
"""Frames from which the clock of a stream is read; single time stamps leap."""

Samples = NDArray[np.float32]


class Piece(NamedTuple):
    """A stretch of sound.

    Attributes:
        time_s: presentation time in seconds; None where it follows the piece before.
        samples: ``[channels, n]``.
        centre: index of the centre channel, if there is one.
    """

    time_s: float | None
    samples: Samples
    centre: int | None


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


def read_audio(path: Path, *, until_s: float, track: int = 0, from_s: float = 0.0) -> Samples:
    """Read an audio stream as mono samples at 16 kHz, ``[n]`` in [-1, 1].

    Sample 0 is at presentation time 0, and every other at its own: where the file holds no sound, or
    damaged sound, there is silence; what lies before 0 or after ``until_s`` is cut. After the last sound
    there are no samples. A track that lies outside of the pictures as a whole is stamped by another
    clock, the time of day for instance, and is taken to begin with them.

    Args:
        until_s: end of the pictures, or a little later.
        track: index among the audio streams.
        from_s: start of the pictures.

    Raises:
        MediaError: there is no such stream, or the file cannot be opened.
        models.errors.TransientError: reading failed and may succeed later.
    """
    with open_media(path) as container:
        samples, clock_s = _placed(container, track, until_s, 0.0)
    if clock_s is None or samples.size > from_s * SAMPLE_RATE:
        return samples
    with open_media(path) as container:
        return _placed(container, track, until_s, clock_s - from_s)[0]


def clock_ahead_s(path: Path, track: int) -> float:
    """By how many seconds the clock of a sound track is ahead of the pictures' one.

    It is 0 unless the track lies outside of the pictures as a whole; see :func:`read_audio`.

    Raises:
        MediaError: the file cannot be opened.
    """
    with open_media(path) as container:
        shown = _times(container, picture_stream(container))
    with open_media(path) as container:
        heard = _times(container, container.streams.audio[track])
    if not shown or not heard or (min(heard) < max(shown) and max(heard) > min(shown)):
        return 0.0
    return heard[0] - min(shown)


def _times(container: InputContainer, stream: VideoStream | AudioStream | None) -> array[float]:
    """Times of a stream's packets in seconds, in the order of the file."""
    if stream is None or stream.time_base is None:
        return array("d")
    found = packets(container, stream)
    return array("d", (float(one.pts * stream.time_base) for one in found if one.pts is not None))


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
    end = outside = late = 0
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
            if time_s is not None:
                late = late + 1 if MAX_LATE < abs(start - place) <= SAMPLE_RATE else 0
            start = place if late < LATE_PIECES else start
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
    times = [piece.time_s for piece in first if piece.time_s is not None]
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
    names: list[str] = []

    def parts(frame: av.AudioFrame | None, time_s: float | None) -> Iterator[Piece]:
        assert resampler is not None
        centre = names.index(CENTRE) if len(names) > 2 and CENTRE in names else None
        for part in resampler.resample(frame):
            samples = part.to_ndarray().reshape(-1, len(names)).T
            yield Piece(time_s, samples.astype(np.float32, copy=False), centre)
            time_s = None

    for frame in decoded(container, stream):
        time_s = None if frame.time is None else frame.time - origin_s
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or found != form:
            form, names = found, [channel.name for channel in frame.layout.channels]
            # Not planar: PyAV crashes on eight planes and more.
            resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=SAMPLE_RATE)
        try:
            yield from parts(frame, time_s)
        except DAMAGE:
            resampler = None
    if resampler is not None:
        with suppress(*DAMAGE):
            yield from parts(None, None)


def _mixed(pieces: Iterator[Piece]) -> Iterator[tuple[float | None, Samples]]:
    """Mix each piece down, with the channels of its block that carry sound."""
    block: list[Piece] = []
    chosen: int | None = None

    def mix() -> Iterator[tuple[float | None, Samples]]:
        nonlocal chosen
        weights, chosen = _weights(np.concatenate([piece.samples for piece in block], 1), block[0], chosen)
        for piece in block:
            yield piece.time_s, np.clip(weights @ piece.samples, -1.0, 1.0)
        block.clear()

    for piece in pieces:
        if block and len(piece.samples) != len(block[0].samples):
            yield from mix()
            chosen = None
        block.append(piece)
        if sum(part.samples.shape[1] for part in block) >= BLOCK:
            yield from mix()
    if block:
        yield from mix()


def _weights(channels: Samples, piece: Piece, chosen: int | None) -> tuple[Samples, int | None]:
    """Weights ``[channels]`` that sum up to 1 with which to mix samples ``[channels, n]``.

    The centre channel alone if it carries sound; else the mean of those that do, or one alone where they
    cancel each other out.

    Args:
        chosen: channel that was taken alone before.

    Returns:
        the weights, and the channel that is taken alone from now on.
    """
    # Damaged floating-point sound holds values that are no numbers.
    np.nan_to_num(channels, copy=False)
    energy = np.square(channels, dtype=np.float64).mean(axis=1)
    active = energy >= SILENT_CHANNEL * energy.max()
    centre = piece.centre
    has_centre = centre is not None and active[centre] and energy[centre] > SILENT_CENTRE
    if centre is not None and (has_centre or chosen == centre):
        return _only(centre, len(channels)), centre
    weights: Samples = (active / active.sum()).astype(np.float32)
    mixed = np.square(weights @ channels, dtype=np.float64).mean()
    if mixed >= CANCELLED / active.sum() * energy[active].mean():
        return weights, chosen
    if chosen is None or energy[chosen] < STILL_LOUD * energy.max():
        chosen = int(energy.argmax())
    return _only(chosen, len(channels)), chosen


def _only(channel: int, channels: int) -> Samples:
    weights = np.zeros(channels, np.float32)
    weights[channel] = 1.0
    return weights
