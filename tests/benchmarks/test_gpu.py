"""The GPU benchmark takes its whole path at tiny sizes on a processor."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu import main

FIGURES = {"step_s", "bare_step_s", "speed", "peak_gb", "recipe_gb", "units_per_s", "sample_s"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="asserts what is reported without a GPU")
def test_tiny_sizes_give_every_figure_but_those_of_gpu_memory(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--steps", "2", "--sample-steps", "1"])
    table, last = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    found = json.loads(last)
    assert found.keys() == {f"{kind}_{name}" for kind in ("director", "generator") for name in FIGURES}
    unknown = {name for name, value in found.items() if value is None}
    assert unknown == {
        "director_peak_gb", "director_recipe_gb", "director_sample_s", "generator_peak_gb",
        "generator_recipe_gb",
    }  # fmt: skip
    assert all(value > 0 for value in found.values() if value is not None)
    assert "| director |" in table and "| generator |" in table


def test_real_sizes_without_a_gpu_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "--tiny runs on a processor" in capsys.readouterr().err
