"""Reading video files that come from strangers, and writing our own."""

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
from models.media.sound import SAMPLE_RATE, AudioTrack, audio_tracks, read_audio
from models.media.sparse import NotSparseError, Skipped, read_again, sparse_frames
from models.media.writer import write_video

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SAMPLE_RATE",
    "VIDEO_CODECS",
    "AudioTrack",
    "Bounds",
    "Frame",
    "GrayScaler",
    "Losses",
    "NotSparseError",
    "Scaler",
    "Skipped",
    "Timeline",
    "audio_tracks",
    "decoded",
    "frames",
    "language_of",
    "looks_like_video",
    "nvidia_decoder",
    "open_media",
    "picture_stream",
    "read_again",
    "read_ahead",
    "read_audio",
    "sparse_frames",
    "start_of",
    "write_video",
]
