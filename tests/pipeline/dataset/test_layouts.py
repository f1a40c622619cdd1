"""Exports for other trainers, read back the way that each of them reads."""

from __future__ import annotations

import csv
import json
import tarfile
from itertools import groupby
from pathlib import Path

import pytest

from examples.media import Truth
from models.media import frames, open_media
from pipeline.cli.main import main
from pipeline.dataset.schema import TABLES
from pipeline.dataset.tables import write_tables

STEPS = (("a", 6.0, 12.0, "Chop the leek."), ("b", 12.0, 18.0, "Fry the leek."))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, narrated: tuple[Path, Truth]) -> Path:
    """Tables of one video with two clips, an action for the first, and their story."""
    folder = tmp_path_factory.mktemp("layouts")
    video = {"video_id": "0" * 16}

    def row(table: str, **values: object) -> dict[str, object]:
        return dict.fromkeys(TABLES[table].names) | video | values

    rows = {
        "clips": [
            row("clips", clip_id=name, video_uri=narrated[0].as_uri(), start_s=start_s, end_s=end_s,
                caption=f"A leek,\n seen from \"{name}\".")
            for name, start_s, end_s, _ in STEPS
        ],
        "actions": [row("actions", action_id="x", start_s=6.5, end_s=8.0, text="Chop the leek.")],
        "matches": [row("matches", clip_id="a", action_id="x")],
        "narratives": [
            row("narratives", title="How to fry a leek?", steps=[
                {"step_index": at, "clip_id": name, "start_s": start_s, "end_s": end_s, "action": action,
                 "caption": f"caption {name}"}
                for at, (name, start_s, end_s, action) in enumerate(STEPS)
            ])
        ],
    }  # fmt: skip
    write_tables(folder, [rows], max_shard=10**9, max_row_group=10**6)
    return folder


def export(layout: str, output: Path, target: Path, *more: str) -> int:
    return main(["export", layout, str(output), str(target), *more])


def length_s(path: Path) -> float:
    with open_media(path) as container:
        return [frame.time_s + frame.duration_s for frame in frames(container)][-1]


def test_clips_are_listed_in_the_form_of_each_trainer(output: Path, tmp_path: Path) -> None:
    target = tmp_path / "clips"
    assert export("clips", output, target) == 0
    files = ["videos/a.mp4", "videos/b.mp4"]
    prompts = ['A leek, seen from "a".', 'A leek, seen from "b".']
    with (target / "metadata.csv").open(newline="", encoding="utf-8") as opened:
        table = list(csv.DictReader(opened))
    assert [(row["file_name"], row["video"], row["prompt"], row["action"]) for row in table] == [
        (files[0], files[0], prompts[0], "Chop the leek."), (files[1], files[1], prompts[1], ""),
    ]  # fmt: skip
    listed = [json.loads(line) for line in (target / "metadata.jsonl").read_text().splitlines()]
    assert [row["video_path"] for row in listed] == files
    assert (target / "videos.txt").read_text().splitlines() == files
    assert (target / "prompts.txt").read_text().splitlines() == prompts
    assert [length_s(target / name) for name in files] == [pytest.approx(6.0, abs=0.1)] * 2


def test_multishot_numbers_the_shots_of_a_story(output: Path, tmp_path: Path) -> None:
    target = tmp_path / "multishot"
    assert export("multishot", output, target) == 0
    found = sorted(path.relative_to(target).as_posix() for path in target.rglob("0*.*") if path.is_file())
    story = "0" * 16
    assert found == [
        f"caption/{story}/000001.json", f"caption/{story}/000002.json",
        f"video/{story}/000001.mp4", f"video/{story}/000002.mp4",
    ]  # fmt: skip
    assert json.loads((target / "caption" / story / "000002.json").read_text()) == {
        "caption": "caption b", "action": "Fry the leek.", "title": "How to fry a leek?",
    }  # fmt: skip


def test_webdataset_groups_a_clip_s_members_and_repeats_its_bytes(output: Path, tmp_path: Path) -> None:
    for name in ("once", "again"):
        assert export("webdataset", output, tmp_path / name) == 0
    shard = tmp_path / "once" / "clips-240p-000000.tar"
    assert shard.read_bytes() == (tmp_path / "again" / shard.name).read_bytes()
    with tarfile.open(shard) as tar:
        members = [(entry.name, tar.extractfile(entry)) for entry in tar]
        samples = {
            key: {name.partition(".")[2]: file.read() for name, file in group if file is not None}
            for key, group in groupby(members, key=lambda member: member[0].partition(".")[0])
        }
    assert sorted(samples) == ["a", "b"]
    assert all(sorted(sample) == ["jpg", "json", "mp4"] for sample in samples.values())
    told = json.loads(samples["a"]["json"])
    assert (told["actions"], told["start_s"]) == (["Chop the leek."], 6.0)
    assert told["title"] == "How to fry a leek?"
