"""The whole way on real parts: a curated video becomes features, trained models, a film, and a service."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from examples.media import Truth
from generation.data.reading import read_rows
from models.media import frames, open_media
from pipeline.cli.main import main
from pipeline.dataset.reading import open_dataset

RECIPE = {
    "state": {"picture_px": 32},
    "decoder": {"channels": [32, 32], "train": {"steps": 3, "batch_size": 1, "lanes": 1}},
    "director": {
        "backbone": {"width": 32, "layers": 1, "heads": 2},
        "train": {"steps": 3, "batch_size": 1, "lanes": 1, "checkpoint_every": 2},
    },
    "generator": {
        "transformer": {"layers": 1, "heads": 2, "head_width": 16},
        "frames": 5, "height_px": 16, "width_px": 16,
        "train": {"steps": 3, "batch_size": 2, "lanes": 1, "checkpoint_every": 2},
    },
}  # fmt: skip
GOAL = "How to make bread soup?"
FILM_DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, narrated: tuple[Path, Truth]) -> Path:
    """OUTPUT of two narrated videos of the same pictures."""
    folder = tmp_path_factory.mktemp("way")
    (folder / "videos").mkdir()
    for name, more in (("soup", b""), ("again", b"\0\0\0\x08free")):
        (folder / "videos" / f"{name}.mp4").write_bytes(narrated[0].read_bytes() + more)
    arguments = ["--runner", "local", "--set", "narrate.min_steps=1"]
    assert main(["curate", str(folder / "videos"), str(folder / "dataset"), *arguments]) == 0
    return folder / "dataset"


@pytest.fixture(scope="module")
def models(dataset: Path) -> Path:
    """MODELS of a director, a decoder and a generator that saw that dataset."""
    folder = dataset.parent / "models"
    folder.mkdir()
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    for kind in ("director", "decoder", "generator"):
        more = ["--recipe", str(recipe), "--runner", "local"]
        assert main(["train", kind, str(dataset), str(folder), *more]) == 0
    return folder


def test_features_hold_the_steps_of_the_narratives(dataset: Path, models: Path) -> None:
    told = {
        row["video_id"]: [step["action"] for step in row["steps"]]
        for batch in open_dataset(dataset).batches("narratives")
        for row in batch.to_pylist()
    }
    features = models / "features" / "director"
    rows = [row for part in ("train", "held_out") for row in read_rows(features, part)]
    assert {row["video_id"]: row["actions"] for row in rows} == told
    assert len(told) == 2 and all(len(actions) == 3 for actions in told.values())


def test_film_answers_the_question_with_steps_and_clips(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "film"
    assert main(["generate", GOAL, "--models", str(models), "--out", str(out), "--steps", "2"]) == 0
    plan = json.loads((out / "plan.json").read_text())
    assert plan["complete"] and plan["goal"] == GOAL and len(plan["steps"]) == 2
    with open_media(out / "film.mp4") as film:
        shown = sum(1 for _ in frames(film))
    clips = sorted((out / "clips").glob("*.mp4"))
    assert len(clips) == 2 and shown > 0


@contextmanager
def served(models: Path, jobs: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """Run ``videoauteur serve``; yields a client with the key that the command printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "pipeline", "serve", "--models", str(models), "--jobs", str(jobs),
        "--set", f"serve.port={port}",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            printed = ""
            while "studio" not in printed:
                line = process.stderr.readline()
                assert line, f"the service ended: {printed}"
                printed += line
            key = re.search(r"^key +(\S+)", printed, re.MULTILINE)
            assert key is not None, printed
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key[1]}"}
            ) as client:
                yield client, process
        finally:
            process.kill()


def test_service_as_a_command_makes_the_film_and_ends_on_a_signal(models: Path, tmp_path: Path) -> None:
    with served(models, tmp_path / "jobs") as (client, process):
        assert client.get("/").text.startswith("<!doctype html>")
        assert httpx.get(f"{client.base_url}/v1/narratives").status_code == 401
        made = client.post("/v1/narratives", json={"goal": GOAL, "steps": 2})
        assert made.status_code == 202
        address = f"/v1/narratives/{made.json()['id']}"
        until = time.monotonic() + FILM_DEADLINE_S
        while (job := client.get(address).json())["status"] not in ("done", "failed"):
            assert time.monotonic() < until, job
            time.sleep(0.2)
        assert job["status"] == "done", job
        film = client.get(f"{address}/film")
        assert film.status_code == 200 and film.content[4:8] == b"ftyp"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
