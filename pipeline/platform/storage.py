"""Objects in a bucket or in a local folder, behind one small interface.

A :class:`Store` is everything below one URL (``s3://bucket/folder``, ``gs://``, ``az://``, ``file://``). An
object is written whole or not at all; there is no append and no rename. Every call is retried with growing
pauses, also where the answer breaks off in its middle, and what is read is checked against the object's
size and ETag.

Credentials come from the environment, a profile of ``~/.aws/credentials``, a web identity, or the role of
the machine or container. ``AWS_ENDPOINT_URL`` names a store that is not Amazon's;
``AWS_VIRTUAL_HOSTED_STYLE_REQUEST=true`` puts the bucket into the host's name.
"""

from __future__ import annotations

import configparser
import errno
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError, PreconditionError
from obstore.store import from_url

from models.errors import StoreError, TransientError, UsageError
from models.redaction import Redactor

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta, PutMode
    from obstore.store import ClientConfig, ObjectStore, S3Config

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "adl", "file")
SECRETS = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET", "GOOGLE_SERVICE_ACCOUNT_KEY",
)  # fmt: skip
"""Environment variables whose values no text may hold."""
PAGE = 1000
"""Objects a page: as many as S3 returns for one request."""
CHUNK_BYTES = 32 << 20
"""A large object is read in ranges of this size: a range that breaks off is read again, not the object."""
CLIENT: ClientConfig = {"connect_timeout": "10s", "timeout": "300s", "read_timeout": "30s"}
TRIES = 8
FIRST_WAIT_S = 0.2
"""Doubles with each try: 25 s in all."""
PASSING_STATUS = frozenset({408, 425, 429, 499})
STATUS = re.compile(r"status code: (\d{3})")
T = TypeVar("T")


class ChangedError(Exception):
    """Object that is no longer the one that was listed."""


class RefusedError(StoreError):
    """Request that the store refuses and will refuse again: no access, no bucket, a wrong region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An object as the store lists it.

    Attributes:
        key: below the store's URL, as it is, not percent-encoded.
        etag: changes when the object is written again; empty where the store has none.
    """

    key: str
    bytes: int
    etag: str

    @property
    def identity(self) -> str:
        """Return the state of the object, beginning with its size like that of a local file."""
        return f"{self.bytes}-{self.etag}"

    @classmethod
    def of_identity(cls, key: str, identity: str) -> Self:
        """Return the object that was in this state; the inverse of :attr:`identity`."""
        size, _, etag = identity.partition("-")
        return cls(key=key, bytes=int(size), etag=etag)


class Store:
    """The objects below a URL; may be used by several threads.

    Args:
        url: of a bucket or a folder in one, as people write it: not percent-encoded. A ``file:`` URI is.

    Raises:
        models.errors.UsageError: its scheme is unknown, or it holds credentials.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if "@" in parts.netloc and parts.scheme in ("s3", "s3a", "gs"):
            raise UsageError(
                f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}: credentials do not belong into a "
                "URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if parts.scheme in SCHEMES and not parts.netloc and parts.scheme != "file":
            raise UsageError(f"{url}: names no bucket; write {parts.scheme}://BUCKET/FOLDER")
        if parts.scheme not in SCHEMES:
            raise UsageError(f"{self.url}: not a store that is supported; {', '.join(SCHEMES)} are")
        self._is_folder = parts.scheme == "file"
        self._redact = Redactor(SECRETS).text
        try:
            self._store = _opened(self.url)
        except (BaseError, ValueError, OSError) as error:
            raise UsageError(f"{self.url}: {self._words(error)}") from error

    def list(self, folder: str = "") -> Iterator[Object]:
        """Yield the objects in a folder at any depth, as the store returns them, a page at a time.

        Raises:
            RefusedError: there is no such bucket, or no access.
            models.errors.TransientError: the store does not answer.
        """
        after: str | None = None
        pages: Iterator[Sequence[ObjectMeta]] | None = None

        def next_page() -> Sequence[ObjectMeta] | None:
            nonlocal pages
            if pages is None:
                pages = iter(obstore.list(self._store, folder or None, offset=after, chunk_size=PAGE))
            try:
                return next(pages, None)
            except BaseError:
                # A listing that broke off is continued behind the last key that it returned.
                pages = None
                raise

        while (page := self._retried(folder, next_page)) is not None:
            for found in page:
                after = found["path"]
                # Consoles write an empty object NAME/ for a folder; without its slash it is not there.
                if found["size"] or self.head(after) is not None:
                    yield _object(found)

    def head(self, key: str) -> Object | None:
        """Return an object without its bytes; None if it is not there."""
        try:
            return _object(self._retried(key, lambda: obstore.head(self._store, key)))
        except FileNotFoundError:
            return None

    def get(self, key: str, *, etag: str = "", start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object, or a range of them.

        Args:
            etag: of the object that is meant; any one if empty.

        Raises:
            FileNotFoundError: there is none.
            ChangedError: it has another ETag, or ends before the range does.
        """
        options: GetOptions = {"if_match": etag} if etag else {}
        if end is not None:
            options["range"] = (start, end)

        def read() -> bytes:
            found = obstore.get(self._store, key, options=options)
            if (etag and found.meta["e_tag"] != etag) or found.meta["size"] < (end or 0):
                # Some servers ignore If-Match.
                raise ChangedError(f"{self.url}/{key} was written again")
            first, stop = found.range
            data = bytes(found.bytes())
            if len(data) != stop - first or (end is not None and (first, stop) != (start, end)):
                raise _BrokenOffError(f"{len(data)} bytes in place of {stop - first}")
            return data

        try:
            return self._retried(key, read)
        except PreconditionError as error:
            raise ChangedError(f"{self.url}/{key} was written again") from error

    def download(self, found: Object, file: BinaryIO) -> str:
        """Write the bytes of an object into an open file; return their sha256 in hex.

        Raises:
            FileNotFoundError: the object was removed.
            ChangedError: it was written again.
        """
        digest = hashlib.sha256()
        for start in range(0, found.bytes, CHUNK_BYTES):
            end = min(found.bytes, start + CHUNK_BYTES)
            data = self.get(found.key, etag=found.etag, start=start, end=end)
            digest.update(data)
            file.write(data)
        return digest.hexdigest()

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, in place of one that is there; a large file in parts."""
        self._retried(key, lambda: obstore.put(self._store, key, data))

    def put_new(self, key: str, data: bytes) -> str | None:
        """Write an object if there is none of that name; return its ETag, or None if there was one.

        An object with the same data counts as ours: a try whose answer was lost is recognised by it.
        """
        return self._put_if(key, data, "create")

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """Write an object if the present one has this ETag; see :meth:`put_new`.

        A local folder has no such condition, and some servers ignore it: there the last writer wins.
        """
        return self._put_if(key, data, "overwrite" if self._is_folder else {"e_tag": etag})

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there count as removed."""
        for key in keys:
            try:
                self._retried(key, lambda key=key: obstore.delete(self._store, key))  # type: ignore[misc]
            except FileNotFoundError:
                continue

    def _put_if(self, key: str, data: bytes, mode: PutMode) -> str | None:
        def put() -> str:
            return obstore.put(self._store, key, data, mode=mode, use_multipart=False)["e_tag"] or ""

        try:
            return self._retried(key, put)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            found = self.head(key)
            with suppress(ChangedError, FileNotFoundError):
                if found is not None and self.get(key, etag=found.etag) == data:
                    return found.etag
            return None

    def _retried(self, key: str, call: Callable[[], T]) -> T:
        for attempt in range(TRIES):
            try:
                return call()
            except FileNotFoundError as error:
                raise FileNotFoundError(errno.ENOENT, "no such object", f"{self.url}/{key}") from error
            except (AlreadyExistsError, PreconditionError):
                raise
            except (BaseError, _BrokenOffError, PermissionError) as error:
                place = f"{self.url}/{key}".rstrip("/")
                if _is_final(error):
                    raise RefusedError(f"{place}: {self._words(error)}") from None
                if attempt + 1 == TRIES:
                    raise TransientError(f"{place}: {self._words(error)}") from None
            time.sleep(FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    def _words(self, error: Exception) -> str:
        # Later lines hold whole answers and requests.
        return self._redact(str(error).strip().partition("\n")[0])


class _BrokenOffError(Exception):
    """Answer that is shorter than announced."""


def _object(found: ObjectMeta) -> Object:
    return Object(key=found["path"], bytes=found["size"], etag=found["e_tag"] or "")


def _is_final(error: Exception) -> bool:
    """Return whether another try would end like this one."""
    if isinstance(error, PermissionError | InvalidPathError):
        return True
    status = STATUS.search(str(error))
    return status is not None and status[1].startswith("4") and int(status[1]) not in PASSING_STATUS


def is_url(place: str | Path) -> bool:
    """Return whether a place is in an object store, not a local path or a ``file:`` URI."""
    return isinstance(place, str) and "://" in place and not place.startswith("file://")


def uri_of(url: str, key: str = "") -> str:
    """Return the URI of an object below a URL, or of the folder itself: percent-encoded, unlike URLs."""
    root, folder = split_url(url)
    return f"{root}/{quote('/'.join(part for part in (folder, key) if part))}".rstrip("/")


def split_url(url: str) -> tuple[str, str]:
    """Return the URL of a bucket, and the rest without slashes around it."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key.strip("/")


def root_uri(place: Path | str) -> str:
    """Return the URI of a folder, local or in a bucket, without a slash at its end."""
    return uri_of(str(place)) if is_url(place) else Path(place).absolute().as_uri().rstrip("/")


def place(text: str) -> Path | str:
    """Return a local path or the URL of a folder in a bucket; a type of options."""
    return text.rstrip("/") if is_url(text) else Path(text)


@lru_cache(maxsize=64)
def store_of(root: str) -> Store:
    """Return the store of a URL, opened once a process."""
    return Store(root)


def located(uri: str) -> tuple[Store, str]:
    """Return the store of an object's URI and its key there; the inverse of :func:`uri_of`."""
    parts = urlsplit(uri)
    return store_of(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path.lstrip("/"))


def _opened(url: str) -> ObjectStore:
    if is_url(url):
        url = uri_of(url)
    if not url.startswith(("s3://", "s3a://")):
        return from_url(url, client_options=CLIENT, retry_config={"max_retries": 3})
    config: S3Config = aws_profile()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: ClientConfig = {**CLIENT}
    if endpoint:
        options["allow_http"] = endpoint.startswith("http://")
        config["endpoint"] = _addressed(endpoint, urlsplit(url).netloc)
    return from_url(url, config=config, client_options=options, retry_config={"max_retries": 3})


def _addressed(endpoint: str, bucket: str) -> str:
    """Return the endpoint with the bucket in the host's name, where that is the configured style."""
    virtual = os.environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in ("1", "true", "yes")
    parts = urlsplit(endpoint)
    if not virtual or parts.netloc.startswith(f"{bucket}."):
        return endpoint
    return urlunsplit(parts._replace(netloc=f"{bucket}.{parts.netloc}"))


def aws_profile() -> S3Config:
    """Return keys and region of a profile in the usual files, where the environment names no key."""
    found = configparser.RawConfigParser()
    name = os.environ.get("AWS_PROFILE", "default")
    home = Path.home() / ".aws"
    files = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials"),
        os.environ.get("AWS_CONFIG_FILE", home / "config"),
    ]
    try:
        found.read(files)
    except configparser.Error as error:
        raise UsageError(f"{files[0]} or {files[1]}: {type(error).__name__}; see `aws configure`") from None
    values = {
        key: value
        for part in (f"profile {name}", name)
        if part in found
        for key, value in found[part].items()
    }
    config: S3Config = {}
    if "region" in values and not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys():
        config["region"] = values["region"]
    if "AWS_ACCESS_KEY_ID" not in os.environ and "aws_access_key_id" in values:
        config["access_key_id"] = values["aws_access_key_id"]
        config["secret_access_key"] = values.get("aws_secret_access_key", "")
        if "aws_session_token" in values:
            config["session_token"] = values["aws_session_token"]
    return config
