"""What was asked of which model, for which stage, and what it cost."""

from __future__ import annotations

from pathlib import Path


class Ledger:
    """An append-only account in a folder that all workers of a run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
