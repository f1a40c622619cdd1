"""The summary of a run as a text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

LENGTHS = ("seconds", "video_s")
"""Keys of a stage that are no outcome."""


def as_text(summary: Mapping[str, Any], output: Path | str) -> str:
    """Return the summary for a terminal."""
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
    lines.append(f"look at     {output}/report.html, tables in {output}")
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
            text += f", at most {row['at_most_usd']:.4f} with requests of unknown cost"
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


def _statuses(summary: Mapping[str, Any]) -> list[str]:
    """Return the number of videos by status, files that are no videos apart."""
    counts = dict(summary["videos"])
    counts["rejected"] = counts.get("rejected", 0) - summary["no_videos"]
    named = [f"{number} {status}" for status, number in counts.items() if number]
    return [*named, *([f"{summary['no_videos']} files that are no videos"] if summary["no_videos"] else [])]
