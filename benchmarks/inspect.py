"""Times of the inspector: to its first answer, a filtered list, a search, a recount, a page of a video.

``python -m benchmarks.inspect`` writes synthetic tables of some numbers of clips, with as many dropped
clips and actions, and a video of an hour, starts ``videoauteur inspect`` as a process and asks as its page
does. The first answer counts from the start of the process, imports included. *Again* is the same kind of
question with other values. Times are seconds at the client.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.bucket_server import free_port
from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from models.media import write_video
from pipeline.curation.config import Config
from pipeline.dataset.schema import TABLES

WORDS = "add the chopped onion to the hot oil and stir until it is golden brown".split()
CLIPS_A_VIDEO = 20
CLIP_S = 8.0
HOUR_S, HOUR_FPS = 3600, 5
GROUP_ROWS = 20_000
START_S = 60.0
QUESTIONS = {
    "list, filtered": "/api/videos?status=kept&text=0017",
    "rejects, filtered": "/api/rejects?kind=clip&stage=clip&reason=blurred&offset=5000",
    "search": "/api/search?text=Cardamom",
    "search again": "/api/search?text=zzz",
    "page of a video": "/api/video?id={video}",
    "histograms": "/api/histograms",
    "recount": "/api/what-if?clip.min_sharpness=0.2",
    "recount again": "/api/what-if?match.min_iou=0.4",
    "range of the hour": "/media/{video}",
    "picture at 30:11": "/frames/{video}/1811000",
}


def write_dataset(output: Path, clips: int, *, media: Path) -> str:
    """Write the tables and the run file of a dataset; return the id of the video whose file is ``media``.

    Args:
        clips: number of kept ones; as many are dropped, and there are as many actions and matches.
    """
    dice = np.random.default_rng(0)
    videos = -(-clips // CLIPS_A_VIDEO)
    ids = pa.array([f"{number:016x}" for number in range(videos)])
    uris = pa.array([media.as_uri(), *(f"file:///nowhere/{number:07d}.mp4" for number in range(1, videos))])
    of_video = np.repeat(np.arange(videos), CLIPS_A_VIDEO)[:clips]
    place = np.arange(clips) - of_video * CLIPS_A_VIDEO
    start_s = place * CLIP_S + dice.random(clips)
    numbers = pc.cast(pa.array(np.arange(clips)), pa.string())
    video_id = ids.take(pa.array(of_video))
    span = {"video_id": video_id, "start_s": start_s, "end_s": place * CLIP_S + 7.5}
    clip_id, action_id = (_joined(video_id, numbers, f"-{letter}") for letter in "ca")
    _write(
        output, "videos",
        video_id=ids, uri=uris, status=["kept"] * videos, title=["How to make soup?"] * videos,
        duration_s=[HOUR_S] * videos, num_clips=[CLIPS_A_VIDEO] * videos,
    )  # fmt: skip
    _write(
        output, "clips", **span, clip_id=clip_id, caption=_texts(dice, clips, 40),
        sharpness=dice.random(clips), exposure=dice.random(clips), motion=dice.random(clips) / 25,
        watermark_score=dice.random(clips) / 2,
    )  # fmt: skip
    _write(
        output, "actions", **span, action_id=action_id, text=_texts(dice, clips, 9),
        matched=[True] * clips,
    )  # fmt: skip
    _write(
        output, "matches", video_id=video_id, clip_id=clip_id, action_id=action_id, iou=dice.random(clips),
        start_diff_s=dice.random(clips), rule=["start"] * clips,
    )  # fmt: skip
    values = pc.cast(pa.array(np.round(dice.random(clips) / 10, 4)), pa.string())
    detail = pc.binary_join_element_wise("sharpness", values, "is below clip.min_sharpness 0.1", " ")
    _write(
        output, "rejects", **span, kind=["clip"] * clips, stage=["clip"] * clips,
        reason=["blurred"] * clips, detail=detail, uri=uris.take(pa.array(of_video)),
    )  # fmt: skip
    _write(output, "narratives")
    run = {"status": "done", "config": Config().model_dump(mode="json"), "stages": {}}
    (output / "run.json").write_text(json.dumps(run))
    return str(ids[0])


def _joined(first: pa.Array, second: pa.Array, between: str) -> pa.Array:
    return pc.binary_join_element_wise(first, second, between)


def _texts(dice: np.random.Generator, count: int, words: int) -> pa.Array:
    """Return texts that hardly repeat; one of a hundred thousand holds a rare word."""
    half = [" ".join(dice.choice(WORDS, words // 2)) for _ in range(5000)]
    pieces = [pa.array(half).take(pa.array(dice.integers(0, len(half), count))) for _ in range(2)]
    rare = pa.array(np.where(np.arange(count) % 100_000 == 7, "cardamom", "salt"))
    return pc.binary_join_element_wise(pieces[0], rare, pieces[1], " ")


def _write(output: Path, name: str, **columns: Any) -> None:
    schema = TABLES[name]
    length = len(next(iter(columns.values()), []))
    arrays = [pa.array(columns.get(field.name, pa.nulls(length)), field.type) for field in schema]
    (output / name).mkdir(parents=True)
    table = pa.Table.from_arrays(arrays, schema=schema)
    pq.write_table(table, output / name / "part-all.parquet", row_group_size=GROUP_ROWS)


def write_hour(path: Path) -> None:
    """Write a video of an hour: a bar that moves with the minutes."""

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for number in range(HOUR_S * HOUR_FPS):
            picture = np.full((180, 320, 3), 40, np.uint8)
            picture[:, : 1 + 319 * number // (HOUR_S * HOUR_FPS)] = 200
            yield picture

    write_video(path, pictures(), HOUR_FPS, crf=30)


@contextlib.contextmanager
def inspector(output: Path) -> Iterator[tuple[httpx.Client, float, int]]:
    """Run the command; yield a client, the seconds to its first answer, and the number of its process."""
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "inspect", str(output), f"--port={port}"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            while True:
                try:
                    client.get("/api/overview").raise_for_status()
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.perf_counter() - started > START_S:
                        raise
                    time.sleep(0.02)
            yield client, time.perf_counter() - started, process.pid
    finally:
        process.terminate()
        process.wait()


def times_of(client: httpx.Client, video: str) -> dict[str, float]:
    """Return the seconds of each question."""
    found = {}
    for name, path in QUESTIONS.items():
        started = time.perf_counter()
        # A range concerns media alone.
        client.get(path.format(video=video), headers={"Range": "bytes=400000-1400000"}).raise_for_status()
        found[name] = round(time.perf_counter() - started, 3)
    return found


def peak_mb(process: int) -> int:
    """Return the largest memory that a process had; 0 where the system has no /proc."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) // 1000
    return 0


def main() -> None:
    """Print a table, then one JSON object: by number of clips, seconds of each question, and the memory."""
    parser = parser_of("inspect", __doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[20_000, 1_000_000])
    parser.add_argument("--quick", action="store_true", help="2,000 and 20,000 clips")
    arguments = parser.parse_args()
    sizes = [2000, 20_000] if arguments.quick else arguments.clips
    found: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        media = Path(name) / "an hour.mp4"
        write_hour(media)
        for clips in sizes:
            output = Path(name) / str(clips)
            video = write_dataset(output, clips, media=media)
            with inspector(output) as (client, first_s, process):
                times = times_of(client, video)
                found[clips] = {"first answer": round(first_s, 3), **times, "peak MB": peak_mb(process)}
    print(f"{machine()}\n")
    names = list(found[sizes[0]])
    rows = [[name, *(found[clips][name] for clips in sizes)] for name in names]
    print(markdown(["seconds", *(f"{clips:,} clips" for clips in sizes)], rows))
    print(json.dumps({str(clips): figures for clips, figures in found.items()}))


if __name__ == "__main__":
    main()
