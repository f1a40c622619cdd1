"""Our packages have common names; make sure that the ones imported are ours."""

from __future__ import annotations

import importlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the top-level packages."""
OURS = ("pipeline", "stages", "models", "generation")


def check_packages() -> None:
    """Called at start-up, by the driver and by every worker.

    Raises:
        RuntimeError: naming the intruder.
    """
    for name in OURS:
        found = importlib.import_module(name).__file__
        if found is None or Path(found).resolve().parent.parent != ROOT:
            raise RuntimeError(
                f"the package {name!r} comes from {found}, not from {ROOT}: another project's folder "
                "comes first on the path; remove it from PYTHONPATH or start elsewhere"
            )
