"""Summary of a run: figures for programs, a text for the terminal, a card for the dataset."""

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
from stages.records import Reason

NO_VIDEO = Reason.NOT_A_VIDEO
LENGTHS = ("seconds", "video_s")
"""Keys of a stage that are no outcome."""


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


def _statuses(summary: Mapping[str, Any]) -> list[str]:
    """Return the number of videos by status, files that are no videos apart."""
    counts = dict(summary["videos"])
    counts["rejected"] = counts.get("rejected", 0) - summary["no_videos"]
    named = [f"{number} {status}" for status, number in counts.items() if number]
    return [*named, *([f"{summary['no_videos']} files that are no videos"] if summary["no_videos"] else [])]


def _by_frequency(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def as_text(summary: Mapping[str, Any], output: Path) -> str:
    """The summary for a terminal."""
    rows, length = summary["rows"], summary["duration_s"]
    lines = [
        "",
        f"videos      {rows['videos'] - summary['no_videos']} in: " + ", ".join(_statuses(summary)),
        f"duration    {length['in']:.0f} s in kept videos, {length['kept_in_clips']:.0f} s kept in clips",
        f"clips       {rows['clips']}",
        f"actions     {rows['actions']}"
        + "".join(f", {n} by {k}" for k, n in summary["actions_by_source"].items()),
        f"matches     {rows['matches']}",
        f"narratives  {rows['narratives']}",
        *_texts(summary["text"]),
    ]
    for kind, reasons in summary["rejects"].items():
        lines.append(f"dropped {kind}s: " + ", ".join(f"{n} {r}" for r, n in reasons.items()))
    lines.append("time per stage")
    for name, figures in summary["stages"].items():
        outcomes = ", ".join(f"{n} {kind}" for kind, n in figures.items() if kind not in LENGTHS)
        lines.append(f"  {name:<11}{figures['seconds']:>9.2f} s  {outcomes}")
    if summary["ledger"]:
        lines.append("asked of models, in all runs of this output")
        lines += [f"  {row['stage']:<11}{_asked(row)}" for row in summary["ledger"]]
    lines.append(f"wall time   {summary['seconds']:.1f} s")
    lines.append(f"look at     {output / 'report.html'}, tables in {output}")
    return "\n".join(lines)


def _asked(row: Mapping[str, Any]) -> str:
    """Return the requests of one stage to one model, on a line."""
    others = "".join(
        f", {row[name]:,} {name}" for name in ("failed", "unfinished", "remembered") if row[name]
    )
    text = f"{row['model']}: {row['requests']:,} requests{others}; "
    text += f"{row['input_tokens']:,} tokens read, {row['output_tokens']:,} written"
    if row["at_most_usd"] > 0:
        text += f"; {row['usd']:.4f} USD"
        if row["at_most_usd"] > row["usd"]:
            text += f", at most {row['at_most_usd']:.4f} with what nobody knows"
    return text


def _texts(text: Mapping[str, Any]) -> list[str]:
    """Return the amount of text in the dataset, on a line; none for an empty one."""
    shown = (
        ("words_per_action", "an action"),
        ("words_per_caption", "a caption"),
        ("words_per_video", "a video"),
    )
    words = ", ".join(f"{text[name]:.1f} {what}" for name, what in shown if text[name] is not None)
    if not words:
        return []
    clips = f"; {text['clips_per_video']:.1f} clips a video" if text["clips_per_video"] else ""
    return [f"words       {words}{clips}"]


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
