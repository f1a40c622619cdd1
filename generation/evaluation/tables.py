"""Rows of the feature tables that training reads; see :mod:`generation.data.features`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from generation.data.reading import FACTS, HELD_OUT, TRAIN
from generation.data.reading import read_rows as feature_rows
from pipeline.platform.config import ConfigError


def read_rows(features: Path, table: str, limit: int) -> list[dict[str, Any]]:
    """Return the first rows of a table: of the held-out videos, or of all if none were held out.

    Args:
        features: the folder of features, with ``director`` and ``generator``.
        table: stories or clips.
        limit: at most so many.

    Raises:
        ConfigError: the table is not there, or empty.
    """
    folder = features / {"stories": "director", "clips": "generator"}[table]
    rows: list[dict[str, Any]] = []
    for split in (HELD_OUT, TRAIN):
        if (folder / FACTS).is_file() and not rows:
            rows = list(islice(feature_rows(folder, split), limit))
    if not rows:
        raise ConfigError(
            f"{folder} holds no rows: --features wants the folder of features that `videoauteur train` "
            "made, with director and generator"
        )
    return rows
