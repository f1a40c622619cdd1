"""Mutated files over ten containers: no crash, no hang, no bug verdict, in bounded memory.

``python -m benchmarks.fuzz [--mutations 2000] [--seed N] [--workers 2]`` writes a small video into each of
ten containers, damages copies of it (bytes, runs, cuts, joins, numbers in headers), and runs probe, scan
and the reading of sound on each through the worker, in processes that are restarted when they die.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown

CONTAINERS: dict[str, tuple[str, str, str]] = {
    "mp4": ("mp4", "libx264", "aac"),
    "mov": ("mov", "mpeg4", "pcm_s16le"),
    "mkv": ("matroska", "libx264", "libopus"),
    "webm": ("webm", "libvpx", "libopus"),
    "avi": ("avi", "mpeg4", "pcm_s16le"),
    "ts": ("mpegts", "mpeg2video", "mp2"),
    "mpg": ("mpeg", "mpeg1video", "mp2"),
    "flv": ("flv", "flv", "aac"),
    "wmv": ("asf", "msmpeg4", "wmav2"),
    "mxf": ("mxf", "mpeg2video", "pcm_s16le"),
}
"""Format, video codec and audio codec by file suffix."""
SIDE_PX = (192, 128)
LENGTH_S = 6
FPS = 25
CHUNK = 20
"""Mutations that a process takes at a time."""
BATCH = 10
"""Chunks of a process."""
HANG_S = 60.0
"""A mutation that takes longer ends its process, and counts as a crash."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a mutation."""

    kind: str
    outcome: str
    detail: str
    seconds: float
    peak_mb: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Damage files, print a table, then one JSON object."""
    parser = parser_of("fuzz", __doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        for kind in CONTAINERS:
            write_sample(Path(folder) / f"sample.{kind}", kind)
        verdicts = run(Path(folder), range(given.mutations), given.seed, given.workers)
    rows = []
    for kind in CONTAINERS:
        own = [verdict for verdict in verdicts if verdict.kind == kind]
        if own:
            counts = Counter(verdict.outcome for verdict in own).most_common()
            rows.append([kind, len(own), ", ".join(f"{n} {outcome}" for outcome, n in counts),
                         max(v.seconds for v in own), max(v.peak_mb for v in own)])  # fmt: skip
    print(markdown(["container", "mutations", "outcomes", "slowest (s)", "peak MB"], rows), "\n")
    counted = Counter(verdict.outcome for verdict in verdicts)
    figures = {
        "mutations": len(verdicts), "crashes": counted["crash"], "bugs": counted["bug"],
        "slowest_s": max(v.seconds for v in verdicts), "peak_rss_mb": max(v.peak_mb for v in verdicts),
        "bug_details": sorted({v.detail for v in verdicts if v.outcome in ("bug", "crash")}),
    }  # fmt: skip
    print(json.dumps(figures))


def run(folder: Path, numbers: Sequence[int], seed: int, workers: int) -> list[Verdict]:
    """Judge mutations in other processes; one that kills its process counts as a crash."""
    verdicts: list[Verdict] = []
    context = multiprocessing.get_context("spawn")
    waiting = [list(numbers[at : at + CHUNK]) for at in range(0, len(numbers), CHUNK)]
    while waiting:
        # Processes are replaced from time to time, so that leaks do not add up. The pool's own option for
        # this (max_tasks_per_child) makes it hang in Python 3.11.
        batch, waiting = waiting[: BATCH * workers], waiting[BATCH * workers :]
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            jobs = [(chunk, pool.submit(judged, folder, chunk, seed)) for chunk in batch]
            for chunk, job in jobs:
                try:
                    verdicts += job.result()
                    print(f"{len(verdicts)} of {len(numbers)}", file=sys.stderr, flush=True)
                except BrokenProcessPool:
                    if len(chunk) == 1:
                        verdicts.append(
                            Verdict(kind_of(chunk[0]), "crash", f"mutation {chunk[0]}", 0.0, 0.0)
                        )
                    else:
                        waiting += [[number] for number in chunk]
    return verdicts


def judged(folder: Path, numbers: Sequence[int], seed: int) -> list[Verdict]:
    """Run probe, scan and the reading of sound over mutations; in this process."""
    from models.language import Endpoint
    from models.media import audio_tracks, read_audio
    from pipeline.curation.chain import build_stages
    from pipeline.curation.config import Config
    from pipeline.curation.worker import ChainWorker
    from pipeline.platform.memo import Memo
    from stages.base import Workspace
    from stages.records import Video

    av.logging.set_level(None)
    verdicts = []
    with tempfile.TemporaryDirectory() as scratch:
        memo = Memo(Path(scratch) / "memo")
        nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
        stages = [stage for stage in build_stages(Config()) if stage.name in ("probe", "scan")]
        workspace = Workspace(scratch=Path(scratch), answers=memo, language=nowhere, vision=None)
        worker = ChainWorker(stages, packer=None, workspace=workspace, memo=memo, retries=0)
        for number in numbers:
            kind = kind_of(number)
            path = Path(scratch) / f"{number}.{kind}"
            content = mutated((folder / f"sample.{kind}").read_bytes(), random.Random(f"{seed}-{number}"))
            path.write_bytes(content)
            name = hashlib.sha256(content).hexdigest()
            started = time.perf_counter()
            faulthandler.dump_traceback_later(HANG_S, exit=True, file=2)
            listed = Video(uri=path.as_uri(), video_id=name[:16], content_id=name)
            (video,) = worker.process([listed], lambda event: None)
            end = video.rejected
            outcome, detail = (str(end.reason), end.detail) if end else ("kept", "")
            try:
                if end is None and video.facts is not None:
                    for track in audio_tracks(path):
                        read_audio(path, until_s=video.facts.end_s + 1, track=track.index)
            except Exception as error:
                outcome, detail = "bug", f"sound: {type(error).__name__}: {error}"
            faulthandler.cancel_dump_traceback_later()
            if outcome == "bug":
                detail = f"mutation {number} ({kind}): {detail}"
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds = round(time.perf_counter() - started, 2)
            verdicts.append(Verdict(kind, outcome, detail, seconds, round(peak_mb, 1)))
            path.unlink()
    return verdicts


def kind_of(number: int) -> str:
    """The container of a mutation; they take turns."""
    return list(CONTAINERS)[number % len(CONTAINERS)]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to four random changes of a file's bytes."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        # Half of the changes hit the header, which the demuxer believes.
        at = (
            chance.randrange(min(len(data), 4096)) if chance.random() < 0.5 else chance.randrange(len(data))
        )
        length = min(chance.choice([1, 4, 64, 2048, 20_000]), len(data) - at)
        match chance.randrange(7):
            case 0:
                data[at : at + length] = chance.randbytes(length)
            case 1:
                data[at : at + length] = bytes(length)
            case 2:
                data[at : at + length] = b"\xff" * length
            case 3:
                data[at] ^= 1 << chance.randrange(8)
            case 4:
                number = chance.choice([0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1])
                data[at : at + 4] = number.to_bytes(4, "big")
            case 5:
                del data[at : at + length]
            case _:
                data[at:at] = data[chance.randrange(len(data)) :][:length]
        if len(data) < 64:
            break
    return bytes(data)


def write_sample(path: Path, kind: str) -> None:
    """Six seconds of moving colours and a tone."""
    form, video_codec, audio_codec = CONTAINERS[kind]
    width, height = (720, 576) if form == "mxf" else SIDE_PX
    rate = 48_000
    with av.open(path, "w", format=form) as container:
        film: Any = container.add_stream(video_codec, rate=FPS)
        film.width, film.height, film.pix_fmt = width, height, "yuv420p"
        film.bit_rate = 400_000
        sound: Any = container.add_stream(audio_codec, rate=44_100 if form == "flv" else rate)
        sound.codec_context.layout = "mono"
        sound.bit_rate = 64_000
        rows, columns = np.mgrid[:height, :width]
        for index in range(LENGTH_S * FPS):
            shift = 3 * index + 90 * (index // 60)
            picture = np.stack([rows + shift, columns + 2 * shift, rows + columns], axis=2) % 256
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(film.encode())
        rate = sound.codec_context.sample_rate
        wave = 0.3 * np.sin(2 * np.pi * 330 * np.arange(LENGTH_S * rate) / rate)
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux([*sound.encode(frame), *sound.encode(None)])


if __name__ == "__main__":
    main()
