"""Messages and exit codes of the command line, without a video being touched."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from models.errors import MissingWeightsError
from pipeline import __version__
from pipeline.cli.main import main
from pipeline.curation import job
from pipeline.curation.config import Config
from pipeline.platform.command import ended

ROOT = Path(__file__).parents[3]


def test_the_module_is_the_program() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pipeline", "config", "--set", "clip.min_s=4"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stderr == ""
    assert "  min_s: 4.0  # --set\n" in run.stdout
    assert Config.model_validate(yaml.safe_load(run.stdout)).clip.min_s == 4.0


def test_config_prints_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("narrate: {min_steps: 3}\nrun: {runner: local}\n")
    assert main(["config", "--config", str(file), "--set", "run.runner=ray"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"  min_steps: 3  # {file}\n" in out
    assert "  runner: ray  # --set\n" in out
    assert "  min_s: 5.0  # default\n" in out


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["config", "--set", "clip.min_sec=3"], ["clip.min_sec", "no such key", "clip.min_s"]),
        (["curate", "in", "out", "--set", "run.runer=ray"], ["run.runer", "run.runner"]),
        (["curate", "in", "out", "--config", "no.yaml"], ["--config no.yaml", "No such file"]),
        (["curate", "nowhere", "out"], ["INPUT nowhere", "no such file or folder"]),
        (["curate", "empty", "out"], ["INPUT empty", "nothing in it"]),
        (["curate", "ftp://host/in", "out"], ["ftp://host", "not a store that is supported"]),
        (["curate", "in", "in"], ["OUTPUT in", "not written by videoauteur", "name a new"]),
        (["curate", "in", "theirs"], ["OUTPUT theirs", "not written by videoauteur"]),
        (["curate", "in", "in/a.mp4"], ["OUTPUT in/a.mp4", "is a file"]),
        (["curate", "in", "in/a.mp4/out"], ["OUTPUT in/a.mp4/out", "Not a directory"]),
        (["curate", "in", "out", "--config", "theirs/my.yaml"], ["clip.mim_s", "; in theirs/my.yaml"]),
        (
            ["curate", "in", "out", "--set", "language={base_url: host/v1, model: m}"],
            ["http:// or https://"],
        ),
        (["status", "in/a.mp4"], ["in/a.mp4", "no run.json in it"]),
        (["status", "old"], ["old", "run.json is damaged", "curate again"]),
        (["push", "theirs", "s3://"], ["s3://", "names no bucket", "s3://BUCKET/FOLDER"]),
        (["generate", "How?", "--stock", "none", "--out", "out"], ["--stock none", "no such file"]),
        (["train", "director", "in", "out", "--recipe", "theirs/list.yaml"], ["--recipe theirs/list.yaml"]),
        (
            ["evaluate", "captions", "in", "--out", "out", "--judge", "host", "--judge-model", "m"],
            ["--judge host", "http://"],
        ),
    ],
)
def test_bad_usage_is_told_and_touches_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    facts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"in/a.mp4": "mine", "theirs/thesis.tex": "mine", "old/run.json": "{"}
    for name, text in (files | {"theirs/my.yaml": "clip: {mim_s: 3}", "theirs/list.yaml": "[1]"}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("videoauteur: ")
    for fact in facts:
        assert fact in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments", [[], ["curate"], ["curate", "in", "out", "--runner", "spark"], ["cook"]]
)
def test_a_malformed_command_line_is_bad_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: videoauteur")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "director", "d", "file"], "MODELS: {0}/file is a file; name a folder"),
        (["train", "director", "s3://bucket/d", "m"], "DATASET: s3://bucket/d lies in a bucket; copy it"),
        (["generate", "How?", "--models", "m", "--out", "file/film"], "--out: {0}/file is a file"),
        (["serve", "--models", "m", "--jobs", "file"], "--jobs: {0}/file is a file"),
        (["collect", "d", "s3://bucket/examples"], "EXAMPLES: s3://bucket/examples lies in a bucket"),
        (["evaluate", "captions", "d", "--out", "file"], "--out: {0}/file is a file"),
        (["export", "clips", "d", "file"], "TARGET: {0}/file is a file"),
        (["export", "model", "m", "director", "file"], "OUT: {0}/file is a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message.format(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "way_out"), [(errno.ENOSPC, "make room"), (errno.EROFS, "make it writable, or name another")]
)
def test_a_disk_that_is_full_or_read_only_is_named_without_a_traceback(
    capsys: pytest.CaptureFixture[str], number: int, way_out: str
) -> None:
    def run(parsed: argparse.Namespace) -> int:
        raise OSError(number, os.strerror(number), "/films/plan.json")

    assert ended(run, argparse.Namespace()) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"videoauteur: /films/plan.json: {os.strerror(number)}; {way_out}")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")


STUCK = """
import argparse, concurrent.futures, time
from pipeline.platform.command import ended

def run(parsed):
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(time.sleep, 600)
        print("reads", flush=True)
        time.sleep(600)

ended(run, argparse.Namespace())
"""


def test_a_second_interruption_ends_a_run_that_a_thread_keeps_from_ending() -> None:
    """As a read from a dead network drive does."""
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "reads\n"
        run.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(0.5)
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 1
        assert run.stderr is not None and "interrupted again" in run.stderr.read()


def _missing(*_: Any, **__: Any) -> NoReturn:
    raise MissingWeightsError("install the package some-weights")


def _ctrl_c(*_: Any, **__: Any) -> None:
    signal.raise_signal(signal.SIGINT)


def _ended_by_the_cluster(*_: Any, **__: Any) -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("happens", "facts"),
    [
        (_missing, ["install the package some-weights"]),
        (_ctrl_c, ["interrupted", "run the same command again to continue"]),
        (_ended_by_the_cluster, ["interrupted", "run the same command again to continue"]),
    ],
)
def test_a_run_that_cannot_finish_returns_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], happens: Any, facts: list[str]
) -> None:
    monkeypatch.setattr(job, "curate", happens)
    assert main(["curate", "in", "out"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("videoauteur: ")
    for fact in facts:
        assert fact in err
