"""Figures of a finished run for programs, and the card of its dataset."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import yaml

from models.files import write_whole
from models.ledger import Total
from pipeline.dataset.reading import Dataset
from pipeline.dataset.schema import TABLES
from pipeline.report.text_statistics import text_statistics
from stages.reasons import Reason

NO_VIDEO = Reason.NOT_A_VIDEO


def summarise(
    output: Path,
    rows: Mapping[str, int],
    stages: Mapping[str, Mapping[str, float]],
    ledger: Sequence[Total],
    seconds: float,
) -> dict[str, Any]:
    """Figures of a finished run, from its tables and its stages' events.

    Returns:
        ``rows`` by table, ``videos`` by status, ``no_videos``: rejected files of another kind, such as
        subtitles; ``rejects`` by kind and reason, ``duration_s`` of the kept videos and of their clips,
        ``actions_by_source``, ``text`` (see :mod:`pipeline.report.text_statistics`), ``stages`` with
        seconds and outcomes, ``ledger`` with requests to models in this OUTPUT, over all its runs, and
        ``seconds`` of wall time.
    """
    # Batch by batch: the summary of a large dataset must not take more memory than that of a small one.
    tables = Dataset(folder=output, manifest=None)
    statuses: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    rejects: defaultdict[str, Counter[str]] = defaultdict(Counter)
    in_s = kept_s = 0.0
    for batch in tables.batches("videos", ["status", "duration_s"]):
        statuses.update(batch["status"].to_pylist())
        # The length of a rejected file is what its header claims.
        kept = pc.equal(batch["status"], "kept")
        in_s += pc.sum(pc.filter(batch["duration_s"], kept)).as_py() or 0.0
    for batch in tables.batches("clips", ["start_s", "end_s"]):
        kept_s += pc.sum(pc.subtract(batch["end_s"], batch["start_s"])).as_py() or 0.0
    for batch in tables.batches("rejects", ["kind", "reason"]):
        for kind, reason in zip(batch["kind"].to_pylist(), batch["reason"].to_pylist(), strict=True):
            rejects[kind][reason] += 1
    for batch in tables.batches("actions", ["source"]):
        sources.update(batch["source"].to_pylist())
    return {
        "rows": dict(rows),
        "videos": _by_frequency(statuses),
        "no_videos": rejects["file"][NO_VIDEO],
        "rejects": {kind: _by_frequency(rejects[kind]) for kind in sorted(rejects)},
        "duration_s": {
            "in": round(in_s, 3),
            "kept_in_clips": round(kept_s, 3),
        },
        "actions_by_source": _by_frequency(sources),
        "text": text_statistics(output),
        "stages": dict(stages),
        "ledger": [asdict(total) for total in ledger],
        "seconds": seconds,
    }


def _by_frequency(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def write_card(output: Path, summary: Mapping[str, Any]) -> None:
    """``README.md``: a dataset card that ``datasets.load_dataset`` takes its configurations from."""
    configs = [
        {
            "config_name": name,
            "data_files": f"{name}/*.parquet",
            **({"default": True} if name == "narratives" else {}),
        }
        for name in TABLES
    ]
    head = yaml.safe_dump({"configs": configs, "task_categories": ["text-to-video"]}, sort_keys=False)
    lines = [
        "---",
        head.rstrip(),
        "---",
        "",
        "# Narrative video dataset",
        "",
        "Made by VideoAuteur from raw how-to videos. Times are seconds of presentation time, intervals "
        "are half-open, scores lie in [0, 1].",
        "",
    ]
    for name, schema in TABLES.items():
        about = (schema.metadata or {})[b"description"].decode()
        lines += [f"## {name} ({summary['rows'][name]} rows)", "", about, ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        for field in schema:
            meaning = (field.metadata or {})[b"description"].decode()
            lines.append(f"| {field.name} | {field.type} | {meaning} |")
        lines.append("")
    write_whole(output / "README.md", "\n".join(lines))
