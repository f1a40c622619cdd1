"""Random spans cut out of videos: are they the right frames and the right sound?

``python -m benchmarks.cuts [VIDEO ...] [--spans 100] [--seed N]`` cuts every span with
:func:`models.media.cutter.cut` and compares the clip with the source: number of frames, the first and the
last one, and by how much the sound is displaced. A third of the spans begins and ends at key frames.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.commands import parser_of
from benchmarks.footage import data_files
from benchmarks.machine import machine, markdown
from models.media import SAMPLE_RATE, audio_tracks, frames, open_media, picture_stream, read_audio, start_of
from models.media.container import packets
from models.media.cutter import CutSettings, Means, cut

FOLDERS = ("real", "recipes", "scenes")
SIDE_PX = 32
MAX_LEVELS = 8.0
"""Mean difference of 256 levels that encoding may make of a frame."""
MAX_LAG_S = 0.02
REACH = SAMPLE_RATE // 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A decoded video: times and thumbnails ``[n, 32, 32, 3]`` of its frames, samples, key-frame times."""

    path: Path
    times_s: NDArray[np.float64]
    thumbnails: NDArray[np.float32]
    samples: NDArray[np.float32]
    keys_s: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One span against the source; ``lag_s`` is NaN where there is too little sound to tell."""

    file: str
    start_s: float
    end_s: float
    means: str
    frames_off: int
    first_off: float
    last_off: float
    lag_s: float

    @property
    def right(self) -> bool:
        """Return whether frames and sound are those of the source."""
        picture = self.frames_off == 0 and max(self.first_off, self.last_off) <= MAX_LEVELS
        return picture and not abs(self.lag_s) > MAX_LAG_S


def main(arguments: Sequence[str] | None = None) -> None:
    """Cut and compare, print a table, then one JSON object."""
    parser = parser_of("cuts", __doc__)
    parser.add_argument("videos", type=Path, nargs="*", metavar="VIDEO", help="default: the trial footage")
    parser.add_argument("--spans", type=int, default=100, help="in all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    videos = given.videos or data_files(FOLDERS)
    if not videos:
        parser.error("name videos, or set VIDEOAUTEUR_DATA to the folder of trial data")
    chance = random.Random(given.seed)
    sources = [decode(path) for path in videos]
    started = time.perf_counter()
    checks = [
        check(source, *random_span(source, chance, at_keys=number % 3 == 0))
        for number, source in zip(range(given.spans), itertools.cycle(sources), strict=False)
    ]
    seconds = time.perf_counter() - started
    print(f"{machine()}\n")
    rows = []
    for source in sources:
        own = [one for one in checks if one.file == source.path.name]
        lags = [abs(one.lag_s) for one in own if not np.isnan(one.lag_s)]
        rows.append(
            [source.path.name, len(own),
             *(sum(one.means == means for one in own) for means in get_args(Means)),
             sum(one.right for one in own), max((abs(one.frames_off) for one in own), default=0),
             max((max(one.first_off, one.last_off) for one in own), default=0.0), max(lags, default=0.0)]
        )  # fmt: skip
    head = ["video", "spans", *get_args(Means), "right", "frames off", "levels off", "lag (s)"]
    print(markdown(head, rows), "\n")
    wrong = [asdict(one) for one in checks if not one.right]
    right = len(checks) - len(wrong)
    print(json.dumps({"spans": len(checks), "right": right, "seconds": round(seconds, 1), "wrong": wrong}))


def decode(path: Path) -> Source:
    """Decode a whole video into thumbnails and samples."""
    times, small = _thumbnails(path)
    with open_media(path) as container:
        stream = picture_stream(container)
        assert stream is not None and stream.time_base is not None
        base, origin_s = stream.time_base, start_of(container)
        keys = [
            float(packet.pts * base) - origin_s
            for packet in packets(container, stream)
            if packet.is_keyframe and packet.pts is not None
        ]
    samples = np.zeros(0, np.float32)
    for track in audio_tracks(path)[:1]:
        samples = read_audio(path, until_s=float(times[-1]) + 1, track=track.index)
    return Source(path=path, times_s=times, thumbnails=small, samples=samples, keys_s=sorted(keys))


def _thumbnails(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    with open_media(path) as container:
        found = [(frame.time_s, frame.bgr(SIDE_PX, SIDE_PX)) for frame in frames(container)]
    return np.array([time_s for time_s, _ in found]), np.array([small for _, small in found], np.float32)


def random_span(source: Source, chance: random.Random, *, at_keys: bool) -> tuple[float, float]:
    """Draw a span of half a second to twenty, or one between two key frames."""
    first_s, last_s = float(source.times_s[0]), float(source.times_s[-1])
    if at_keys and len(source.keys_s) > 1:
        start_s, end_s = sorted(chance.sample(source.keys_s, 2))
    else:
        start_s = chance.uniform(first_s, max(first_s, last_s - 1))
        end_s = min(last_s, start_s + chance.uniform(0.5, 20))
    return start_s, end_s


def check(source: Source, start_s: float, end_s: float) -> Check:
    """Cut one span and compare it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clip.mp4"
        means = cut(source.path, target, start_s, end_s, CutSettings())
        times, small = _thumbnails(target)
        length = source.samples[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
        heard = read_audio(target, until_s=end_s - start_s) if source.samples.size else source.samples
    inside = (source.times_s >= start_s - 1e-3) & (source.times_s < end_s - 1e-3)
    wanted = source.thumbnails[inside]
    return Check(
        file=source.path.name,
        start_s=round(start_s, 4),
        end_s=round(end_s, 4),
        means=means,
        frames_off=len(times) - len(wanted),
        first_off=round(float(np.abs(small[0] - wanted[0]).mean()), 2),
        last_off=round(float(np.abs(small[-1] - wanted[-1]).mean()), 2),
        lag_s=lag(length, heard),
    )


def lag(wanted: NDArray[np.float32], heard: NDArray[np.float32]) -> float:
    """By how many seconds sound is late; NaN where there is too little of it."""
    count = min(wanted.size, heard.size)
    a, b = wanted[:count], heard[:count]
    if count <= 4 * REACH or np.abs(a).max() < 0.02:
        return float("nan")
    size = 2 * count
    products = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    near = np.concatenate([products[-REACH:], products[: REACH + 1]])
    return float(near.argmax() - REACH) / SAMPLE_RATE


if __name__ == "__main__":
    main()
