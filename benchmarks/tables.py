"""Memory of the driver while it writes the tables of synthetic videos, and what ten more videos change.

Each number of videos runs in a process of its own: rows are added in random order, tables, card, report and
run file are written and committed. Memory is the peak of the process above that before the first video.
Shards and row groups are small here, so that there are many.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import machine
from pipeline import __version__
from pipeline.curation.config import Config
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import SCHEMA_VERSION, TABLES
from pipeline.dataset.tables import Row, Rows
from pipeline.dataset.versions import VersionWriter
from pipeline.report.page import write_report
from pipeline.report.samples import Pictures
from pipeline.report.summary import summarise, write_card

WORDS = "add the chopped onion to the hot oil and stir until it is golden brown".split()


def synthetic(number: int, clips: int) -> Rows:
    """Return the rows of one video with so many clips, each with an action and a match."""
    dice = random.Random(number)
    video_id = f"{dice.getrandbits(64):016x}"
    rows: Rows = {name: [] for name in TABLES}
    facts: Row = {"uri": f"{number:07d}.mp4", "video_id": video_id, "status": "kept", "num_clips": clips,
             "duration_s": clips * 8.0, "shot_starts_s": [8.0 * at for at in range(clips)]}  # fmt: skip
    rows["videos"] = [facts | {"title": "How to make soup?", "num_actions": clips, "num_matches": clips}]
    steps = []
    for at in range(clips):
        span: Row = {"start_s": at * 8.0 + dice.random(), "end_s": at * 8.0 + 7.5, "video_id": video_id}
        clip_id, action_id = f"{video_id}-c{at:04d}", f"{video_id}-a{at:04d}"
        caption = " ".join(dice.choices(WORDS, k=40))
        action = " ".join(dice.choices(WORDS, k=9))
        rows["clips"].append(
            span | {"clip_id": clip_id, "clip_index": at, "video_uri": facts["uri"], "caption": caption,
                    "caption_model": "m", "caption_frames_s": [span["start_s"] + x for x in range(5)],
                    "sharpness": dice.random(), "motion": dice.random(), "watermark_score": 0.1}
        )  # fmt: skip
        rows["actions"].append(
            span | {"action_id": action_id, "text": action, "asr_text": f"now {action}", "source": "asr",
                    "confidence": dice.random(), "matched": True}
        )  # fmt: skip
        ids = {"clip_id": clip_id, "action_id": action_id}
        rows["matches"].append({**ids, "video_id": video_id, "iou": dice.random(), "rule": "start"})
        rows["rejects"].append(
            span | {"kind": "clip", "clip_id": f"{video_id}-d{at:04d}", "stage": "clip",
                    "reason": "blurred", "uri": facts["uri"], "detail": "sharpness 0.05"}
        )  # fmt: skip
        steps.append(
            {**ids, "step_index": at, "start_s": span["start_s"], "end_s": span["end_s"], "action": action,
             "caption": caption}
        )  # fmt: skip
    rows["narratives"] = [
        {"video_id": video_id, "title": "How to make soup?", "steps": steps, "integrity": 1.0}
    ]
    return rows


def write(output: Path, videos: int, clips: int, *, shard: int, group: int) -> dict[str, float]:
    """Write a dataset; returns ``mb`` of memory beyond the start, and seconds."""
    before = _peak_mb()
    started = time.perf_counter()
    with VersionWriter(
        output, scratch=output / "_work", input_root="file:///in/", max_shard=shard, max_row_group=group
    ) as version:
        for number in range(videos):
            version.add(synthetic(number, clips))
        counts = version.write()
        summary = summarise(version.folder, counts, {}, [], 0.0)
        write_card(version.folder, summary)
        run = {
            "videoauteur": __version__, "schema_version": SCHEMA_VERSION, "machine": "",
            "config": Config().model_dump(mode="json"), "config_origins": {},
        }  # fmt: skip
        write_report(
            version.folder, summary, pictures=Pictures(scratch=output, input_root="file:///in/"), run=run
        )
        (version.folder / "run.json").write_text(json.dumps({"status": "done", **run, **summary}))
        version.commit()
    return {"mb": _peak_mb() - before, "s": time.perf_counter() - started}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def shards(output: Path) -> Iterator[str]:
    """Yield the shards of all tables; a shard that changed has another name."""
    opened = open_dataset(output)
    for name in TABLES:
        yield from (f"{name}/{path.name}" for path in opened.files(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, nargs="+", default=[2000, 8000, 32_000])
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--shard-bytes", type=int, default=64_000_000)
    parser.add_argument("--row-group-bytes", type=int, default=16_000_000)
    parser.add_argument("--quick", action="store_true", help="500 and 2,000 videos")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = {"shard": given.shard_bytes, "group": given.row_group_bytes}
    if given.child is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(write(Path(folder), given.child, given.clips, **sizes)))
        return
    print(machine())
    print("\n| videos | driver memory, MB beyond its start | seconds |\n|---|---|---|")
    memory: dict[str, int] = {}
    for videos in [500, 2000] if given.quick else given.videos:
        command = [sys.executable, "-m", "benchmarks.tables", f"--child={videos}", f"--clips={given.clips}",
                   f"--shard-bytes={given.shard_bytes}",
                   f"--row-group-bytes={given.row_group_bytes}"]  # fmt: skip
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        memory[str(videos)] = round(found["mb"])
        print(f"| {videos:,} | {found['mb']:.0f} | {found['s']:.1f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        small = {"shard": 1_000_000, "group": 250_000}
        write(Path(folder), 1000, given.clips, **small)
        before = set(shards(Path(folder)))
        write(Path(folder), 1010, given.clips, **small)
        changed, total = len(set(shards(Path(folder))) - before), len(before)
    print(f"\nTen videos more than 1,000, shards of 1 MB: {changed} of {total} shards changed.")
    print(json.dumps({"driver_mb": memory, "shards": total, "shards_changed": changed}))


if __name__ == "__main__":
    main()
