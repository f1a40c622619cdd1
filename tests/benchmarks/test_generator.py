"""The generator's comparison reads curated datasets as it reads folders of clips."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load

from benchmarks.generator import read_dataset
from generation.config import Recipe
from tests.support.narrated import STORIES, write_counting_video, write_dataset


def test_rows_of_a_dataset_serve_every_condition(tmp_path: Path) -> None:
    for video_id in STORIES:
        write_counting_video(tmp_path / f"{video_id}.mp4")
    write_dataset(tmp_path, STORIES, tmp_path)
    recipe = Recipe()
    rows = read_dataset(tmp_path, recipe)
    assert len(rows) == 5 and recipe.generator.condition == "state"
    for row in rows:
        assert {"state", "latents", "known", "text"} <= load(row["tensors"]).keys()
        assert row["video"].shape == (5, 48, 48, 3)
