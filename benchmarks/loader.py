"""Clips a second through the PyTorch loader, against bare seeks and decodes by PyAV of the same spans.

Both give the same number of RGB pictures of each clip, at the same times and of the same size. They are
measured in turn, several times; a figure is the median over the rounds of the loader's rate by PyAV's in
the same round. Start-up of workers is part of the loader's time. Also: a loader that is stopped in the
middle and continued, with 0, 1 and 2 workers, must hand out the same clips with the same pixels; and two
ranks together every clip once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import av

from benchmarks.machine import machine, markdown
from models.errors import MediaError
from models.media import open_media, picture_stream, start_of
from pipeline.dataset.schema import TABLES
from pipeline.dataset.stream import DecodeClip, RowStream, StreamLoader
from pipeline.dataset.tables import Row, write_tables
from stages.view import path_of

BATCH = 2
SIZE_PX = (224, 224)


def cut(videos: Sequence[Path], clips: int) -> list[Row]:
    """Return rows of random spans of 5 to 10 s in the videos."""
    lengths: dict[Path, float] = {}
    for path in videos:
        try:
            with open_media(path) as container:
                if picture_stream(container) is not None and container.duration:
                    lengths[path] = container.duration / av.time_base
        except MediaError:
            continue
    if not lengths:
        raise SystemExit(f"no video with pictures among {len(videos)} files")
    dice = random.Random(0)
    rows = []
    for number in range(clips):
        path = list(lengths)[number % len(lengths)]
        length_s = min(dice.uniform(5, 10), lengths[path])
        start_s = dice.uniform(0, lengths[path] - length_s)
        rows.append(
            dict.fromkeys(TABLES["clips"].names)
            | {"clip_id": f"{number:05d}", "video_id": hashlib.sha256(path.name.encode()).hexdigest()[:16],
               "video_uri": path.absolute().as_uri(), "start_s": start_s, "end_s": start_s + length_s}
        )  # fmt: skip
    return rows


def bare(row: Row, count: int) -> list[Any]:
    """Decode a clip by PyAV alone."""
    step_s = (row["end_s"] - row["start_s"]) / count
    times_s = [row["start_s"] + (at + 0.5) * step_s for at in range(count)]
    pictures: list[Any] = []
    with av.open(row["path"]) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        origin_s = row["origin_s"]
        container.seek(int((times_s[0] + origin_s) * av.time_base))
        shown = None
        for frame in container.decode(stream):
            while len(pictures) < count and frame.time - origin_s > times_s[len(pictures)]:
                source = shown or frame
                pictures.append(source.to_ndarray(format="rgb24", width=SIZE_PX[1], height=SIZE_PX[0]))
            if len(pictures) == count:
                break
            shown = frame
    return pictures


def loader(folder: Path, workers: int, count: int, rank: int = 0, world: int = 1) -> StreamLoader:
    decode = DecodeClip(folder, count=count, height_px=SIZE_PX[0], width_px=SIZE_PX[1])
    stream = RowStream(folder, "clips", seed=1, rank=rank, world=world, transform=decode)
    return StreamLoader(stream, batch_size=BATCH, workers=workers)


def digests(batches: StreamLoader, limit: int | None = None) -> list[str]:
    """Return a hash of id and pixels of every clip, in order."""
    return [
        row["clip_id"] + hashlib.sha256(row["frames"].tobytes()).hexdigest()
        for batch in islice(iter(batches), limit)
        for row in batch
    ]


def resumes(folder: Path, workers: int, count: int, clips: int) -> bool:
    """Tell whether a stopped epoch goes on with the same clips and pixels."""
    whole = digests(loader(folder, workers, count))
    stopped = loader(folder, workers, count)
    stop = clips // BATCH // 2
    first = digests(stopped, stop)
    resumed = loader(folder, workers, count)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    return first + digests(resumed) == whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = os.environ.get("VIDEOAUTEUR_DATA")
    parser.add_argument("videos", nargs="*", type=Path, default=[Path(data) / "real"] if data else [],
                        help="files or folders; default: real footage in VIDEOAUTEUR_DATA")  # fmt: skip
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--frames", type=int, default=16, help="pictures of a clip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="12 clips, two rounds")
    given = parser.parse_args()
    if given.quick:
        given.clips, given.rounds = 12, 2
    files = [
        file
        for path in given.videos
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]
    rows = cut(files, given.clips)
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, [{"clips": rows}], max_shard=10**8, max_row_group=10**5)
        known = [row | _place(row) for row in rows]
        rates: dict[str, list[float]] = {"PyAV": [], "0 workers": [], "1 workers": [], "2 workers": []}
        for _ in range(given.rounds):
            started = time.perf_counter()
            for row in known:
                bare(row, given.frames)
            rates["PyAV"].append(len(rows) / (time.perf_counter() - started))
            for workers in (0, 1, 2):
                started = time.perf_counter()
                seen = sum(len(batch) for batch in loader(folder, workers, given.frames))
                assert seen == len(rows)
                rates[f"{workers} workers"].append(seen / (time.perf_counter() - started))
        ratios = {
            name: statistics.median(mine / base for mine, base in zip(found, rates["PyAV"], strict=True))
            for name, found in rates.items()
        }
        exact = all(resumes(folder, workers, given.frames, given.clips) for workers in (0, 1, 2))
        ranks = [digests(loader(folder, 1, 1, rank, 2)) for rank in (0, 1)]
        counts = Counter(one[:5] for rank in ranks for one in rank)
        complete = len(counts) == len(rows) and set(counts.values()) == {1}
    table = [(name, statistics.median(rates[name]), ratios[name]) for name in rates]
    print("\n" + markdown(("loader", "clips a second", "ratio to PyAV"), table))
    print(f"\nContinued exactly: {exact}. Two ranks disjoint and complete: {complete}.")
    worst = min(ratio for name, ratio in ratios.items() if name != "PyAV")
    print(json.dumps({"ratio_vs_pyav": round(worst, 3), "resume_exact": exact}))


def _place(row: Row) -> Row:
    """Return the facts that the bare decoding needs beforehand."""
    path = path_of(row["video_uri"])
    with open_media(path) as container:
        return {"path": str(path), "origin_s": start_of(container)}


if __name__ == "__main__":
    main()
