"""Write small narrated films whose every cut and spoken sentence is known.

A film is a list of scenes; a scene is a picture for some seconds and at most one sentence. What was
written is returned as ``Truth``, on the clock of the file: a cut is the presentation time of the
first frame of a shot, a sentence is the interval between its first and its last audible sample. The
same call writes the same bytes with the same versions of the libraries: seeds and threads are fixed
and nothing of the time or the machine is written.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from examples import espeak
from examples.drawing import Image, Picture, Watermark, plain

SAMPLE_RATE = espeak.SAMPLE_RATE
BLACK = plain((0, 0, 0))

_AUDIO_BLOCK_S, _AUDIO_BITS_PER_S = 0.5, 48_000
# Below this share of the loudest sample the voice counts as silent (-40 dB).
_AUDIBLE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A picture for some time, and what is said.

    Attributes:
        duration_s: how long it lasts; rounded so that it ends on the frame grid.
        picture: what is seen. Neighbouring scenes that hold the same picture object are one shot.
        sentence: what is said, or ``None``.
        speak_at_s: when the voice starts, from the start of the scene. A sentence may run on into
            the next scene.
        voice: the espeak-ng voice, e.g. ``en-us``, ``en-us+f3``, ``fr``.
        words_per_minute: speaking rate.
    """

    duration_s: float
    picture: Picture = BLACK
    sentence: str | None = None
    speak_at_s: float = 0.4
    voice: str = "en-us"
    words_per_minute: int = 150


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence and when it is heard, in seconds of presentation time."""

    start_s: float
    end_s: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Truth:
    """Content of a written file.

    Attributes:
        duration_s: from the first frame or sample to the end of the last.
        num_frames: frames in the file; 0 for sound alone.
        cuts_s: presentation time of the first frame of every shot but the first.
        spoken: the audible sentences, in order; empty if the file has no audio stream.
    """

    duration_s: float
    num_frames: int
    cuts_s: tuple[float, ...]
    spoken: tuple[Spoken, ...]


@lru_cache(maxsize=256)
def speak(text: str, *, voice: str = "en-us", words_per_minute: int = 150) -> NDArray[np.float32]:
    """Say a text, without silence before or after it.

    Args:
        text: what to say.
        voice: an espeak-ng voice.
        words_per_minute: speaking rate.

    Returns:
        (samples,) mono at ``SAMPLE_RATE``, in [-1, 1], read-only.

    Raises:
        RuntimeError: espeak-ng failed; the message says why.
        ValueError: the text has nothing to say in it.
    """
    program = [sys.executable, espeak.__file__, voice, str(words_per_minute)]
    run = subprocess.run(program, input=text.encode(), capture_output=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"cannot speak {text!r}: {run.stderr.decode().strip()}")
    samples = np.frombuffer(run.stdout, np.int16).astype(np.float32) / 32768.0
    loudness = np.abs(samples)
    audible = np.flatnonzero(loudness > _AUDIBLE * loudness.max(initial=0.0))
    if audible.size == 0:
        raise ValueError(f"there is nothing to say in {text!r}")
    voiced: NDArray[np.float32] = samples[audible[0] : audible[-1] + 1]
    voiced.setflags(write=False)
    return voiced


def write_video(
    path: Path,
    scenes: Sequence[Scene],
    *,
    width_px: int = 480,
    height_px: int = 360,
    fps: int | Fraction = 15,
    audio: bool = True,
    watermark: Watermark | None = None,
    dropped_share: float = 0.0,
) -> Truth:
    """Write H.264, and AAC unless ``audio`` is false, in the container that the suffix names.

    The sound track is held in memory, 0.3 GB for an hour; without audio no length is too long.

    Args:
        path: the file to write; an existing one is replaced. ``.mp4`` and ``.mov`` keep times
            exactly, ``.mkv`` rounds them to milliseconds.
        scenes: at least one; none shorter than a frame.
        width_px: even.
        height_px: even.
        fps: frames a second; a ``Fraction`` such as ``Fraction(30000, 1001)`` is kept exactly.
        audio: write an audio stream; it is silent where nothing is said.
        watermark: lies over every frame.
        dropped_share: share of frames left out at random, with the times of the others unchanged,
            so that the frame rate varies. The first of a shot and the last of the film stay.

    Raises:
        ValueError: no scenes; a scene shorter than a frame; an odd size; an unknown suffix; a
            sentence that begins before the one before it ended, or ends after the film.
        RuntimeError: espeak-ng failed.
        OSError: the file cannot be written.
    """
    if width_px % 2 or height_px % 2:
        raise ValueError(f"H.264 wants an even size, not {width_px}x{height_px}")
    shots = _shots(scenes, Fraction(fps))
    total = sum(count for _, count in shots)
    duration_s = float(total / Fraction(fps))
    track, spoken = _sound_track(scenes, duration_s) if audio else (None, ())
    firsts = np.cumsum([0] + [count for _, count in shots])
    kept = np.random.default_rng(0).random(total) >= dropped_share
    kept[firsts[:-1]] = kept[-1] = True

    with av.open(path, "w", container_options={"fflags": "+bitexact"}) as container:
        stream = _h264(container, width_px, height_px, Fraction(fps))
        sound = _Sound(container, track, "aac") if track is not None else None
        images = _images(shots, width_px, height_px, fps, watermark)
        for index, image in enumerate(images):
            if sound:
                sound.write_until(index / float(fps))
            if kept[index]:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index, 1 / Fraction(fps)
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            sound.finish()
    cuts = tuple(float(int(first) / Fraction(fps)) for first in firsts[1:-1])
    return Truth(duration_s, int(kept.sum()), cuts, spoken)


def _h264(container: OutputContainer, width_px: int, height_px: int, fps: Fraction) -> VideoStream:
    options = {"preset": "veryfast", "crf": "24", "flags": "+bitexact", "threads": "2"}
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
    stream.codec_context.time_base = 1 / fps
    return stream


def write_audio(path: Path, scenes: Sequence[Scene]) -> Truth:
    """Write the sound of the scenes alone; ``.wav`` is written as PCM, ``.m4a`` as AAC.

    Raises:
        ValueError: no scenes, an unknown suffix, or a sentence out of place (see ``write_video``).
        RuntimeError: espeak-ng failed.
        OSError: the file cannot be written.
    """
    if not scenes:
        raise ValueError("there are no scenes to write")
    track, spoken = _sound_track(scenes, sum(scene.duration_s for scene in scenes))
    with av.open(path, "w", container_options={"fflags": "+bitexact"}) as container:
        _Sound(container, track, "pcm_s16le" if path.suffix == ".wav" else "aac").finish()
    return Truth(track.size / SAMPLE_RATE, 0, (), spoken)


def _shots(scenes: Sequence[Scene], fps: Fraction) -> list[tuple[Picture, int]]:
    """Each shot's picture and number of frames."""
    if not scenes:
        raise ValueError("there are no scenes to write")
    ends_s = np.cumsum([0.0] + [scene.duration_s for scene in scenes])
    counts = [later - earlier for earlier, later in pairwise(round(end * fps) for end in ends_s)]
    for scene, count in zip(scenes, counts, strict=True):
        if count < 1:
            raise ValueError(f"a scene of {scene.duration_s} s has no frame at {fps} frames/s")
    both = zip(scenes, counts, strict=True)
    grouped = [list(group) for _, group in groupby(both, key=lambda pair: id(pair[0].picture))]
    return [(group[0][0].picture, sum(count for _, count in group)) for group in grouped]


def _images(
    shots: Sequence[tuple[Picture, int]],
    width_px: int,
    height_px: int,
    fps: int | Fraction,
    watermark: Watermark | None,
) -> Iterator[Image]:
    """The frames of the film, in order."""
    stamp = watermark.prepare(width_px, height_px) if watermark else None
    for picture, count in shots:
        animation = picture(width_px, height_px)
        for index in range(count):
            image = animation(index / float(fps))
            yield stamp(image) if stamp else image


def _sound_track(
    scenes: Sequence[Scene], duration_s: float
) -> tuple[NDArray[np.float32], tuple[Spoken, ...]]:
    """The (samples,) of the whole film and when each sentence is heard."""
    track = np.zeros(round(duration_s * SAMPLE_RATE), np.float32)
    spoken: list[Spoken] = []
    scene_start_s, free = 0.0, 0
    for scene in scenes:
        if scene.sentence is not None:
            voiced = speak(scene.sentence, voice=scene.voice, words_per_minute=scene.words_per_minute)
            start = round((scene_start_s + scene.speak_at_s) * SAMPLE_RATE)
            end = start + voiced.size
            if start < free or end > track.size:
                raise ValueError(
                    f"{scene.sentence!r} would be heard from {start / SAMPLE_RATE:.2f} to "
                    f"{end / SAMPLE_RATE:.2f} s, but there is room from {free / SAMPLE_RATE:.2f} "
                    f"to {track.size / SAMPLE_RATE:.2f} s; lengthen the scenes or move it"
                )
            track[start:end] = voiced
            spoken.append(Spoken(start / SAMPLE_RATE, end / SAMPLE_RATE, scene.sentence))
            free = end
        scene_start_s += scene.duration_s
    return track, tuple(spoken)


class _Sound:
    """Feeds a track to a container in blocks, so that sound and picture lie interleaved."""

    def __init__(
        self,
        container: OutputContainer,
        track: NDArray[np.float32],
        codec: Literal["aac", "pcm_s16le"],
    ) -> None:
        self._container = container
        self._track = track
        stream = container.add_stream(codec, rate=SAMPLE_RATE)
        stream.codec_context.layout = "mono"
        stream.codec_context.bit_rate = _AUDIO_BITS_PER_S
        stream.codec_context.options = {"flags": "+bitexact", "aac_coder": "fast"}
        self._stream = stream
        self._next = 0

    def write_until(self, time_s: float) -> None:
        """Write all blocks that begin at or before a time."""
        size = round(_AUDIO_BLOCK_S * SAMPLE_RATE)
        while self._next < self._track.size and self._next <= time_s * SAMPLE_RATE:
            block = self._track[None, self._next : self._next + size]
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts, frame.time_base = self._next, Fraction(1, SAMPLE_RATE)
            self._container.mux(self._stream.encode(frame))
            self._next += size

    def finish(self) -> None:
        """Write what is left and close the stream."""
        self.write_until(self._track.size / SAMPLE_RATE)
        self._container.mux(self._stream.encode(None))
