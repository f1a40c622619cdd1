"""Files of videos as stages open them: where they lie, or as this node's copy of an object in a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.platform.cache import CACHE_BYTES, CachedFile, FileCache, cache_folder
from pipeline.platform.storage import ChangedError, is_url, located
from stages.base import BadInputError
from stages.reasons import Reason
from stages.records import Video
from stages.view import identity_of, path_of

REMOVED = "the file was removed during the run"
CHANGED = "the file was replaced or written during the run"


class VideoFiles:
    """Opens the files of videos.

    Args:
        cache_bytes: bound of this node's copies of objects.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache = FileCache(cache_folder(), cache_bytes)

    @contextmanager
    def opened(self, video: Video) -> Iterator[Path]:
        """Yield the local path of a video's file, which is the one that was listed.

        Raises:
            BadInputError: it was replaced or removed.
            models.errors.TransientError: the store does not answer.
            OSError: the disk is full.
        """
        if not is_url(video.uri):
            yield path_of(video.uri)
            return
        with self._copy(video) as copy:
            yield copy.path

    def content_id(self, video: Video) -> str:
        """Return the sha256, in hex, of an object that was not hashed yet; a copy of it stays here."""
        with self._copy(video) as copy:
            return copy.sha256

    def check_unchanged(self, video: Video) -> None:
        """Check that a file is still in the state in which it was listed.

        Raises:
            BadInputError: it was replaced, written or removed.
        """
        if not video.identity:
            return
        try:
            now = identity_now(video.uri)
        except FileNotFoundError as error:
            raise BadInputError(Reason.CHANGED, REMOVED) from error
        if now != video.identity:
            raise BadInputError(Reason.CHANGED, CHANGED)

    @contextmanager
    def _copy(self, video: Video) -> Iterator[CachedFile]:
        with ExitStack() as stack:
            try:
                copy = stack.enter_context(self._cache.opened(video.uri, video.identity))
            except FileNotFoundError as error:
                raise BadInputError(Reason.CHANGED, REMOVED) from error
            except ChangedError as error:
                raise BadInputError(Reason.CHANGED, CHANGED) from error
            yield copy


def identity_now(uri: str) -> str:
    """Return the present state of a file or an object.

    Raises:
        FileNotFoundError: there is none.
    """
    if not is_url(uri):
        return identity_of(path_of(uri))
    store, key = located(uri)
    found = store.head(key)
    if found is None:
        raise FileNotFoundError(uri)
    return found.identity


def content_key(uri: str, identity: str) -> str:
    """Return the memo key of the hash of a file's content, as long as the file is in this state."""
    return "content-" + hashlib.sha256(f"{uri}\n{identity}".encode()).hexdigest()
