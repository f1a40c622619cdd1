"""Folders of trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from generation import store
from generation.config import Recipe
from generation.core.states import Statistics
from generation.store import load_learner, save_learner
from models.errors import UsageError
from tests.support.tiny_learner import TinyLearner

WEIGHTS = "model.safetensors"


def _learner() -> TinyLearner:
    learner = TinyLearner()
    learner.statistics = Statistics(torch.zeros(1, 1280), torch.ones(1, 1280))
    return learner


def test_an_interrupted_save_leaves_the_weights_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = _learner()
    save_learner(learner, Recipe(), tmp_path)
    before = (tmp_path / WEIGHTS).read_bytes()

    def half(tensors: Any, path: Path) -> None:
        Path(path).write_bytes(before[: len(before) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store, "save_file", half)
        save_learner(learner, Recipe(), tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == before
    assert load_file(tmp_path / WEIGHTS).keys() == learner.kept().keys()


@pytest.mark.parametrize("file", [WEIGHTS, "statistics.safetensors"])
@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_a_damaged_model_is_named_with_the_way_out(tmp_path: Path, file: str, damage: str) -> None:
    folder = tmp_path / "director"
    save_learner(_learner(), Recipe(), folder)
    path = folder / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(UsageError, match="videoauteur train") as caught:
        load_learner("director", tmp_path)
    assert str(path if file != WEIGHTS or damage != "missing" else folder) in str(caught.value)
