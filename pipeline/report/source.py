"""The file of a video of a dataset, wherever it is: on this machine, or in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import cv2

from models.errors import MediaError, ReportedError, TransientError
from models.media import open_media
from models.media.still import picture_at
from pipeline.platform.object_file import ObjectFile
from pipeline.platform.storage import SCHEMES, Object, Store, is_url, located
from stages.view import path_of

PICTURE_SIDE_PX = 640
PICTURE_QUALITY = 85


class NoSourceError(Exception):
    """Video whose file cannot be read from here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The file of a video.

    Attributes:
        name: of the file.
        path: of a file of this machine, else None.
        store: of an object, else None; likewise ``object``.
    """

    name: str
    path: Path | None = None
    store: Store | None = None
    object: Object | None = None

    @contextmanager
    def opened(self) -> Iterator[Path | BinaryIO]:
        """Yield what :func:`models.media.open_media` reads."""
        if self.store is None or self.object is None:
            assert self.path is not None
            yield self.path
        else:
            with ObjectFile(self.store, self.object) as file:
                yield cast(BinaryIO, file)

    def jpeg_at(self, time_s: float) -> bytes:
        """Return the picture at a time, decoded from the video, as a JPEG file.

        Raises:
            NoSourceError: the file has no such picture, or cannot be read.
        """
        try:
            with self.opened() as source:
                picture = picture_at(source, time_s, max_side_px=PICTURE_SIDE_PX)
        except (MediaError, TransientError) as error:
            raise NoSourceError(f"{self.name}: {error}") from error
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])
        return jpeg.tobytes()


def source_of(uri: str, *, local: bool) -> Source:
    """Return the file of a video.

    Args:
        uri: from the tables, which are untrusted: a path must lead to a video.
        local: it may be a file of this machine.

    Raises:
        NoSourceError: it is not there, or cannot be read from here.
    """
    scheme = urlsplit(uri).scheme
    if is_url(uri) and scheme in SCHEMES:
        return _object_source(uri)
    if scheme != "file":
        raise NoSourceError(f"the video is at {scheme}://, which is not read from here")
    if not local:
        raise NoSourceError("the video is a file of the machine that made this dataset")
    path = path_of(uri)
    # A path with a null byte is a ValueError.
    with suppress(OSError, ValueError):
        state = path.stat()
        return _checked(Source(name=path.name, path=path), f"{state.st_mtime_ns}-{state.st_size}")
    raise NoSourceError("the file is not on this machine, or has been moved")


@lru_cache(maxsize=4096)
def _checked(source: Source, state: str) -> Source:
    """Return a source that is a video; looked into once until its state changes."""
    try:
        with source.opened() as file, open_media(file):
            return source
    except (MediaError, TransientError) as error:
        raise NoSourceError(f"{source.name} cannot be read as a video: {error}") from error


def _object_source(uri: str) -> Source:
    try:
        store, key = located(uri)
        found = store.head(key)
    except ReportedError as error:
        raise NoSourceError(str(error)) from error
    if found is None:
        raise NoSourceError("the video is no longer in its bucket")
    return _checked(Source(name=PurePosixPath(key).name, store=store, object=found), found.identity)
