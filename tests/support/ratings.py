"""Files of ratings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from generation.evaluation.judge import SCALES


def key_of(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / "key.json").read_text())
    return tree


def ratings(folder: Path, rater: str, by_film: dict[str, int], **changes: Any) -> Path:
    """A file as the sheet saves it: the same score of a film on every scale."""
    key = key_of(folder)
    found = {
        code: dict.fromkeys(SCALES, by_film[film["film"]])
        for code, film in key["items"].items()
        if film["film"] in by_film
    }
    return ratings_file(folder, rater, found, **changes)


def ratings_file(folder: Path, rater: str, found: dict[str, dict[str, int]], **changes: Any) -> Path:
    """A file as the sheet of a folder saves it."""
    path = folder / f"{rater}.json"
    tree = {"sheet": key_of(folder)["sheet"], "rater": rater, "ratings": found}
    path.write_text(json.dumps(tree | changes))
    return path
