"""Checkpoints of a run, by the number of their step."""

from __future__ import annotations

from pathlib import Path

import torch

from generation.core.checkpoints import new_checkpoint, newest_checkpoint, write_part


def test_the_newest_is_the_one_of_the_highest_step_however_many_digits_it_has(tmp_path: Path) -> None:
    for step in (999_998, 999_999, 1_000_000):
        with new_checkpoint(tmp_path, step, {}, keep=2) as building:
            write_part(building, "model", {"weight": torch.ones(1)})

    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "step-1000000"
    assert {path.name for path in tmp_path.iterdir()} == {"step-999999", "step-1000000"}
