"""Decoding by NVIDIA's decoder, through libav's hardware acceleration."""

from __future__ import annotations

import logging
from functools import cache

from av.codec import Codec
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

logger = logging.getLogger(__name__)


@cache
def nvidia_decoder() -> HWAccel | None:
    """Return NVIDIA's decoder for :func:`models.media.open_media`.

    Codecs that it does not know, and files that it cannot decode, are decoded by the processor.

    Returns:
        None if this machine has no such decoder; the reason is logged once a process.
    """
    decoder = HWAccel("cuda", allow_software_fallback=True)
    try:
        # Opening a file with a decoder that does not start would look like a damaged file.
        decoder.create(Codec("h264", "r"))
    except (FFmpegError, NotImplementedError) as error:
        logger.warning("no decoder of an NVIDIA card here (%s): the processor decodes the videos", error)
        return None
    return decoder
