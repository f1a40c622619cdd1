"""Features of a small dataset whose every frame tells its time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from safetensors.torch import load

from generation.config import Features, GeneratorSettings, Recipe, State
from generation.core.states import Statistics
from generation.core.story import prompt_of
from generation.data import maker as feature_maker
from generation.data import ray_features
from generation.data.features import make_features
from generation.data.files import pack, unpack
from generation.data.maker import clip_times
from generation.data.narrated import FeatureError, Narrated, held_out
from generation.data.reading import HELD_OUT, TRAIN, read_rows
from generation.encoders.text import load_text
from models.media import picking
from models.media.picking import Wanted, pick
from pipeline.platform.config import ConfigError
from stages.records import Interval
from tests.support.narrated import FPS, LEVELS_A_FRAME, STORIES, write_counting_video, write_dataset

RECIPE = Recipe(
    state=State(picture_px=32), generator=GeneratorSettings(frames=5, height_px=16, width_px=24, fps=5)
)


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
    return folder / "dataset", _make(folder / "dataset", folder / "models")


def _make(dataset: Path, models: Path, memo: Path | None = None) -> Path:
    """Features of all three models; returns their folder."""
    for kind in ("director", "generator", "decoder"):
        made = make_features(kind, dataset, models, RECIPE, runner="local", memo=memo)  # type: ignore[arg-type]
    return made.parent


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row | {"tensors": load(row["tensors"])} for row in read_rows(folder, TRAIN)]


def _level(picture: Any) -> float:
    return float(np.asarray(picture, np.float32).mean())


def test_stories_hold_the_steps_in_order(made: tuple[Path, Path]) -> None:
    rows = _rows(made[1] / "director")
    assert [(row["video_id"], row["goal"]) for row in rows] == [
        (video_id, goal) for video_id, (goal, _) in STORIES.items()
    ]
    assert rows[0]["actions"] == ["Chop it.", "Stir.", "Serve it."]
    assert rows[0]["captions"] == ["A knife.", "", "A bowl."]
    assert [row["tensors"]["states"].shape for row in rows] == [(3, 1, 1280), (2, 1, 1280)]
    clips = _rows(made[1] / "generator")
    states = torch.cat([row["tensors"]["states"] for row in rows])
    assert torch.equal(states, torch.stack([row["tensors"]["state"] for row in clips]))
    statistics = Statistics.load(made[1] / "director" / "statistics.safetensors")
    torch.testing.assert_close(statistics.mean, states.float().mean(dim=0))


def test_clips_hold_the_frames_of_their_own_interval(made: tuple[Path, Path]) -> None:
    rows = _rows(made[1] / "generator")
    steps = [step for _, steps in STORIES.values() for step in steps]
    assert [row["clip_id"] for row in rows] == ["aa00-0", "aa00-1", "aa00-2", "bb11-0", "bb11-1"]
    keyframes = [row["tensors"]["keyframe"] for row in _rows(made[1] / "decoder")]
    for row, keyframe, (start, end, action, caption) in zip(rows, keyframes, steps, strict=True):
        assert (row["action"], row["caption"]) == (action, caption)
        found = row["tensors"] | {"keyframe": keyframe}
        assert found["keyframe"].shape == (32, 32, 3) and found["keyframe"].dtype == torch.uint8
        middle = int((start + end) / 2 * FPS + 1e-6)
        # The black sides are cut off.
        assert _level(found["keyframe"]) == pytest.approx(middle * LEVELS_A_FRAME, abs=2.5)
        assert found["latents"].shape == (3, 5, 16, 24)
        levels = ((found["latents"].float() + 1) * 127.5)[:, :, :, 8:16].mean(dim=(0, 2, 3))
        span = min(1.0, end - start)
        first = (start + end - span) / 2
        times = [first + (nth + 0.5) * span / 5 for nth in range(5)]
        shown = [int(time_s * FPS + 1e-6) * LEVELS_A_FRAME for time_s in times]
        assert levels.tolist() == pytest.approx(shown, abs=2.5)


def test_text_is_that_of_the_prompt_that_films_use(made: tuple[Path, Path]) -> None:
    row = _rows(made[1] / "generator")[0]
    text, mask = load_text(RECIPE.generator.text).encode([prompt_of("Chop it.", "A knife.")])
    assert torch.equal(row["tensors"]["text"], text[0][mask[0]].bfloat16())


def test_a_second_run_decodes_nothing_and_a_new_caption_costs_no_pictures(
    made: tuple[Path, Path], media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "open_media", _never)
    monkeypatch.setattr(feature_maker, "load_encoder", _never)
    memo = made[0] / "_memo"
    with monkeypatch.context() as patch:
        patch.setattr(feature_maker, "load_text", _never)
        again = _make(made[0], tmp_path / "again", memo)
    for table in ("director/train", "generator/train", "decoder/train"):
        first = [path.read_bytes() for path in sorted((made[1] / table).iterdir())]
        assert [path.read_bytes() for path in sorted((again / table).iterdir())] == first
    changed = {
        **STORIES,
        "bb11": ("How to make tea", [(0.0, 3.0, "Boil milk.", "A pan."), *STORIES["bb11"][1][1:]]),
    }
    write_dataset(tmp_path / "dataset", changed, media)
    other = _make(tmp_path / "dataset", tmp_path / "other", memo)
    before, after = _rows(made[1] / "generator"), _rows(other / "generator")
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old["tensors"]["latents"], new["tensors"]["latents"])
        same_text = torch.equal(old["tensors"]["text"], new["tensors"]["text"])
        assert same_text == (new["clip_id"] != "bb11-0")


def test_a_model_computes_only_what_it_reads_and_replaces_nothing_of_another(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make_features("generator", dataset, tmp_path / "models", RECIPE, runner="local")
    before = {path: path.read_bytes() for path in generator.rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(feature_maker, "load_codec", _never)
        patch.setattr(feature_maker, "load_text", _never)
        make_features("director", dataset, tmp_path / "models", RECIPE, runner="local")
    assert {path: path.read_bytes() for path in generator.rglob("*.*")} == before


def test_videos_are_held_out_as_a_whole_and_out_of_the_statistics(dataset: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"features": Features(held_out=0.5)})
    made = make_features("generator", dataset, tmp_path / "models", recipe, runner="local")
    trained, rest = ({row["video_id"] for row in read_rows(made, split)} for split in (TRAIN, HELD_OUT))
    assert trained | rest == set(STORIES) and len(trained) == len(rest) == 1
    states = [load(row["tensors"])["state"].float() for row in read_rows(made, TRAIN)]
    statistics = Statistics.load(made / "statistics.safetensors")
    torch.testing.assert_close(statistics.mean, torch.stack(states).mean(dim=0))


def test_weights_that_are_not_there_are_named_and_no_video_is_blamed(dataset: Path, tmp_path: Path) -> None:
    state = State(family="clip_unclip", path=tmp_path / "nowhere", width=24)
    recipe = RECIPE.model_copy(update={"state": state})
    with pytest.raises(ConfigError, match=r"state\.path .*nowhere: cannot be loaded"):
        make_features("director", dataset, tmp_path, recipe, runner="local")


def test_an_error_of_a_ray_worker_is_reported_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = ConfigError("state.path /nowhere: cannot be loaded")

    def failed(result: object) -> object:
        raise RayTaskError("make", "Traceback of the worker", cause)

    monkeypatch.setattr(ray, "get", failed)
    with pytest.raises(FeatureError) as caught:
        ray_features._get(None)
    assert str(caught.value) == str(cause)


def test_holding_all_videos_out_names_the_option(dataset: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"features": Features(held_out=1.0)})
    with pytest.raises(FeatureError, match=r"0 videos to train on.*lower features\.held_out \(1\)"):
        make_features("director", dataset, tmp_path, recipe, runner="local")


def test_a_larger_dataset_holds_out_mostly_the_same_videos() -> None:
    videos = [Narrated(video_id=f"{number:04}", path=Path(), goal="", steps=()) for number in range(400)]
    few, many = held_out(videos[:200], 0.1), held_out(videos, 0.1)
    assert (len(few), len(many)) == (20, 40)
    assert len(few & many) >= 14


def test_numbers_in_files_are_bfloat16_and_take_three_quarters_of_its_size() -> None:
    latents = torch.randn(16, 8, 30, 52)
    keyframe = torch.randint(0, 256, (4, 4, 3), dtype=torch.uint8)
    packed = pack({"latents": latents, "keyframe": keyframe, "one": torch.tensor(0.5)})
    found = unpack(packed)
    assert torch.equal(found["latents"], latents.bfloat16()) and torch.equal(found["keyframe"], keyframe)
    assert found["one"].item() == 0.5
    compressed = pa.compress(packed, codec="zstd", asbytes=True)
    assert len(compressed) < 0.75 * latents.numel() * 2


def test_features_that_are_right_are_left_alone(made: tuple[Path, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made[1].rglob("*")}
    _make(made[0], made[1].parent)
    assert {path: path.stat().st_mtime_ns for path in made[1].rglob("*")} == before


def test_a_video_that_cannot_be_decoded_is_dropped_and_named(
    dataset: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "media"
    shutil.copytree(media, folder)
    (folder / "aa00.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 500)
    write_dataset(dataset, STORIES, folder)
    made = _make(dataset, tmp_path / "models")
    assert [row["video_id"] for row in _rows(made / "director")] == ["bb11"]
    err = capsys.readouterr().err
    told = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    dropped = [line["text"] for line in told if line["event"] == "message"]
    assert dropped and dropped[0].startswith(f"dropped {folder / 'aa00.mp4'}: ")
    progress = [line for line in told if line["event"] == "progress"][-1]
    assert (progress["done"], progress["total"], progress["note"]) == (2, 2, "1 dropped")


def test_errors_say_what_is_wrong_with_the_dataset(dataset: Path, tmp_path: Path, media: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(FeatureError, match=r"no table narratives in it; name an OUTPUT of `curate`"):
        make_features("director", tmp_path, models, RECIPE, runner="local")
    write_dataset(tmp_path / "empty", {}, media)
    with pytest.raises(FeatureError, match=r"empty: holds no narratives; its report.html"):
        make_features("director", tmp_path / "empty", models, RECIPE, runner="local")
    write_dataset(dataset, STORIES, tmp_path / "moved away")
    with pytest.raises(FeatureError, match=r"2 of its 2 video files are gone, the first is .*aa00.mp4"):
        make_features("director", dataset, models, RECIPE, runner="local")
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
        make_features("generator", dataset, tmp_path / "models", recipe, runner="local")


def test_a_clip_shorter_than_the_generator_s_is_sampled_over_its_whole_length() -> None:
    clip = Interval(start_s=10.0, end_s=11.0)
    assert clip_times(clip, 4, fps=8) == pytest.approx([10.3125, 10.4375, 10.5625, 10.6875])
    assert clip_times(clip, 4, fps=2) == pytest.approx([10.125, 10.375, 10.625, 10.875])


def test_pictures_are_complete_one_after_the_other(media: Path) -> None:
    path = media / "aa00.mp4"
    wanted = [Wanted([5.0, 99.0], 8, 8), Wanted([0.0, 0.05, 1.0], 4, 12)]
    found = list(pick(path, wanted))
    assert [index for index, _ in found] == [1, 0]
    assert [pictures.shape for _, pictures in found] == [(3, 4, 12, 3), (2, 8, 8, 3)]
    assert [_level(picture) for picture in found[1][1]] == pytest.approx([200, 236], abs=2.5)


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was not to be called")
