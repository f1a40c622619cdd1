"""Runs of the whole job in this process, and what they leave in OUTPUT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.curation.config import Config
from pipeline.curation.job import Outcome, curate
from pipeline.dataset.schema import TABLES
from pipeline.platform.config import load

UNUSED = ("language.base_url=http://127.0.0.1:9/v1", "language.model=none")
"""An endpoint where nothing listens. It is configured, so that a run starts no server of its own."""


def local(given: Path, output: Path, *settings: str, memo: Path | None = None) -> Outcome:
    return curate(str(given), output, load(None, ["run.runner=local", *settings], Config), memo=memo)


def table(output: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output / name).to_pylist()
    return rows


def tables(output: Path) -> dict[str, bytes]:
    """The bytes of all files of all six tables."""
    found = {
        f"{name}/{path.name}": path.read_bytes() for name in TABLES for path in (output / name).iterdir()
    }
    assert {name.partition("/")[0] for name in found} == set(TABLES)
    return found


def run_file(output: Path) -> dict[str, Any]:
    """Of the tables, or of the run that is at work or ended without any."""
    path = output / "_work" / "run.json"
    read: dict[str, Any] = json.loads((path if path.exists() else output / "run.json").read_text())
    return read


def outcomes(output: Path) -> dict[str, dict[str, int]]:
    stages = run_file(output)["stages"]
    return {
        name: {kind: number for kind, number in told.items() if kind not in ("seconds", "video_s")}
        for name, told in stages.items()
    }
