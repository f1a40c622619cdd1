"""Read the container's facts, and turn away what cannot become clips."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote_to_bytes, urlsplit

from av.container import InputContainer
from av.error import FFmpegError

from models.errors import MediaError
from models.media import VIDEO_CODECS, looks_like_video, open_media, picture_stream
from stages.base import BadInputError, Pool, Stage
from stages.records import Facts, Reason, Video


def path_of(uri: str) -> Path:
    """The local path behind a ``file:`` URI, byte for byte."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRules:
    """Bounds on a file.

    Attributes:
        require_audio: whether a file without sound is given up before it is decoded.
    """

    min_duration_s: float
    max_duration_s: float
    min_side_px: int
    require_audio: bool


class Probe(Stage):
    """Opens a file by its content and writes down its facts."""

    name: ClassVar[str] = "probe"
    pool: ClassVar[Pool] = "media"
    reads = ("content_id",)
    writes = ("facts",)

    def __init__(self, rules: ProbeRules) -> None:
        self.rules = rules

    def measure(self, video: Video) -> Video:
        path = path_of(video.uri)
        try:
            if path.stat().st_size == 0:
                raise BadInputError(Reason.EMPTY_FILE, "the file has no bytes")
            with open_media(path) as container:
                return replace(video, facts=_facts(container))
        except MediaError as error:
            reason = Reason.CORRUPT if looks_like_video(path) else Reason.NOT_A_VIDEO
            raise BadInputError(reason, error.detail) from error
        except OSError as error:
            raise BadInputError(Reason.UNREADABLE, error.strerror or str(error)) from error

    def judge(self, video: Video) -> Video:
        facts, rules = video.facts, self.rules
        assert facts is not None
        side = min(facts.width_px, facts.height_px)
        if facts.duration_s < rules.min_duration_s:
            detail = f"{facts.duration_s:.2f} s; probe.min_duration_s is {rules.min_duration_s:g}"
            return video.reject(self.name, Reason.TOO_SHORT, detail)
        if facts.duration_s > rules.max_duration_s:
            detail = f"{facts.duration_s:.0f} s; probe.max_duration_s is {rules.max_duration_s:g}"
            return video.reject(self.name, Reason.TOO_LONG, detail)
        if side < rules.min_side_px:
            detail = f"{side} px; probe.min_side_px is {rules.min_side_px}"
            return video.reject(self.name, Reason.TOO_SMALL, detail)
        if rules.require_audio and not facts.has_audio:
            detail = "no audio stream, and transcribe.require_speech is true"
            return video.reject(self.name, Reason.NO_AUDIO, detail)
        return video


def _facts(container: InputContainer) -> Facts:
    """Facts of an open container; one picture is decoded to be sure that it can be."""
    stream = picture_stream(container)
    if stream is None:
        raise BadInputError(Reason.NO_VIDEO_STREAM, f"{container.format.name} without pictures")
    codec = stream.codec_context.name
    if codec not in VIDEO_CODECS:
        raise BadInputError(Reason.NOT_A_VIDEO, f"the codec {codec} is not on the list")
    try:
        picture = next(container.decode(stream), None)
    except FFmpegError as error:
        raise MediaError(f"the first picture cannot be decoded: {error.strerror}") from error
    if picture is None:
        raise MediaError("no picture can be decoded")
    if stream.duration and stream.time_base:
        duration_s = float(stream.duration * stream.time_base)
    else:
        duration_s = (container.duration or 0) / 1_000_000
    audio = container.streams.audio[0] if container.streams.audio else None
    rotation = picture.rotation % 360
    width, height = picture.width, picture.height
    if rotation in (90, 270):
        width, height = height, width
    return Facts(
        container=container.format.name,
        video_codec=codec,
        audio_codec=audio.codec_context.name if audio else None,
        duration_s=round(duration_s, 6),
        width_px=width,
        height_px=height,
        fps=round(float(stream.average_rate or stream.guessed_rate or 0), 6),
        rotation_deg=-rotation % 360,
        title=container.metadata.get("title", "").strip(),
    )
