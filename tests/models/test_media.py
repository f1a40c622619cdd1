"""Pictures and sound come out of a file with the times at which a player presents them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from examples.drawing import moving_blobs, plain
from examples.media import Scene, write_video
from models.errors import MediaError
from models.media import SAMPLE_RATE, Frame, frames, open_media, picture_stream, read_audio


def tone(seconds: float, rate: int) -> NDArray[np.float32]:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return wave[None].astype(np.float32)


def write_tones(path: Path, spans: list[tuple[float, float]], rate: int = 16_000) -> None:
    """A tone for each (start, length) and no packets in between, beside a picture from 0 to 8 s."""
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=rate)
        sound.codec_context.layout = "mono"
        image = np.zeros((64, 96, 3), np.uint8)
        for _ in range(40):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(video.encode())
        for start_s, length_s in spans:
            block = (tone(length_s, rate) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, round(start_s * rate), Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def heard(samples: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Where it is loud, as (start, end) in seconds."""
    loud = np.abs(samples).reshape(-1, 160).max(axis=1) > 0.1 if samples.size % 160 == 0 else np.abs(
        np.pad(samples, (0, -samples.size % 160))
    ).reshape(-1, 160).max(axis=1) > 0.1
    edges = np.flatnonzero(np.diff(loud.astype(np.int8), prepend=0, append=0)) / 100
    return [(float(a), float(b)) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize(
    "spans",
    [[(0.0, 2.0)], [(2.5, 2.0)], [(0.0, 1.0), (5.0, 1.0)]],
    ids=["from-the-start", "late", "with-a-gap"],
)
def test_sound_is_heard_when_it_is_presented(spans: list[tuple[float, float]], tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_tones(path, spans)
    expected = [(start_s, start_s + length_s) for start_s, length_s in spans]
    assert np.allclose(heard(read_audio(path, until_s=8.0)), expected, atol=0.05)
