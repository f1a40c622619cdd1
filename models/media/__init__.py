"""Reading video files that come from strangers, and writing our own."""

from models.media.container import (
    FORMATS,
    VIDEO_CODECS,
    looks_like_video,
    open_media,
    picture_stream,
    start_of,
)
from models.media.pictures import Frame, frames
from models.media.sound import SAMPLE_RATE, read_audio
from models.media.writer import write_video

__all__ = [
    "FORMATS",
    "SAMPLE_RATE",
    "VIDEO_CODECS",
    "Frame",
    "frames",
    "looks_like_video",
    "open_media",
    "picture_stream",
    "read_audio",
    "start_of",
    "write_video",
]
