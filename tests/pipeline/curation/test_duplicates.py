"""The decision on near-duplicates over the videos of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import examples.media
from examples.drawing import moving_blobs
from examples.media import Scene
from models.media import frames, open_media, write_video
from pipeline.curation.config import Config
from pipeline.curation.duplicates import without_duplicates
from pipeline.curation.job import curate
from pipeline.platform.config import load
from stages.reasons import Reason
from stages.records import Fingerprint, Video
from tests.support.records import clip, file_facts


def video(name: str, seeds: list[int], width_px: int = 640) -> Video:
    """A video whose clips show scenes by their seeds."""
    clips, prints = [], []
    for index, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        clip_id = f"{name}-c{index:04d}"
        clips.append(replace(clip(index, 10.0 * index, 10.0 * index + 10), clip_id=clip_id))
        thumbs = (
            (rng.uniform(60, 190, (1, 8, 8)) + rng.normal(0, 12, (5, 8, 8))).clip(0, 255).astype(np.uint8)
        )
        hashes = rng.integers(1, 2**64, 5, np.uint64).astype(">u8")
        prints.append(
            Fingerprint(clip_id=clip_id, hashes=hashes.tobytes().hex(), thumbs=thumbs.tobytes().hex())
        )
    facts = file_facts(10.0 * len(seeds), width_px=width_px, audio_codec=None)
    return Video(
        uri=f"file:///{name}", video_id=name, content_id=name, facts=facts, clips=clips, fingerprints=prints
    )


def test_the_larger_copy_stays_and_is_named() -> None:
    first, second = without_duplicates([video("b", [1, 2, 3], 1280), video("a", [1, 9])])
    assert [one.video_id for one in (first, second)] == ["a", "b"]
    assert [one.clip_id for one in first.kept_clips] == ["a-c0001"]
    (drop,) = first.drops
    assert (drop.item_id, drop.stage, drop.reason) == ("a-c0000", "duplicates", Reason.DUPLICATE_CLIP)
    assert drop.detail == "copy of b-c0000 in file:///b; 0.0 of 64 bits differ"
    assert second.drops == []


def test_a_video_of_copies_alone_is_rejected_with_what_stays() -> None:
    kept, rejected = without_duplicates([video("a", [1, 2]), video("b", [1, 2])])
    assert kept.drops == []
    assert rejected.rejected is not None and rejected.rejected.reason is Reason.DUPLICATE_CLIP
    assert "a-c0000 in file:///a" in rejected.rejected.detail


def test_videos_without_duplicates_and_rejected_ones_are_as_they_were() -> None:
    gone = video("c", [1]).reject("probe", Reason.TOO_SHORT, "d")
    given = [video("a", [1, 2]), video("b", [3]), gone]
    assert without_duplicates(given) == given
    assert without_duplicates([]) == []


def test_a_scaled_copy_is_dropped_by_a_run_that_looks_for_duplicates(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    scenes = [Scene(duration_s=5, picture=moving_blobs(seed, (200, 120, 60))) for seed in (0, 1)]
    examples.media.write_video(films / "b.mp4", scenes, width_px=320, height_px=240, fps=6, audio=False)
    with open_media(films / "b.mp4") as container:
        copies = [frame.bgr(240, 180)[..., ::-1] for frame in frames(container)]
    write_video(films / "a.mp4", copies, 6, crf=28)
    options = [
        "run.runner=local", "run.transient_retries=0", "transcribe.require_speech=false",
        "match.required=false", "narrate.min_steps=1", "watermark.threshold=1", "duplicates.drop=true",
        # Nobody answers there: what is not rejected before fails.
        "language.base_url=http://127.0.0.1:9/v1", "language.model=none", "language.max_retries=0",
        "language.deadline_s=0.5",
    ]  # fmt: skip
    output = tmp_path / "out"
    curate(str(films), output, load(None, options, Config), memo=None)
    status = {Path(row["uri"]).name: row["status"] for row in pq.read_table(output / "videos").to_pylist()}
    assert status == {"a.mp4": "rejected", "b.mp4": "failed"}
    dropped = [row for row in pq.read_table(output / "rejects").to_pylist() if row["stage"] == "duplicates"]
    assert {row["reason"] for row in dropped if row["kind"] == "file"} == {"duplicate_clip"}
    assert all("b.mp4; " in row["detail"] for row in dropped if row["reason"] == "duplicate_clip")
