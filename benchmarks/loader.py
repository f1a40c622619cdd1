"""Clips a second through the PyTorch loader, against bare seeks and decodes by PyAV of the same spans.

Both give the same number of RGB pictures of each clip, at the same times and of the same size. They are
measured in turn, several times; a figure is the median over the rounds of the loader's rate by PyAV's in
the same round. Start-up of workers is part of the loader's time, and for a bucket the copies of the videos
to this node, in the first round. Also: a loader that is stopped in the middle and continued must hand out
the same clips with the same pixels; and two ranks together every clip once. Tables and videos are in a
folder, and in a bucket of a real S3 server (moto).

Keys of the last line: ``ratio_vs_pyav``, ``resume_exact`` (in a folder, the worst of 0, 1 and 2 workers),
``ratio_vs_pyav_s3``, ``resume_exact_s3`` (in a bucket, of 0 and 2 workers), ``ranks_complete``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av

from benchmarks.bucket_server import client, environment, make_bucket, server, upload
from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from models.errors import MediaError
from models.media import open_media, picture_stream, start_of
from pipeline.dataset.push import push
from pipeline.dataset.schema import TABLES
from pipeline.dataset.stream import DecodeClip, RowStream, StreamLoader
from pipeline.dataset.tables import Row
from pipeline.dataset.versions import VersionWriter

BATCH = 2
SIZE_PX = (224, 224)
BARE = "PyAV"
BUCKET = "s3://clips"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A dataset of clips and its videos, in a folder or in a bucket.

    Attributes:
        media: where the videos are.
        workers: numbers of workers that are measured.
    """

    name: str
    dataset: Path | str
    media: Path | str
    workers: tuple[int, ...]

    def loader(self, workers: int, count: int, rank: int = 0, world: int = 1) -> StreamLoader:
        """Return a loader of clips with so many pictures each."""
        decode = DecodeClip(
            self.dataset, count=count, height_px=SIZE_PX[0], width_px=SIZE_PX[1], media_root=self.media
        )
        stream = RowStream(self.dataset, "clips", seed=1, rank=rank, world=world, transform=decode)
        return StreamLoader(stream, batch_size=BATCH, workers=workers)

    def resumes(self, workers: int, count: int, clips: int) -> bool:
        """Tell whether a stopped epoch goes on with the same clips and pixels."""
        whole = digests(self.loader(workers, count))
        stopped = self.loader(workers, count)
        first = digests(stopped, clips // BATCH // 2)
        resumed = self.loader(workers, count)
        resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
        return first + digests(resumed) == whole


def linked(given: Sequence[Path], folder: Path) -> dict[Path, float]:
    """Link the files with pictures into a folder; return the links with their lengths in seconds."""
    folder.mkdir()
    lengths: dict[Path, float] = {}
    files = [
        file
        for path in given
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]
    for number, path in enumerate(files):
        try:
            with open_media(path) as container:
                if picture_stream(container) is not None and container.duration:
                    link = folder / f"{number:04d}{path.suffix}"
                    link.symlink_to(path.absolute())
                    lengths[link] = container.duration / av.time_base
        except MediaError:
            continue
    if not lengths:
        raise SystemExit(f"no video with pictures among {len(files)} files")
    return lengths


def cut(lengths: Mapping[Path, float], clips: int) -> list[Row]:
    """Return rows of random spans of 5 to 10 s in videos of these lengths."""
    dice = random.Random(0)
    rows = []
    for number in range(clips):
        path = list(lengths)[number % len(lengths)]
        length_s = min(dice.uniform(5, 10), lengths[path])
        start_s = dice.uniform(0, lengths[path] - length_s)
        rows.append(
            dict.fromkeys(TABLES["clips"].names)
            | {"clip_id": f"{number:05d}", "video_id": hashlib.sha256(path.name.encode()).hexdigest()[:16],
               "video_uri": path.name, "start_s": start_s, "end_s": start_s + length_s}
        )  # fmt: skip
    return rows


def write_dataset(output: Path, rows: Sequence[Row], media: Path) -> None:
    """Write a dataset whose one table with rows is that of the clips."""
    with VersionWriter(
        output, scratch=output, input_root=f"{media.as_uri()}/", max_shard=10**8, max_row_group=10**5
    ) as version:
        version.add({"clips": rows})
        version.write()
        version.commit()


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


def digests(batches: StreamLoader, limit: int | None = None) -> list[str]:
    """Return a hash of id and pixels of every clip, in order."""
    return [
        row["clip_id"] + hashlib.sha256(row["frames"].tobytes()).hexdigest()
        for batch in islice(iter(batches), limit)
        for row in batch
    ]


def rates(place: Place, rows: Sequence[Row], count: int, rounds: int) -> dict[str, list[float]]:
    """Return clips a second by PyAV and by loaders, one for each round.

    Args:
        rows: with ``path`` and ``origin_s``, for PyAV.
        count: pictures of a clip.
    """
    found: dict[str, list[float]] = defaultdict(list)
    # The first decoding loads libraries.
    next(iter(place.loader(0, count)))
    for _ in range(rounds):
        started = time.perf_counter()
        for row in rows:
            bare(row, count)
        found[BARE].append(len(rows) / (time.perf_counter() - started))
        for workers in place.workers:
            started = time.perf_counter()
            seen = sum(len(batch) for batch in place.loader(workers, count))
            if seen != len(rows):
                raise SystemExit(f"{place.name}: {seen} of {len(rows)} clips came")
            found[f"{workers} workers"].append(seen / (time.perf_counter() - started))
    return found


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = parser_of("loader", __doc__)
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
    print(machine())
    lines: list[list[object]] = []
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name, server("moto") as upstream:
        media, dataset = Path(name) / "videos", Path(name) / "dataset"
        rows = cut(linked(given.videos, media), given.clips)
        write_dataset(dataset, rows, media)
        known = [row | _place(media / row["video_uri"]) for row in rows]
        make_bucket(upstream, BUCKET.removeprefix("s3://"))
        with client(environment(upstream, "key", "secret")):
            upload(BUCKET, media, "videos")
            push(dataset, f"{BUCKET}/dataset")
            places = (
                Place(name="folder", dataset=dataset, media=media, workers=(0, 1, 2)),
                Place(name="bucket", dataset=f"{BUCKET}/dataset", media=f"{BUCKET}/videos", workers=(0, 2)),
            )
            for place, suffix in zip(places, ("", "_s3"), strict=True):
                found = rates(place, known, given.frames, given.rounds)
                ratios = {key: _ratio(found[key], found[BARE]) for key in found}
                lines += [[place.name, key, statistics.median(found[key]), ratios[key]] for key in found]
                exact = all(place.resumes(workers, given.frames, given.clips) for workers in place.workers)
                figures[f"ratio_vs_pyav{suffix}"] = round(
                    min(ratios[key] for key in ratios if key != BARE), 3
                )
                figures[f"resume_exact{suffix}"] = exact
            ranks = [digests(places[0].loader(1, 1, rank, 2)) for rank in (0, 1)]
    counts = Counter(one[:5] for rank in ranks for one in rank)
    figures["ranks_complete"] = len(counts) == len(rows) and set(counts.values()) == {1}
    print("\n" + markdown(("place", "loader", "clips a second", "ratio to PyAV"), lines), "\n")
    print(json.dumps(figures))


def _ratio(mine: Sequence[float], base: Sequence[float]) -> float:
    """Return the median ratio of rates in the same round."""
    return statistics.median(one / other for one, other in zip(mine, base, strict=True))


def _place(path: Path) -> Row:
    """Return the facts that the bare decoding needs beforehand."""
    with open_media(path) as container:
        return {"path": str(path), "origin_s": start_of(container)}


if __name__ == "__main__":
    main()
