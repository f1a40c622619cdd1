"""A run is the same after a kill, on two processes, and with its batch in parts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import AdamW

from generation.config import Train
from generation.core.checkpoints import copy_part, newest_checkpoint, read_part
from generation.training.loop import row_seed
from generation.training.parts import TrainingError
from generation.training.ray_train import following
from pipeline.dataset.loader import ShardBatches
from pipeline.platform.config import ConfigError
from tests.support.tiny_learner import TinyLearner, run, write_shards

ROOT = Path(__file__).parents[3]
START_S = 300
"""Bound of a test's training."""
BASE: dict[str, Any] = {
    "steps": 40, "batch_size": 8, "lanes": 4, "lr": 0.01, "warmup_steps": 5, "ema_decay": 0.9,
    "clip_norm": 0.5, "checkpoint_every": 7, "trackers": (),
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with dropout that nobody interrupts."""
    folder = tmp_path_factory.mktemp("straight")
    run(shards, folder, Train(**BASE), dropout=0.3)
    return folder


def _lines(folder: Path) -> list[dict[str, float]]:
    """All that the run tells, but for how long it took."""
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def _command(shards: Path, folder: Path, dropout: float, options: dict[str, Any]) -> list[str]:
    settings = [f"{name}: {json.dumps(value)}" for name, value in options.items()]
    return ["-m", "tests.support.tiny_learner", str(shards), str(folder), str(dropout), *settings]


def _same_tensors(first: Path, second: Path) -> None:
    tensors, others = load_file(first), load_file(second)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


@pytest.mark.slow
def test_a_run_that_is_killed_twice_tells_the_same_as_one_that_is_not(
    shards: Path, straight: Path, tmp_path: Path
) -> None:
    options = Train(**BASE)
    arguments = _command(shards, tmp_path, 0.3, {**BASE, "steps": 40})
    environment = {**os.environ, "TINY_LEARNER_WAITS_S": "0.05"}
    for wanted in (10, 24):
        child = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment)
        losses = tmp_path / "losses.jsonl"
        deadline = time.monotonic() + 120
        while not losses.exists() or len(losses.read_text().splitlines()) < wanted:
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert wanted <= len(losses.read_text().splitlines()) < options.steps
    # What a kill in the middle of a line leaves.
    with losses.open("a") as file:
        file.write('{"step": 9')
    run(shards, tmp_path, options, dropout=0.3)
    assert _lines(tmp_path) == _lines(straight)
    for part in ("model", "ema", "optimizer"):
        last = f"checkpoints/step-000040/{part}.safetensors"
        _same_tensors(tmp_path / last, straight / last)


@pytest.mark.parametrize(("fsdp", "starts"), [(False, 1), (True, 2)], ids=["ddp", "fsdp"])
@pytest.mark.slow
def test_two_processes_tell_the_same_as_one(shards: Path, tmp_path: Path, fsdp: bool, starts: int) -> None:
    run(shards, tmp_path / "one", Train(**BASE))
    two = tmp_path / "two"
    last = two / "checkpoints/step-000040"
    for start in range(starts):
        if start:
            # Goes on from the checkpoint before the last.
            shutil.rmtree(last)
        _two_processes(shards, two, {**BASE, "processes": 2, "fsdp": fsdp})
        _same_run(tmp_path / "one", two)
    if fsdp:
        # Each process has written its half, and a single one reads both, whole or to go on from.
        halves = sorted((last / "optimizer").iterdir())
        assert len(halves) == 2 and halves[0].stat().st_size < 0.7 * sum(f.stat().st_size for f in halves)
        copy_part(last, "ema", tmp_path / "whole.safetensors")
        whole, read = load_file(tmp_path / "whole.safetensors"), read_part(last, "ema")
        assert whole.keys() == read.keys()
        assert all(torch.equal(whole[name], tensor) for name, tensor in read.items())
        shutil.rmtree(last)
        run(shards, two, Train(**BASE))
        _same_run(tmp_path / "one", two)
    # And two processes share what one has written.
    shutil.rmtree(tmp_path / "one/checkpoints/step-000040")
    _two_processes(shards, tmp_path / "one", {**BASE, "processes": 2, "fsdp": fsdp})
    _same_run(tmp_path / "one", two)


def _two_processes(
    shards: Path, folder: Path, options: dict[str, Any], *, starts: int = 1, most_rows: int = 1000
) -> None:
    """Train in two processes of torchrun, by the same command once or until it succeeds."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, "-m", *torchrun, *_command(shards, folder, 0.0, options)]
    environment = {**os.environ, "TINY_LEARNER_MOST_ROWS": str(most_rows)}
    # A restart by torchrun itself (--max-restarts) hangs now and then: gloo meets the store of before.
    for last in (start == starts for start in range(1, starts + 1)):
        done = subprocess.run(command, cwd=ROOT, check=last, env=environment, timeout=START_S)
        if done.returncode == 0:
            break


def _same_run(first: Path, second: Path) -> None:
    """Compare lines and averaged weights of two runs of 40 steps."""
    one, two = _lines(first), _lines(second)
    assert len(one) == len(two) == 40
    for line, other in zip(one, two, strict=True):
        assert line == pytest.approx(other, rel=1e-5, abs=1e-6)
    averages = [read_part(folder / "checkpoints/step-000040", "ema") for folder in (first, second)]
    assert averages[0].keys() == averages[1].keys()
    for name, tensor in averages[0].items():
        torch.testing.assert_close(tensor, averages[1][name], rtol=1e-4, atol=1e-5)


def test_a_batch_in_parts_is_the_whole_batch(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path / "whole", Train(**BASE))
    run(shards, tmp_path / "parts", Train(**{**BASE, "lanes": 4, "accumulate": 2}))
    for line, other in zip(_lines(tmp_path / "whole"), _lines(tmp_path / "parts"), strict=True):
        assert line == pytest.approx(other, rel=1e-5, abs=1e-6)


def test_out_of_memory_a_step_is_repeated_in_smaller_parts(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shards, tmp_path / "whole", Train(**BASE))
    monkeypatch.setenv("TINY_LEARNER_MOST_ROWS", "2")
    run(shards, tmp_path / "small", Train(**{**BASE, "loader_workers": 1}))
    assert json.loads((tmp_path / "small/memory.json").read_text()) == {"accumulate": 4}
    _same_run(tmp_path / "whole", tmp_path / "small")
    monkeypatch.setenv("TINY_LEARNER_MOST_ROWS", "0")
    with pytest.raises(TrainingError, match=r"out of GPU memory at 1 rows at a time; set gradient_check"):
        run(shards, tmp_path / "none", Train(**BASE))


@pytest.mark.slow
def test_out_of_memory_several_processes_start_again_with_smaller_parts(
    shards: Path, tmp_path: Path
) -> None:
    run(shards, tmp_path / "one", Train(**BASE))
    options = {**BASE, "processes": 2}
    _two_processes(shards, tmp_path / "two", options, starts=4, most_rows=1)
    assert json.loads((tmp_path / "two/memory.json").read_text()) == {"accumulate": 4}
    _same_run(tmp_path / "one", tmp_path / "two")


def test_it_is_the_plain_loop(shards: Path, straight: Path) -> None:
    """Clipping, schedule and average against a loop that uses nothing of ours but loader and learner."""
    learner = TinyLearner(dropout=0.3)
    learned = [p for name, p in learner.named_parameters() if name.startswith("learned")]
    optimizer = AdamW(learned, lr=0.01, betas=(0.9, 0.98), weight_decay=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 35)
    average = [p.detach().clone() for p in learned]
    batches = ShardBatches(shards, seed=0, batch_size=8, lanes=4)
    told = _lines(straight)
    clipped = 0
    for step in range(40):
        torch.manual_seed(row_seed(0, step, 0))
        seeds = [row_seed(0, step, place) for place in range(8)]
        loss = learner(learner.collate(batches[step], seeds))["loss"].mean()
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(learned, 0.5))
        clipped += norm > 0.5
        rate = 0.01 * step / 5 if step < 5 else cosine.get_last_lr()[0]
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        if step >= 5:
            cosine.step()
        keep = min(0.9, (1 + step) / (10 + step))
        average = [keep * a + (1 - keep) * p.detach() for a, p in zip(average, learned, strict=True)]
        assert told[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert told[step]["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert told[step]["lr"] == pytest.approx(rate, rel=1e-6)
    assert clipped > 0
    saved = load_file(straight / "checkpoints/step-000040/ema.safetensors")
    names = [name for name, _ in learner.named_parameters() if name.startswith("learned")]
    for name, tensor in zip(names, average, strict=True):
        torch.testing.assert_close(saved[name], tensor, rtol=1e-4, atol=1e-5)
    first, last = told[:8], told[-8:]
    assert sum(line["loss"] for line in last) < 0.8 * sum(line["loss"] for line in first)


def test_only_what_is_trained_is_saved_and_the_newest_are_kept(straight: Path) -> None:
    kept = sorted(path.name for path in (straight / "checkpoints").iterdir())
    assert kept == ["step-000035", "step-000040"]
    model = load_file(straight / "checkpoints/step-000040/model.safetensors")
    named = TinyLearner().named_parameters()
    assert set(model) == {name for name, _ in named if not name.startswith("frozen")}


def test_the_learner_ends_with_the_averaged_weights(shards: Path, tmp_path: Path) -> None:
    learner = run(shards, tmp_path, Train(**{**BASE, "steps": 6}))
    saved = load_file(tmp_path / "checkpoints/step-000006/ema.safetensors")
    raw = load_file(tmp_path / "checkpoints/step-000006/model.safetensors")
    for name, parameter in learner.named_parameters():
        if name.startswith("learned"):
            assert torch.equal(parameter, saved[name])
            assert not torch.equal(parameter, raw[name])
    # A finished run has nothing left to do and gives the same.
    again = run(shards, tmp_path, Train(**{**BASE, "steps": 6}))
    for parameter, other in zip(learner.parameters(), again.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_a_torn_checkpoint_is_passed_over(shards: Path, straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
    last = tmp_path / "checkpoints" / "step-000040"
    weights = (last / "model.safetensors").read_bytes()
    (last / "model.safetensors").write_bytes(weights[:-10])
    (tmp_path / "checkpoints" / ".step-000042-1").mkdir()
    newest = newest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None and newest.name == "step-000035"
    run(shards, tmp_path, Train(**BASE), dropout=0.3)
    assert _lines(tmp_path) == _lines(straight)
    assert (last / "model.safetensors").read_bytes() == weights
    assert sorted(path.name for path in last.parent.iterdir()) == ["step-000035", "step-000040"]


def test_another_recipe_does_not_go_on_from_a_checkpoint(shards: Path, straight: Path) -> None:
    before = _lines(straight)
    with pytest.raises(ConfigError, match=r"train.lr was 0.01, is 0.02.*name another folder.*or delete"):
        run(shards, straight, Train(**{**BASE, "lr": 0.02}))
    assert _lines(straight) == before


def test_previews_see_the_averaged_weights_and_disturb_nothing(
    shards: Path, straight: Path, tmp_path: Path
) -> None:
    options = Train(**{**BASE, "preview_every": 20, "trackers": ("tensorboard",), "loader_workers": 1})
    run(shards, tmp_path, options, dropout=0.3)
    assert _lines(tmp_path) == _lines(straight)
    rows, seed, weights = (tmp_path / "previews/step-000040/rows.txt").read_text().split()
    saved = load_file(tmp_path / "checkpoints/step-000040/ema.safetensors")
    assert (rows, seed) == ("4", "0")
    assert float(weights) == saved["learned.0.weight"].sum().item()
    assert (tmp_path / "previews" / "step-000020").is_dir()
    assert list((tmp_path / "tensorboard").rglob("events.out.tfevents.*"))


def test_bf16_trains(shards: Path, straight: Path, tmp_path: Path) -> None:
    run(shards, tmp_path, Train(**{**BASE, "precision": "bf16"}), dropout=0.3)
    pairs = list(zip(_lines(tmp_path), _lines(straight), strict=True))
    assert all(line["loss"] == pytest.approx(other["loss"], rel=0.05) for line, other in pairs)
    assert any(line["loss"] != other["loss"] for line, other in pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trackers": ("abacus",)}, r"abacus"),
        ({"fsdp": True}, r"train\.fsdp: .*train\.processes above 1"),
    ],
)
def test_what_cannot_run_here_is_told(
    shards: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(shards, tmp_path, Train(**{**BASE, **options}))


def test_a_loss_that_is_not_finite_ends_the_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TinyLearner.forward
    monkeypatch.setattr(
        TinyLearner, "forward", lambda self, batch: {"loss": original(self, batch)["loss"] / 0.0}
    )
    with pytest.raises(TrainingError, match=r"the loss of step 1 is inf; lower train\.lr"):
        run(shards, tmp_path, Train(**BASE))


def test_gradients_that_are_not_finite_end_the_run_before_a_checkpoint(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TinyLearner.forward

    def forward(self: TinyLearner, batch: Any) -> dict[str, torch.Tensor]:
        # The root's slope is infinite at zero; the loss itself is finite.
        root = (self.unused.sum() * 0).sqrt()
        return {"loss": original(self, batch)["loss"] + root}

    monkeypatch.setattr(TinyLearner, "forward", forward)
    with pytest.raises(TrainingError, match=r"the gradient norm of step 1 is nan; lower train\.lr"):
        run(shards, tmp_path, Train(**{**BASE, "checkpoint_every": 1}))
    assert newest_checkpoint(tmp_path / "checkpoints") is None


def test_the_last_line_of_a_long_run_is_reported(tmp_path: Path) -> None:
    losses, reported = tmp_path / "losses.jsonl", list[dict[str, float]]()
    losses.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(5000)))
    with following(losses, reported.append):
        until = time.monotonic() + 10
        while not reported and time.monotonic() < until:
            time.sleep(0.01)
    assert reported[0] == {"step": 4999, "loss": 1.0}
