"""Objects of a store as files that can be read at any place, and as answers of a web server by range."""

from __future__ import annotations

import asyncio
import io
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pipeline.platform.storage import ChangedError, Object, Store

BLOCK_BYTES = 1 << 20
BLOCKS = 16
"""Blocks of an open object that are held in memory."""
RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


class ObjectFile(io.RawIOBase):
    """An object, read in blocks as they are needed.

    Args:
        found: the object as it was listed; a later one under its key is refused.

    Raises:
        models.errors.TransientError: on reading, if the store does not answer.
        OSError: on reading, if the object was removed or written again.
    """

    def __init__(self, store: Store, found: Object) -> None:
        self._store, self._found, self._at = store, found, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; see :meth:`io.IOBase.seek`."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most ``size`` of them; fewer at the end."""
        end = self._found.bytes if size < 0 else min(self._found.bytes, self._at + size)
        pieces = []
        while self._at < end:
            number, start = divmod(self._at, BLOCK_BYTES)
            piece = self._block(number)[start : start + end - self._at]
            pieces.append(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * BLOCK_BYTES
        end = min(self._found.bytes, start + BLOCK_BYTES)
        try:
            data = self._store.get(self._found.key, etag=self._found.etag, start=start, end=end)
        except ChangedError as error:
            raise OSError(str(error)) from error
        self._blocks[number] = data
        if len(self._blocks) > BLOCKS:
            self._blocks.popitem(last=False)
        return data


def object_response(
    request: Request, store: Store, found: Object, *, media_type: str, headers: Mapping[str, str]
) -> Response:
    """Return the answer to a request for an object: the whole, or the one range that it names."""
    place = byte_range(request.headers.get("range", ""), found.bytes)
    more = {**headers, "Accept-Ranges": "bytes"}
    if found.etag:
        more["ETag"] = found.etag
    if place is None:
        more["Content-Range"] = f"bytes */{found.bytes}"
        return Response(status_code=416, headers=more)
    start, end = place
    partial = (start, end) != (0, found.bytes)
    if partial:
        more["Content-Range"] = f"bytes {start}-{end - 1}/{found.bytes}"
    more["Content-Length"] = str(end - start)
    status = 206 if partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=more, media_type=media_type)
    body = _pieces(store, found, start, end)
    return StreamingResponse(body, status_code=status, headers=more, media_type=media_type)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the bytes that a Range header names, the end excluded; None if there are none there.

    A header of another form, or one of several ranges, is answered with the whole, as RFC 9110 allows.
    """
    found = RANGE.fullmatch(header.strip())
    if found is None:
        return 0, size
    first, last, length = found.groups()
    if length is not None:
        start, end = max(0, size - int(length)), size
    else:
        start = int(first)
        end = min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return 0, size
    return (start, end) if start < end else None


async def _pieces(store: Store, found: Object, start: int, end: int) -> AsyncIterator[bytes]:
    for at in range(start, end, BLOCK_BYTES):
        stop = min(end, at + BLOCK_BYTES)
        # An object that was written again meanwhile breaks the answer off, whose length is announced.
        yield await asyncio.to_thread(store.get, found.key, etag=found.etag, start=at, end=stop)
