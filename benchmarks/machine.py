"""Description of the machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

PARTS = ("av", "faster-whisper", "ray", "scenedetect-headless", "torch", "xllamacpp")


def machine() -> str:
    """One line: processor, cores, Python and the versions that matter."""
    parts = ", ".join(f"{name} {version(name)}" for name in PARTS)
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {parts}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with three decimals."""

    def line(cells: Sequence[object]) -> str:
        shown = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
        return f"| {' | '.join(shown)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)])
