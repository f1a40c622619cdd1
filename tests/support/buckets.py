"""A bucket of a real S3 interface on this machine: moto's server, in this process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from benchmarks.bucket_server import make_bucket
from pipeline.platform.storage import store_of

KEY, SECRET = "AKIAPLANTEDKEY00", "planted/secret+of/the+bucket"
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a server that lives as long as the tests."""
    server = pytest.importorskip("moto.server", reason="install the extra dev for an S3 server")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket, whose keys are in the environment."""
    variables = {
        "AWS_ENDPOINT_URL": s3_server, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1,localhost",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # The server before may have been another one.
    store_of.cache_clear()
    name = f"bucket-{next(NUMBERS)}"
    make_bucket(s3_server, name)
    return f"s3://{name}"
