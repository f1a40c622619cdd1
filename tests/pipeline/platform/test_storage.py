"""The same interface over a bucket and a folder; nothing that the network does goes unnoticed."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.bucket_server import FAULTS, Proxy
from models.errors import TransientError, UsageError
from pipeline.platform import storage
from pipeline.platform.storage import ChangedError, Object, RefusedError, Store, is_url, located, uri_of
from tests.support.buckets import SECRET, bucket, s3_server

__all__ = ["bucket", "s3_server"]
NAMES = ["plain.mp4", "sub/x.mp4", "ä ö#?%20.mp4", "a*b[1].mp4"]


@pytest.fixture(params=["bucket", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    url = f"{request.getfixturevalue('bucket')}/in" if request.param == "bucket" else tmp_path.as_uri()
    return Store(url)


def test_objects_are_listed_read_replaced_and_removed(store: Store) -> None:
    for name in NAMES:
        store.put(name, name.encode())
    assert sorted(found.key for found in store.list()) == sorted(NAMES)
    assert [found.key for found in store.list("sub")] == ["sub/x.mp4"]
    for found in store.list():
        assert found == store.head(found.key)
        assert found.identity.startswith(f"{len(found.key.encode())}-")
        assert Object.of_identity(found.key, found.identity) == found
        assert store.get(found.key, etag=found.etag) == found.key.encode()
    assert store.get("plain.mp4", start=2, end=5) == b"ain"
    store.delete(["plain.mp4", "never there"])
    assert store.head("plain.mp4") is None
    with pytest.raises(FileNotFoundError, match=r"plain\.mp4"):
        store.get("plain.mp4")


def test_a_download_is_the_object_that_was_listed_or_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "CHUNK_BYTES", 100)
    data = random.Random(0).randbytes(1234)
    store.put("a", data)
    (found,) = store.list()
    copy = io.BytesIO()
    assert store.download(found, copy) == hashlib.sha256(data).hexdigest()
    assert copy.getvalue() == data
    store.put("a", data[::-1] + b"!")
    with pytest.raises(ChangedError):
        store.download(found, copy)


def test_only_the_first_writer_and_only_a_writer_who_saw_the_last_one_succeed(bucket: str) -> None:
    store = Store(bucket)
    first = store.put_new("lease", b"one")
    assert first and store.put_new("lease", b"two") is None
    second = store.replace("lease", b"three", first)
    assert second and store.replace("lease", b"four", first) is None
    assert store.head("lease") == Object(key="lease", bytes=5, etag=second)
    assert store.get("lease") == b"three"


def test_a_folder_that_a_console_made_is_no_object(bucket: str) -> None:
    store = Store(bucket)
    store.put("sub/x.mp4", b"x")
    store.put("empty.mp4", b"")
    import boto3

    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key="sub/", Body=b"")
    assert [found.key for found in store.list()] == ["empty.mp4", "sub/x.mp4"]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_network_does_to_every_second_request_changes_nothing(
    fault: str, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(storage, "CHUNK_BYTES", 1000)
    monkeypatch.setattr("benchmarks.bucket_server.SLOW_S", 0.02)
    monkeypatch.setattr("benchmarks.bucket_server.FAULTS", (fault,))
    data = random.Random(0).randbytes(5000)
    with Proxy(s3_server, share=0.5) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = Store(f"{bucket}/in")
        for name in NAMES:
            store.put(name, data)
        assert store.put_new("lease", b"ours"), "a lost answer is no failure"
        found = {each.key: each for each in store.list()}
        assert sorted(found) == sorted([*NAMES, "lease"])
        copy = io.BytesIO()
        store.download(found[NAMES[0]], copy)
        assert copy.getvalue() == data
        store.delete(NAMES)
        assert [each.key for each in store.list()] == ["lease"]
        assert proxy.faults.keys() == {fault}


def test_a_store_that_refuses_or_is_away_is_named_in_one_line_without_secrets(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match=r"^s3://no-bucket-here: .*404"):
        next(Store("s3://no-bucket-here").list())
    monkeypatch.setattr(storage, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:9/{SECRET}")
    with pytest.raises(TransientError, match=r"^s3://away: .*http://127.0.0.1:9") as caught:
        next(Store("s3://away").list())
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/folder", "ftp://host/folder: not a store"),
        ("s3://key:hidden@bucket/in", r"s3://\.\.\.@bucket: credentials do not belong"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Store(url)
    assert "hidden" not in str(caught.value)


def test_uris_of_objects_are_encoded_like_those_of_files() -> None:
    for name in NAMES:
        uri = uri_of("s3://bucket/in", name)
        assert uri.removeprefix("s3://bucket") == Path(f"/in/{name}").as_uri().removeprefix("file://")
        store, key = located(uri)
        assert (store.url, key) == ("s3://bucket", f"in/{name}")
    assert is_url("s3://bucket") and not is_url("file:///x") and not is_url(Path("s3:/x"))


@pytest.mark.parametrize(
    ("style", "expected"), [("false", "http://store:9000/b/k"), ("true", "http://b.store:9000/k")]
)
def test_the_bucket_stands_in_the_path_or_in_the_host(
    style: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", style)
    import obstore

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    from datetime import timedelta

    signed = obstore.sign(Store("s3://b")._store, "GET", "k", timedelta(seconds=60))
    assert signed.partition("?")[0] == expected


def test_a_profile_of_the_usual_files_is_used_where_the_environment_has_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = of-lab\naws_secret_access_key = s\n")
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-north-1\n")
    for name, value in (("SHARED_CREDENTIALS_FILE", "credentials"), ("CONFIG_FILE", "config")):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / value))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    read: Callable[[], dict[str, str]] = storage.aws_profile  # type: ignore[assignment]
    assert read() == {"access_key_id": "of-lab", "secret_access_key": "s", "region": "eu-north-1"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    assert read() == {"region": "eu-north-1"}
