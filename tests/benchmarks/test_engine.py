"""The engine's figures, on a few files and without Ray."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import engine
from benchmarks.commands import run
from benchmarks.free_stages import CLIPS, write_files


def test_another_threshold_keeps_the_clips_and_captions(tmp_path: Path) -> None:
    write_files(tmp_path / "given", 2, "known")
    engine.curate_free(tmp_path / "given", tmp_path / "output", "local", memo=tmp_path / "memo")
    with pytest.raises(ValueError, match="measured again"):
        engine.nothing_measured(tmp_path / "output")
    found = engine.rematch(tmp_path / "given", tmp_path / "output", tmp_path / "memo")
    assert found.size == f"{2 * CLIPS} clips"


def test_a_command_is_billed_for_its_children() -> None:
    burn = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    call = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    assert run([sys.executable, "-c", call]).cpu_s >= 0.5
