"""Another project's folder with one of our names is found out at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.platform.packages import OURS, check_packages

ROOT = Path(__file__).parents[3]


def test_our_own_packages_pass() -> None:
    check_packages()


@pytest.mark.parametrize("name", [name for name in OURS if name != "pipeline"])
def test_an_intruder_is_named(tmp_path: Path, name: str) -> None:
    intruder = tmp_path / name / "__init__.py"
    intruder.parent.mkdir()
    intruder.write_text("")
    run = subprocess.run(
        [sys.executable, "-m", "pipeline", "config"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert f"the package '{name}' comes from {intruder}, not from {ROOT}" in run.stderr
