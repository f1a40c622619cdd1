"""Videos as MessagePack, for the way between processes."""

from __future__ import annotations

import msgspec

from stages.records import Video

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Video)


def packed(video: Video) -> bytes:
    """Return a video as MessagePack."""
    return _ENCODER.encode(video)


def unpacked(data: bytes) -> Video:
    """Return a video from MessagePack.

    Raises:
        msgspec.DecodeError: it is none, or a value has another type.
    """
    return _DECODER.decode(data)
