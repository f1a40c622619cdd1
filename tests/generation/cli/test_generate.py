"""``videoauteur generate`` with real, freshly initialised twins."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from generation import config
from generation.cli.generate import FilmProgress
from generation.core.states import Statistics
from generation.film.make import FilmEvent
from generation.film.trained import TrainedModels, settings_of
from generation.store import new_learner, save_learner
from pipeline.cli.main import main
from pipeline.platform.config import ConfigError

GOAL = "How to make spring rolls?"
RECIPE = config.Recipe(
    state=config.State(picture_px=32),
    director=config.DirectorSettings(
        backbone=config.Backbone(width=32, layers=1, heads=2),
        sampling=config.Sampling(max_action_tokens=6, max_caption_tokens=8),
    ),
    decoder=config.Decoder(channels=(32, 32), sample_steps=2),
    generator=config.GeneratorSettings(
        transformer=config.Transformer(heads=2, head_width=16, layers=1),
        frames=5, height_px=16, width_px=16, sample_steps=2,
    ),
    film=config.Film(upscale_px=32),
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    statistics = Statistics(torch.zeros(1, 1280), torch.ones(1, 1280))
    for kind in ("director", "generator", "decoder"):
        save_learner(new_learner(kind, RECIPE, statistics), RECIPE, folder / kind)
    return folder


def run(*arguments: object) -> int:
    return main(["generate", *map(str, arguments)])


def test_a_film_from_the_command_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "film", tmp_path / "first.png"
    Image.new("RGB", (40, 30), (200, 60, 20)).save(picture)
    command = (GOAL, "--models", models, "--out", out, "--steps", 2, "--seed", 4)
    command = (*command, "--first-step", f"Soak the rice paper::{picture}")
    assert run(*command) == 0

    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(out / "film.mp4")
    assert "1. Soak the rice paper" in told.out and "clips: 2/2" in told.err
    plan = json.loads((out / "plan.json").read_text())
    assert plan["seed"] == 4 and len(plan["steps"]) == 2 and set(plan["models"]) == {
        "director", "generator", "decoder",
    }  # fmt: skip
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}

    assert run(*command) == 0
    assert "clips: 2/2, was there" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}

    assert run(GOAL, "--models", models, "--out", out, "--edit", 2, "Fry the rolls") == 0
    assert json.loads((out / "plan.json").read_text())["steps"][1]["action"] == "Fry the rolls"
    after = {path.name: path.read_bytes() for path in (out / "clips").iterdir()}
    assert after["step-01.mp4"] == before[out / "clips/step-01.mp4"]
    assert after["step-02.mp4"] != before[out / "clips/step-02.mp4"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--edit", "two", "Fry"), "--edit two: a step's number comes first"),
        (("--edit", "2", "Fry"), "run the same command without --edit first"),
        (("--first-step", "Peel::none.png"), "none.png: No such file"),
        (("--first-step", "Peel", "--first-picture", __file__), "none of PNG, JPEG, WEBP"),
        (("--first-picture", __file__), "goes with --first-step"),
    ],
)
def test_wrong_use_is_told(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    assert run(GOAL, "--models", models, "--out", tmp_path / "film", *more) == 2
    assert message in capsys.readouterr().err


def test_settings_change_how_models_sample_and_not_what_they_are(models: Path, tmp_path: Path) -> None:
    chosen = settings_of(None, ["film.upscale_px=64", "generator.sample_steps=3"])
    changed, plain = TrainedModels(models, chosen), TrainedModels(models)
    assert changed.recipe().film.upscale_px == 64
    assert changed.generator().generator.options.sample_steps == 3  # type: ignore[attr-defined]
    assert changed.generator().identity["generator"] != plain.generator().identity["generator"]
    assert changed.director().identity == plain.director().identity
    file = tmp_path / "mine.yaml"
    file.write_text("film: {clips_per_step: 2}\nstate: {width: 7}\n")
    assert TrainedModels(models, settings_of(str(file), ())).recipe().film.clips_per_step == 2
    with pytest.raises(ConfigError, match=r"state\.width=7: belongs to the trained models"):
        settings_of(None, ["state.width=7"])
    with pytest.raises(ConfigError, match="train director"):
        TrainedModels(tmp_path).recipe()


def test_progress_on_a_terminal_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with FilmProgress() as progress:
        progress.event(FilmEvent(kind="clip", step=2, total=4, kept=False))
    assert "clips" in terminal.getvalue() and "2/4" in terminal.getvalue()
