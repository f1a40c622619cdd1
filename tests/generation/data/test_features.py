"""Features of a small dataset whose every frame tells its time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load

from generation.config import Generator, Recipe, State
from generation.core.states import Statistics
from generation.core.story import prompt_of
from generation.data import maker as feature_maker
from generation.data.features import FeatureError, make_features
from generation.data.maker import Scene, clip_times
from generation.encoders.text import load_text
from models.media import picking
from models.media.picking import Wanted, pick
from pipeline.platform.config import ConfigError
from tests.support.narrated import (
    FPS,
    LEVELS_A_FRAME,
    STORIES,
    write_counting_video,
    write_dataset,
)

RECIPE = Recipe(state=State(picture_px=32), generator=Generator(frames=5, height_px=16, width_px=24, fps=5))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for video_id in STORIES:
        write_counting_video(folder / f"{video_id}.mp4")
    return folder


@pytest.fixture
def dataset(tmp_path: Path, media: Path) -> Path:
    write_dataset(tmp_path / "dataset", STORIES, media)
    return tmp_path / "dataset"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, media: Path) -> tuple[Path, Path]:
    """A dataset and its features."""
    folder = tmp_path_factory.mktemp("made")
    write_dataset(folder / "dataset", STORIES, media)
    return folder / "dataset", make_features(folder / "dataset", folder / "models", RECIPE, runner="local")


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return [row | {"tensors": load(row["tensors"])} for row in rows]


def _level(picture: Any) -> float:
    return float(np.asarray(picture, np.float32).mean())


def test_stories_hold_the_steps_in_order(made: tuple[Path, Path]) -> None:
    rows = _rows(made[1] / "stories")
    assert [(row["video_id"], row["goal"]) for row in rows] == [
        (video_id, goal) for video_id, (goal, _) in STORIES.items()
    ]
    assert rows[0]["actions"] == ["Chop it.", "Stir.", "Serve it."]
    assert rows[0]["captions"] == ["A knife.", "", "A bowl."]
    assert [row["tensors"]["states"].shape for row in rows] == [(3, 1, 1280), (2, 1, 1280)]
    clips = _rows(made[1] / "clips")
    states = torch.cat([row["tensors"]["states"] for row in rows])
    assert torch.equal(states, torch.stack([row["tensors"]["state"] for row in clips]))
    statistics = Statistics.load(made[1] / "statistics.safetensors")
    torch.testing.assert_close(statistics.mean, states.mean(dim=0))


def test_clips_hold_the_frames_of_their_own_interval(made: tuple[Path, Path]) -> None:
    rows = _rows(made[1] / "clips")
    steps = [step for _, steps in STORIES.values() for step in steps]
    assert [row["clip_id"] for row in rows] == ["aa00-0", "aa00-1", "aa00-2", "bb11-0", "bb11-1"]
    for row, (start, end, action, caption) in zip(rows, steps, strict=True):
        assert (row["action"], row["caption"]) == (action, caption)
        found = row["tensors"]
        assert found["keyframe"].shape == (32, 32, 3) and found["keyframe"].dtype == torch.uint8
        middle = int((start + end) / 2 * FPS + 1e-6)
        # The black sides are cut off.
        assert _level(found["keyframe"]) == pytest.approx(middle * LEVELS_A_FRAME, abs=2.5)
        assert found["latents"].shape == (3, 5, 16, 24)
        levels = ((found["latents"] + 1) * 127.5)[:, :, :, 8:16].mean(dim=(0, 2, 3))
        span = min(1.0, end - start)
        first = (start + end - span) / 2
        times = [first + (nth + 0.5) * span / 5 for nth in range(5)]
        shown = [int(time_s * FPS + 1e-6) * LEVELS_A_FRAME for time_s in times]
        assert levels.tolist() == pytest.approx(shown, abs=2.5)


def test_text_is_that_of_the_prompt_that_films_use(made: tuple[Path, Path]) -> None:
    row = _rows(made[1] / "clips")[0]
    text, mask = load_text(RECIPE.generator.text).encode([prompt_of("Chop it.", "A knife.")])
    length = int(mask.sum())
    torch.testing.assert_close(row["tensors"]["text"][:length], text[0][:length], atol=1e-4, rtol=1e-4)
    assert row["tensors"]["text_mask"].tolist() == mask[0].tolist()


def test_a_second_run_decodes_nothing_and_a_new_caption_costs_no_pictures(
    made: tuple[Path, Path], media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "open_media", _never)
    monkeypatch.setattr(feature_maker, "load_encoder", _never)
    memo = made[0] / "_memo"
    with monkeypatch.context() as patch:
        patch.setattr(feature_maker, "load_text", _never)
        again = make_features(made[0], tmp_path / "again", RECIPE, runner="local", memo=memo)
    for table in ("stories", "clips"):
        first = [path.read_bytes() for path in sorted((made[1] / table).iterdir())]
        assert [path.read_bytes() for path in sorted((again / table).iterdir())] == first
    changed = {
        **STORIES,
        "bb11": ("How to make tea", [(0.0, 3.0, "Boil milk.", "A pan."), *STORIES["bb11"][1][1:]]),
    }
    write_dataset(tmp_path / "dataset", changed, media)
    other = make_features(tmp_path / "dataset", tmp_path / "other", RECIPE, runner="local", memo=memo)
    before, after = _rows(made[1] / "clips"), _rows(other / "clips")
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old["tensors"]["latents"], new["tensors"]["latents"])
        same_text = torch.equal(old["tensors"]["text"], new["tensors"]["text"])
        assert same_text == (new["clip_id"] != "bb11-0")


def test_features_that_are_right_are_left_alone(made: tuple[Path, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made[1].rglob("*")}
    make_features(made[0], made[1].parent, RECIPE, runner="local")
    assert {path: path.stat().st_mtime_ns for path in made[1].rglob("*")} == before


def test_a_video_that_cannot_be_decoded_is_dropped_and_named(
    dataset: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "media"
    shutil.copytree(media, folder)
    (folder / "aa00.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 500)
    write_dataset(dataset, STORIES, folder)
    made = make_features(dataset, tmp_path / "models", RECIPE, runner="local")
    assert [row["video_id"] for row in _rows(made / "stories")] == ["bb11"]
    err = capsys.readouterr().err
    assert f"dropped {folder / 'aa00.mp4'}: " in err
    assert "features: 2 of 2 videos, 1 dropped" in err


def test_errors_say_what_is_wrong_with_the_dataset(dataset: Path, tmp_path: Path, media: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(FeatureError, match=r"no table narratives in it; name an OUTPUT of `curate`"):
        make_features(tmp_path, models, RECIPE, runner="local")
    write_dataset(tmp_path / "empty", {}, media)
    with pytest.raises(FeatureError, match=r"empty: holds no narratives; its report.html"):
        make_features(tmp_path / "empty", models, RECIPE, runner="local")
    write_dataset(dataset, STORIES, tmp_path / "moved away")
    with pytest.raises(FeatureError, match=r"2 of its 2 video files are gone, the first is .*aa00.mp4"):
        make_features(dataset, models, RECIPE, runner="local")
    assert not models.exists()


def test_a_codec_that_cannot_make_the_clips_is_told_before_anything_is_decoded(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = tmp_path / "codec"
    codec.mkdir()
    config = {"_class_name": "AutoencoderKLWan", "z_dim": 2, "temperal_downsample": [False, True, True],
              "latents_mean": [0.0, 0.0], "latents_std": [1.0, 1.0]}  # fmt: skip
    (codec / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(picking, "open_media", _never)
    recipe = Recipe.model_validate({"generator": {"codec": {"kind": "wan", "path": codec}, "frames": 8}})
    with pytest.raises(ConfigError, match=r"generator.frames: .*4k \+ 1"):
        make_features(dataset, tmp_path / "models", recipe, runner="local")


def test_a_clip_shorter_than_the_generator_s_is_sampled_over_its_whole_length() -> None:
    scene = Scene(clip_id="a", start_s=10.0, end_s=11.0, action="", caption="")
    assert clip_times(scene, 4, fps=8) == pytest.approx([10.3125, 10.4375, 10.5625, 10.6875])
    assert clip_times(scene, 4, fps=2) == pytest.approx([10.125, 10.375, 10.625, 10.875])


def test_pictures_are_complete_one_after_the_other(media: Path) -> None:
    path = media / "aa00.mp4"
    wanted = [Wanted([5.0, 99.0], 8, 8), Wanted([0.0, 0.05, 1.0], 4, 12)]
    found = list(pick(path, wanted))
    assert [index for index, _ in found] == [1, 0]
    assert [pictures.shape for _, pictures in found] == [(3, 4, 12, 3), (2, 8, 8, 3)]
    assert [_level(picture) for picture in found[1][1]] == pytest.approx([200, 236], abs=2.5)


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was not to be called")
