"""Read the container's facts, and turn away what cannot become clips."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import ClassVar, Literal

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from models.errors import MediaError
from models.media import MAX_PIXELS, VIDEO_CODECS, Bounds, decoded, open_media, picture_stream
from models.settings import Count, NonNegative, Positive, Section
from stages.base import BadInputError, Pool, Stage
from stages.reasons import Reason
from stages.records import UNKNOWN_CODEC, Facts, Video
from stages.view import file_of

MAX_ASPECT = 8
"""Long side over short side. Packed frames have a fixed short side, so this bounds their size."""
SAMPLE_ASPECTS = (Fraction(1, 4), Fraction(4))
"""Believable shapes of a sample; others are taken for square."""
TAGGED_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class ProbeMeasuring(Section):
    """Bound on the pixels of a picture; larger ones are never decoded."""

    max_pixels: Count = MAX_PIXELS


class ProbeSettings(ProbeMeasuring):
    """Bounds on a file, checked before its pictures are decoded and while they are.

    Attributes:
        min_kbps: kilobits a second of the whole file; 0 for any.
        max_hold_s: time between two pictures; a longer one is a leap of the time stamps.
    """

    min_duration_s: NonNegative = 5.0
    max_duration_s: Positive = 7200.0
    min_side_px: Count = 64
    min_kbps: NonNegative = 0.0
    max_pictures: Count = 1_000_000
    max_hold_s: Positive = 60.0

    @property
    def bounds(self) -> Bounds:
        """Bounds on the pictures while they are decoded."""
        return Bounds(
            max_span_s=self.max_duration_s, max_hold_s=self.max_hold_s, max_pictures=self.max_pictures
        )


class Probe(Stage):
    """Opens a file by its content and writes down its facts.

    Args:
        require_audio: reject a file without sound before it is decoded.
    """

    name: ClassVar[str] = "probe"
    version: ClassVar[int] = 3
    pool: ClassVar[Pool] = "media"
    reads = ("content_id",)
    writes = ("facts",)
    reads_file = True
    measuring = ProbeMeasuring
    settings: ProbeSettings

    def __init__(self, settings: ProbeSettings, *, require_audio: bool) -> None:
        self.settings = settings
        self.require_audio = require_audio

    def measure(self, video: Video) -> Video:
        with open_media(file_of(video), max_pixels=self.settings.max_pixels) as container:
            return video.with_results(facts=_facts(container, self.settings.max_pixels))

    def judge(self, video: Video) -> Video:
        facts, rules = video.facts, self.settings
        assert facts is not None
        side = min(facts.width_px, facts.height_px)
        if facts.duration_s < rules.min_duration_s:
            detail = f"{facts.duration_s:.2f} s; probe.min_duration_s is {rules.min_duration_s:g}"
            return video.reject(self.name, Reason.TOO_SHORT, detail)
        # The scan finds the true length where only the container announces one.
        if facts.duration_of == "pictures" and facts.duration_s > rules.max_duration_s:
            detail = f"{facts.duration_s:.0f} s; probe.max_duration_s is {rules.max_duration_s:g}"
            return video.reject(self.name, Reason.TOO_LONG, detail)
        if side < rules.min_side_px:
            detail = f"{side} px; probe.min_side_px is {rules.min_side_px}"
            return video.reject(self.name, Reason.TOO_SMALL, detail)
        if 0 < facts.kbps < rules.min_kbps:
            detail = f"{facts.kbps:.0f} kbit/s; probe.min_kbps is {rules.min_kbps:g}"
            return video.reject(self.name, Reason.TOO_SMALL, detail)
        if self.require_audio and not facts.has_audio:
            lacking = "known audio codec" if facts.audio_codec else "audio stream"
            detail = f"no {lacking}, and transcribe.require_speech is true"
            return video.reject(self.name, Reason.NO_AUDIO, detail)
        return video


def _facts(container: InputContainer, max_pixels: int) -> Facts:
    """Facts of an open container; one picture is decoded to be sure that it can be."""
    stream = picture_stream(container)
    if stream is None:
        raise BadInputError(Reason.NO_VIDEO_STREAM, f"{container.format.name} without pictures")
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    if codec not in VIDEO_CODECS:
        raise BadInputError(Reason.NOT_A_VIDEO, f"the codec {codec} is not on the list")
    _check_size(stream, max_pixels)
    picture = next(decoded(container, stream), None)
    if picture is None:
        raise MediaError("no picture can be decoded")
    rotation = picture.rotation % 360
    width, height = displayed(picture.width, picture.height, stream.sample_aspect_ratio)
    if rotation in (90, 270):
        width, height = height, width
    duration_s, duration_of = _announced(container, stream)
    return Facts(
        container=container.format.name,
        video_codec=codec,
        audio_codec=_audio_codec(container),
        duration_s=round(duration_s, 6),
        duration_of=duration_of,
        width_px=width,
        height_px=height,
        fps=round(float(stream.average_rate or stream.guessed_rate or 0), 6),
        rotation_deg=-rotation % 360,
        title=container.metadata.get("title", "").strip(),
        kbps=round((container.bit_rate or 0) / 1000, 1),
    )


def _check_size(stream: VideoStream, max_pixels: int) -> None:
    """Refuse pictures that are too large, before one is decoded.

    Raises:
        BadInputError: they are.
    """
    width, height = stream.width, stream.height
    if width * height > max_pixels:
        detail = f"{width} x {height} px; probe.max_pixels is {max_pixels}"
        raise BadInputError(Reason.TOO_LARGE, detail)
    if max(width, height) > MAX_ASPECT * min(width, height) > 0:
        raise BadInputError(
            Reason.TOO_LARGE, f"{width} x {height} px: sides of more than {MAX_ASPECT} to 1"
        )


def displayed(width: int, height: int, sample_aspect: Fraction | None) -> tuple[int, int]:
    """Width and height in square pixels of a picture with samples of another shape."""
    low, high = SAMPLE_ASPECTS
    if not sample_aspect or not low <= sample_aspect <= high:
        return width, height
    return max(1, round(width * sample_aspect)), height


def _audio_codec(container: InputContainer) -> str | None:
    """The codec of the first sound that can be decoded."""
    streams = container.streams.audio
    known = (stream.codec_context.name for stream in streams if stream.codec_context is not None)
    return next(known, UNKNOWN_CODEC if streams else None)


def _announced(
    container: InputContainer, stream: VideoStream
) -> tuple[float, Literal["pictures", "container"]]:
    """Announced length in seconds, and of what: Matroska knows that of its longest stream only."""
    if "matroska" not in container.format.name:
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base), "pictures"
        return (container.duration or 0) / av.time_base, "container"
    start_s = max(0, container.start_time or 0) / av.time_base

    def length_s(announced_s: float) -> float:
        """Return a length from the first picture on; most writers of Matroska count from 0."""
        return announced_s - start_s if announced_s > start_s else announced_s

    tagged = TAGGED_DURATION.fullmatch(stream.metadata.get("DURATION", ""))
    if tagged:
        hours, minutes, seconds = tagged.groups()
        return length_s(int(hours) * 3600 + int(minutes) * 60 + float(seconds)), "pictures"
    # FFmpeg gives a Matroska stream the length of the container.
    return length_s((container.duration or 0) / av.time_base), "container"
