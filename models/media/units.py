"""Units in the packets of H.264."""

from __future__ import annotations

from collections.abc import Iterator

IDR = 5
"""Type of the units of a picture that needs nothing before it."""


def length_bytes_of(header: bytes) -> int | None:
    """Return the bytes of the length before each unit; None where units lie behind start codes.

    Args:
        header: the stream's ``extradata``.
    """
    return (header[4] & 3) + 1 if header.startswith(b"\x01") and len(header) > 4 else None


def unit_types(data: bytes, length_bytes: int | None) -> Iterator[int]:
    """Yield the types of the units in a packet.

    Args:
        length_bytes: see :func:`length_bytes_of`.
    """
    if length_bytes is None:
        yield from (part[0] & 31 for part in data.split(b"\x00\x00\x01")[1:] if part)
        return
    place = 0
    while place + length_bytes < len(data):
        yield data[place + length_bytes] & 31
        place += length_bytes + int.from_bytes(data[place : place + length_bytes], "big")
