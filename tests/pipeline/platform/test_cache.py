"""A node fetches an object once, keeps what is open, and no more than it may."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from pathlib import Path

import pytest

from benchmarks.bucket_server import Proxy
from pipeline.platform.cache import FileCache
from pipeline.platform.storage import ChangedError, Store, uri_of
from tests.support.buckets import bucket, s3_server

__all__ = ["bucket", "s3_server"]


def put(bucket: str, name: str, data: bytes) -> tuple[str, str]:
    """URI and identity of a new object."""
    store = Store(bucket)
    store.put(name, data)
    found = store.head(name)
    assert found is not None
    return uri_of(bucket, name), found.identity


def fetch(folder: Path, uri: str, identity: str) -> None:
    with FileCache(folder, 1000).opened(uri, identity) as found:
        assert found.path.read_bytes() == b"film"


def test_processes_of_a_node_fetch_a_file_once(
    bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, identity = put(bucket, "ä b.mp4", b"film")
    with Proxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=fetch, args=(tmp_path, uri, identity)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert sum(proxy.read.values()) == len(b"film")


def test_a_file_has_its_suffix_and_the_hash_of_its_bytes(bucket: str, tmp_path: Path) -> None:
    with FileCache(tmp_path, 1000).opened(*put(bucket, "a.mov", b"film")) as found:
        assert found.path.suffix == ".mov"
        assert found.sha256 == hashlib.sha256(b"film").hexdigest()


def test_the_longest_unused_goes_and_what_is_open_stays(bucket: str, tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 250)
    a, b, c = (put(bucket, f"{name}.mp4", name.encode() * 100) for name in "abc")
    with cache.opened(*a) as kept:
        os.utime(kept.path, (1, 1))
        with cache.opened(*b) as second:
            os.utime(second.path, (2, 2))
        with cache.opened(*c) as third:
            pass
        assert kept.path.exists() and not second.path.exists() and third.path.exists()
    with cache.opened(*b):
        assert not kept.path.exists()


def test_a_part_that_a_killed_process_left_is_no_file_and_makes_room(bucket: str, tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 250)
    a, b = (put(bucket, name, b"x" * 200) for name in ("a.mp4", "b.mp4"))
    with cache.opened(*a) as found:
        whole = found.path
    part = whole.rename(whole.with_name(".part"))
    with cache.opened(*b):
        assert not part.exists()
    with cache.opened(*a) as found:
        assert found.path == whole and found.path.read_bytes() == b"x" * 200


def test_an_object_that_was_replaced_or_removed_is_an_error(bucket: str, tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1000)
    uri, identity = put(bucket, "a.mp4", b"film")
    put(bucket, "a.mp4", b"another")
    with pytest.raises(ChangedError), cache.opened(uri, identity):
        pass
    Store(bucket).delete(["a.mp4"])
    with pytest.raises(FileNotFoundError), cache.opened(uri, identity):
        pass
