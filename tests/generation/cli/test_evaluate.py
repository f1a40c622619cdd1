"""``videoauteur evaluate generation`` from end to end, with models of the real classes, and its table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generation import config
from generation.core.states import Statistics
from generation.store import new_learner, save_learner
from pipeline.cli.main import main
from pipeline.evaluation.figures import Figure, as_markdown, measured, missing, write
from pipeline.evaluation.intervals import Estimate
from tests.support.chat import ChatServer, Reply, completion
from tests.support.features import write_features
from tests.support.films import BLUE, GREEN, RED, save_film
from tests.support.networks import save_tiny_clip, save_tiny_videomae
from tests.support.ratings import ratings

RECIPE = config.Recipe(
    director=config.DirectorSettings(
        backbone=config.Backbone(width=32, layers=1, heads=2),
        sampling=config.Sampling(max_action_tokens=6, max_caption_tokens=6),
    ),
    generator=config.GeneratorSettings(
        transformer=config.Transformer(heads=2, head_width=12, layers=1),
        frames=5, height_px=16, width_px=16, sample_steps=2, guidance=1.0,
    ),
)  # fmt: skip


def run(*arguments: object) -> int:
    return main(["evaluate", "generation", *map(str, arguments)])


def table(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    tree = json.loads((out / "evaluation.json").read_text())
    return {(each["of"], each["name"]): each for each in tree["figures"]}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An untrained director and generator, and features of two stories of three steps."""
    folder = tmp_path / "models"
    random = torch.Generator().manual_seed(0)
    states = torch.rand(2, 3, 1, 1280, generator=random)
    statistics = Statistics(states.mean(dim=(0, 1)), states.std(dim=(0, 1)))
    torch.manual_seed(0)
    for kind in ("director", "generator"):
        learner = new_learner(kind, RECIPE, statistics)  # type: ignore[arg-type]
        save_learner(learner, RECIPE, folder / kind)
    stories, clips, tensors = [], [], []
    for number, own in enumerate(states):
        actions, captions = ["Chop.", "Fry.", "Serve."], ["a board", "a pan", "a plate"]
        common = {"video_id": f"v{number}"}
        stories.append(common | {"goal": "How to cook?", "actions": actions, "captions": captions})
        for action, caption, state in zip(actions, captions, own, strict=True):
            latents = torch.rand(3, 3, 16, 16, generator=random) * 2 - 1
            tensors.append([{"state": state, "latents": latents}])
            clips.append(common | {"step_index": 0, "action": action, "caption": caption})
    of_stories = [[{"state": state} for state in own] for own in states]
    write_features(folder, "director", stories, of_stories)
    write_features(folder, "generator", clips, tensors)
    return folder


def test_models_in_one_table(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    film = save_film(tmp_path / "ours" / "a", [RED, BLUE])
    assert run(film, "--models", models, "--out", out, "--clips", 3) == 0
    figures = table(out)
    distance = "frechet(mean and change of efficientnet-lite0-pooled)"
    for of, name in (
        ("director", "next state, cosine"),
        ("director", "assignment exact"),
        ("director, plans", "order of states"),
        ("director, plans", "repeated actions"),
    ):
        found = figures[of, name]
        assert found["n"] == 2 and found["low"] <= found["value"] <= found["high"]
    for variant in ("predicted states", "true states", "true states and first key frame"):
        assert figures[f"generator, {variant}", distance]["value"] > 0
        assert "covariances lack rank" in figures[f"generator, {variant}", distance]["note"]
    assert figures["films ours", distance]["value"] > figures["generator, true states", distance]["value"]
    # The frame that is given is found again.
    alone, shown = (
        figures[f"generator, {variant}", distance]["value"]
        for variant in ("true states", "true states and first key frame")
    )
    assert shown < alone
    assert figures["generator", "FVD"]["note"] == "no VideoMAE given: --videomae DIR"
    assert not any("FVD" in name and each["value"] is not None for (_, name), each in figures.items())
    written = (out / "evaluation.md").read_text()
    assert written in capsys.readouterr().out
    assert "| generator, true states | CLIP-T | - | - | - |  | no CLIP given: --clip FOLDER |" in written
    assert "- features: those that the models were trained on" in written


def test_films_with_a_judge_a_clip_and_a_sheet(tmp_path: Path) -> None:
    for name, colours in {"ours/a": [RED, BLUE], "ours/b": [GREEN, GREEN], "rival/a": [BLUE, RED]}.items():
        save_film(tmp_path / name, colours)
    clip, out = save_tiny_clip(tmp_path / "clip"), tmp_path / "out"
    scores = {"reason": "So.", "aesthetic": 2, "realism": 3, "visual_consistency": 4, "narrative": 5}
    films = [tmp_path / "ours", tmp_path / "rival"]
    with ChatServer(lambda request: completion(json.dumps(scores))) as server:
        judge = ["--judge", server.base_url, "--judge-model", "m"]
        assert run(*films, "--out", out, "--clip", clip, "--rating-sheet", *judge) == 0
        assert run(*films, "--out", out, "--clip", clip, *judge) == 0
        assert len(server.requests) == 3, "an answer that is there is not paid for twice"
    figures = table(out)
    assert figures["films ours", "narrative (judged)"]["value"] == 5
    assert figures["films rival", "aesthetic (judged)"]["value"] == 2
    assert figures["films ours", "CLIP-T of clips"]["n"] == 2
    assert figures["films rival", "CLIP-T of clips"]["low"] is None, "one film has no interval"
    assert figures["films ours", "repeated states"]["value"] == pytest.approx(1 / 2)
    distance = "frechet(mean and change of efficientnet-lite0-pooled)"
    note = figures["films ours", distance]["note"]
    assert note == "no real clips to compare with: --models DIR, with a generator"
    note = figures["films ours", "realism (rated)"]["note"]
    assert note == "no ratings given: --rating-sheet, then --ratings FILE"

    rated = ratings(out / "rating", "me", {"ours/a": 1, "ours/b": 2, "rival/a": 3})
    assert run("--out", out, "--ratings", rated) == 0
    assert table(out)["films ours", "realism (rated)"]["value"] == 1.5


def test_a_generator_alone_and_a_videomae_that_gives_fvd(models: Path, tmp_path: Path) -> None:
    shutil.rmtree(models / "director")
    mae = save_tiny_videomae(tmp_path / "tiny-mae")
    out = tmp_path / "out"
    assert run("--models", models, "--out", out, "--clips", 2, "--videomae", mae) == 0
    figures = table(out)
    assert figures["generator, true states", "FVD(VideoMAE, tiny-mae)"]["value"] >= 0
    assert figures["director", "all"]["note"] == f"{models} has no director"
    why = figures["generator, predicted states", "inverse generation"]["note"]
    assert (
        why == "the models have no director that predicts states, or its stories are not those of the clips"
    )


def test_what_cannot_be_measured(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_film(tmp_path / "ours" / "a", [RED])
    film = tmp_path / "ours"
    for arguments, words in (
        ([], "nothing to measure: name films, --models DIR, or --ratings FILE"),
        ([film, "--features", film], "--features goes with --models"),
        ([film, "--judge", "http://127.0.0.1:1/v1"], "--judge and --judge-model go together"),
        (["--models", models, "--rating-sheet"], "--rating-sheet wants films"),
        (["--models", tmp_path / "none"], "no such folder"),
        (["--models", tmp_path], "holds neither director/recipe.yaml nor generator/recipe.yaml"),
        ([tmp_path / "models"], "holds no film"),
        ([film, "--clip", film], "--clip or --videomae"),
        ([film, "--ratings", film / "none.json"], "ratings are scored where their sheet was written"),
    ):
        assert run(*arguments, "--out", tmp_path / "out") == 2, words
        assert words in capsys.readouterr().err
    with ChatServer(lambda request: Reply({"error": {"message": "no such key"}}, 401)) as server:
        judge = ["--judge", server.base_url, "--judge-model", "m", "--judge-key-env", "MY_KEY"]
        assert run(film, "--out", tmp_path / "out", *judge) == 2
    assert "no such key; look at api_key_env, which is MY_KEY" in capsys.readouterr().err
    assert run("--models", models, "--features", film, "--out", tmp_path / "out") == 2
    assert "holds no rows: --features wants" in capsys.readouterr().err


def test_the_table_on_paper(tmp_path: Path) -> None:
    figures = [
        Figure(of="a|b", name="x", value=Estimate(mean=1 / 3, low=0.25, high=0.5, n=7), better="higher"),
        Figure(
            of="a", name="alone", value=Estimate(mean=2.0, low=np.nan, high=np.nan, n=1), note="only one"
        ),
        missing("a", "y", "nobody\nknows"),
        measured("a", "partly", [1.0, None, 3.0], ["s", "s", "t"]),
        measured("a", "nowhere", [None], ["s"]),
    ]
    text = as_markdown(figures, facts={"seed": 3})
    assert "- seed: 3" in text
    assert "| a\\|b | x | 0.3333 | 0.25 to 0.5 | 7 | higher |  |" in text
    assert "| a | alone | 2 | - | 1 |  | only one |" in text
    assert "| a | y | - | - | - |  | nobody knows |" in text
    assert "| a | partly | 2 |" in text
    assert "| a | nowhere | - | - | - |  | not defined for any of them |" in text
    write(figures, tmp_path / "out", facts={"seed": 3})
    tree = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert tree["seed"] == 3 and tree["figures"][1]["low"] is None and tree["figures"][2]["value"] is None
