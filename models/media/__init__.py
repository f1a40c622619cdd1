"""Reading video files that come from strangers, and writing our own."""

from models.media.again import read_again
from models.media.ahead import read_ahead
from models.media.container import (
    FORMATS,
    MAX_PIXELS,
    VIDEO_CODECS,
    decoded,
    looks_like_video,
    open_media,
    picture_stream,
    start_of,
)
from models.media.hardware import nvidia_decoder
from models.media.languages import language_of
from models.media.losses import Losses
from models.media.pictures import Bounds, Frame, GrayScaler, Scaler, Timeline, frames
from models.media.sections import InOrderError, Reduced, decoders_for, side_by_side
from models.media.sound import SAMPLE_RATE, AudioTrack, audio_tracks, read_audio
from models.media.sparse import Choice, Skipped
from models.media.writer import write_video

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SAMPLE_RATE",
    "VIDEO_CODECS",
    "AudioTrack",
    "Bounds",
    "Choice",
    "Frame",
    "GrayScaler",
    "InOrderError",
    "Losses",
    "Reduced",
    "Scaler",
    "Skipped",
    "Timeline",
    "audio_tracks",
    "decoded",
    "decoders_for",
    "frames",
    "language_of",
    "looks_like_video",
    "nvidia_decoder",
    "open_media",
    "picture_stream",
    "read_again",
    "read_ahead",
    "read_audio",
    "side_by_side",
    "start_of",
    "write_video",
]
