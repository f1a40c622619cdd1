"""Shards joined to one safetensors file; two processes write them in the tests of the training loop."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from generation.core.shards import join_shards, load_shards, read_shards, save_shards

TENSORS = {
    "mask": torch.tensor([True, False, True]),
    "half": torch.randn(3, 5).bfloat16(),
    "weight|exp_avg": torch.randn(7, 4),
    "weight|step": torch.tensor(12.0),
    "nothing": torch.zeros(0, 4),
    "numbers": torch.arange(5),
}


def test_joined_and_read_shards_are_the_tensors(tmp_path: Path) -> None:
    save_shards(tmp_path / "shards", TENSORS)
    join_shards(tmp_path / "shards", tmp_path / "whole.safetensors")
    for found in (load_file(tmp_path / "whole.safetensors"), read_shards(tmp_path / "shards")):
        assert found.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def test_shards_fill_the_tensors_that_are_there(tmp_path: Path) -> None:
    save_shards(tmp_path, TENSORS)
    into = {"half": torch.zeros(3, 5, dtype=torch.bfloat16)}
    load_shards(tmp_path, into)
    assert torch.equal(into["half"], TENSORS["half"])


def test_nothing_is_pickled(tmp_path: Path) -> None:
    save_shards(tmp_path, TENSORS)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}
