"""Films from pretrained pipelines: every video family by one adapter, and the command as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline

from generation import config
from generation.core.states import Picture
from generation.film import pipelines
from generation.film.footage import Chapter, Sound, clip_frames, duration_of, join, write_clip
from generation.film.pipelines import LoadedPipeline, PipelineGenerator, StockPainter
from pipeline.cli.main import main
from pipeline.platform.config import ConfigError
from tests.support import tiny_pipelines
from tests.support.chat import ChatServer, Reply, completion

FAMILIES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], int]] = {
    "wan-2.2": (tiny_pipelines.wan_two_experts, {"frames": 5, "height_px": 16, "width_px": 32}, 4),
    "wan-2.2-ti2v": (
        lambda path: tiny_pipelines.wan_two_experts(path, expand_timesteps=True),
        {"frames": 5, "height_px": 32, "width_px": 32}, 4,
    ),
    "ltx": (tiny_pipelines.ltx, {"frames": 9, "height_px": 32, "width_px": 32}, 8),
    "cogvideox": (tiny_pipelines.cogvideox, {"frames": 9, "height_px": 16, "width_px": 16}, 4),
}  # fmt: skip


def picture(level: int, size: tuple[int, int] = (24, 40)) -> Picture:
    return np.full((*size, 3), level, np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_adapter_renders_with_every_family(family: str, tmp_path: Path) -> None:
    save, size, _ = FAMILIES[family]
    options = config.StockVideo(path=save(tmp_path / family), dtype="float32", steps=2, **size)
    generator = PipelineGenerator(LoadedPipeline(options, key="stock.video"), options)
    clip, sound = generator.render("stir", None, seed=1, keyframe=picture(40), first_frame=None)
    assert clip.shape == (size["frames"], size["height_px"], size["width_px"], 3) and clip.dtype == np.uint8
    assert sound is None
    again, _ = generator.render("stir", None, seed=1, keyframe=picture(40), first_frame=None)
    other, _ = generator.render("stir", None, seed=1, keyframe=picture(220), first_frame=None)
    assert np.array_equal(clip, again) and not np.array_equal(clip, other)


def test_frames_and_sizes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tiny_pipelines.wan_two_experts(tmp_path / "wan")
    options = config.StockVideo(path=path, dtype="float32", frames=7, height_px=16, width_px=32)
    pipeline = LoadedPipeline(options, key="stock.video")
    with pytest.raises(ConfigError, match=r"4k \+ 1 frames, not 7; 9 would do"):
        PipelineGenerator(pipeline, options)
    with pytest.raises(ConfigError, match=r"stock\.video\.width_px: .* multiples of 16"):
        PipelineGenerator(pipeline, options.model_copy(update={"frames": 5, "width_px": 20}))
    with pytest.raises(ConfigError, match=r"stock\.painter\.path: .* holds no model_index\.json"):
        LoadedPipeline(config.Pipeline(path=tmp_path), key="stock.painter")


def test_gpus_are_counted_round_those_that_a_process_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = config.Pipeline(
        path=tiny_pipelines.flux_kontext(tmp_path / "kontext"), dtype="float32", gpu=5
    )
    devices: list[str] = []
    monkeypatch.setattr(pipelines, "best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(DiffusionPipeline, "to", lambda self, device: devices.append(device))
    for visible in (8, 2, 1):
        monkeypatch.setattr(torch.cuda, "device_count", lambda visible=visible: visible)
        LoadedPipeline(options, key="stock.painter")
    assert devices == ["cuda:5", "cuda:1", "cuda:0"]


class Recorder:
    """An edit pipeline that notes the pictures it is shown."""

    def __init__(self, name: str, level: int) -> None:
        self.name, self.identity, self.takes = name, name, frozenset({"prompt", "image"})
        self.calls: list[dict[str, Any]] = []
        self._level = level

    def __call__(self, **inputs: Any) -> Any:
        self.calls.append(inputs)
        self._level += 10
        return type("Made", (), {"images": [np.full((24, 40, 3), self._level / 255)]})


@pytest.mark.parametrize("name", ["QwenImageEditPlusPipeline", "FluxKontextPipeline"])
def test_later_key_frames_are_edits_of_those_before(name: str) -> None:
    text, edit = Recorder("Text", 0), Recorder(name, 100)
    painter = StockPainter(text, edit, size_px=(24, 40), memory=2)  # type: ignore[arg-type]
    made = painter.paint(["one", "two", "three"], known=[], hints=[], seed=0)
    assert [int(each.mean()) for each in made] == [10, 110, 120]
    assert len(text.calls) == 1 and [call["prompt"].split()[-1] for call in edit.calls] == ["two", "three"]
    shown = edit.calls[1]["image"]
    if name.startswith("Qwen"):
        assert [int(np.asarray(each).mean()) for each in shown] == [10, 110]
    else:
        assert shown.size == (80, 24)


def test_kontext_edits_with_the_real_class(tmp_path: Path) -> None:
    path = tiny_pipelines.flux_kontext(tmp_path / "kontext")
    pipeline = LoadedPipeline(config.Pipeline(path=path, dtype="float32", steps=1), key="stock.editor")
    painter = StockPainter(pipeline, pipeline, size_px=(16, 32), memory=1)
    made = painter.paint(["a", "b"], known=[picture(90, (16, 32))], hints=[], seed=0)
    assert made.shape == (1, 16, 32, 3)


def test_sound_of_clips_stays_with_their_pictures(tmp_path: Path) -> None:
    tone = np.sin(np.arange(16_000) * 0.2).astype(np.float32)[:, None] * 0.5
    clips = []
    for number in (1, 2):
        clips.append(tmp_path / f"{number}.mp4")
        video = np.full((8, 32, 32, 3), 60 * number, np.uint8)
        write_clip(
            clips[-1], video, fps=8, short_side_px=32, key="k", sound=Sound(samples=tone, rate_hz=16_000)
        )
    chapters = [Chapter(start_s=n - 1, end_s=n, title=str(n), text=str(n)) for n in (1, 2)]
    join(tmp_path / "film.mp4", clips, chapters, title="t", key="k")
    with av.open(tmp_path / "film.mp4") as film:
        audio = film.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio)])
    assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.15)
    assert np.abs(samples).max() > 0.3
    assert (
        duration_of(tmp_path / "film.mp4") == pytest.approx(2.0)
        and len(clip_frames(tmp_path / "film.mp4")) == 16
    )


def plan(request: dict[str, Any]) -> Reply:
    """Answer as a language model that keeps to the schema."""
    asked = json.loads(request["messages"][-1]["content"])
    steps = [
        {"action": f"Do part {n}.", "caption": f"Hands do part {n}."} for n in range(1, asked["count"] + 1)
    ]
    for step, fixed in zip(steps, asked["fixed"], strict=False):
        step |= {name: text for name, text in fixed.items() if text}
    return completion(json.dumps({"steps": steps}))


def test_the_command_makes_a_film_from_stock_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    kontext = str(tiny_pipelines.flux_kontext(tmp_path / "kontext"))
    wan = str(tiny_pipelines.wan_two_experts(tmp_path / "wan"))
    with ChatServer(plan) as server:
        recipe = {
            "film": {"upscale_px": 32},
            "stock": {
                "planner": {"base_url": server.base_url, "model": "m", "steps": 3},
                "painter": {"path": kontext, "dtype": "float32", "steps": 1},
                "editor": {"path": kontext, "dtype": "float32", "steps": 1},
                "video": {
                    "path": wan, "dtype": "float32", "steps": 2, "frames": 5, "height_px": 16,
                    "width_px": 32,
                },
            },
        }  # fmt: skip
        file = tmp_path / "stock.yaml"
        file.write_text(yaml.safe_dump(recipe))
        command = ["generate", "How to make soup?", "--stock", str(file), "--out", str(tmp_path / "film")]
        assert main(command) == 0
        assert len(server.requests) == 1
        assert main(command) == 0 and len(server.requests) == 1
        assert main([*command, "--edit", "2", "Fry it."]) == 0 and len(server.requests) == 2
    tree = json.loads((tmp_path / "film" / "plan.json").read_text())
    assert [step["action"] for step in tree["steps"]] == ["Do part 1.", "Fry it.", "Do part 3."]
    assert tree["models"].keys() == {"director", "painter", "generator"}
    for step in tree["steps"]:
        assert step["source"] is None and (tmp_path / "film" / step["keyframe"]).is_file()
    assert (tmp_path / "film" / "film.mp4").is_file() and "Fry it." in capsys.readouterr().out


def test_stock_refuses_options_of_trained_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "How?", "--stock", "embedded", "--out", str(tmp_path / "film")]
    assert main([*command, "--recipe", "embedded"]) == 2
    assert "--recipe goes with --models" in capsys.readouterr().err
    assert main(command) == 2
    assert "no section stock" in capsys.readouterr().err
