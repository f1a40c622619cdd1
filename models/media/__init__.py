"""Reading video files that come from strangers, and writing our own."""

from models.media.container import (
    FORMATS,
    MAX_PIXELS,
    VIDEO_CODECS,
    decoded,
    open_media,
    picture_stream,
    start_of,
)
from models.media.losses import Losses
from models.media.pictures import Bounds, Frame, Timeline, frames
from models.media.sound import SAMPLE_RATE, read_audio
from models.media.writer import write_video

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SAMPLE_RATE",
    "VIDEO_CODECS",
    "Bounds",
    "Frame",
    "Losses",
    "Timeline",
    "decoded",
    "frames",
    "open_media",
    "picture_stream",
    "read_audio",
    "start_of",
    "write_video",
]
