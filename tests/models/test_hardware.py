"""A machine without an NVIDIA card decodes on the processor and logs it once."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator

import pytest
from av.error import FFmpegError

from models.media import hardware, nvidia_decoder


class NoCard:
    """Stand-in for libav's accelerator on a machine without the device."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def create(self, _: object) -> None:
        raise FFmpegError(errno.EPERM, "Operation not permitted")


@pytest.fixture(autouse=True)
def _not_remembered() -> Iterator[None]:
    nvidia_decoder.cache_clear()
    yield
    nvidia_decoder.cache_clear()


def test_without_a_card_one_line_says_that_the_processor_decodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "HWAccel", NoCard)
    with caplog.at_level(logging.WARNING):
        assert [nvidia_decoder() for _ in range(3)] == [None] * 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert "NVIDIA" in line and "the processor decodes" in line
