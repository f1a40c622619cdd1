"""Figures in one table: Markdown for people, JSON for programs.

A figure that cannot be had keeps its line and says why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.evaluation.intervals import Estimate, bootstrap

Better = Literal["higher", "lower", ""]
TABLE, JSON = "evaluation.md", "evaluation.json"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    Attributes:
        of: what was measured, such as ``director`` or a set of films.
        value: None where it cannot be had; ``note`` says why.
        better: which direction is good, empty where neither is.
    """

    of: str
    name: str
    value: Estimate | None
    better: Better = ""
    note: str = ""


def missing(of: str, name: str, why: str) -> Figure:
    """A figure that cannot be had."""
    return Figure(of=of, name=name, value=None, note=why)


def measured(
    of: str,
    name: str,
    values: Sequence[float | None],
    groups: Sequence[str],
    *,
    better: Better = "",
    note: str = "",
    statistic: Literal["mean", "median"] = "mean",
    seed: int = 0,
) -> Figure:
    """The mean or median of values with its interval over groups; None is not defined and left out."""
    pairs = [(value, group) for value, group in zip(values, groups, strict=True) if value is not None]
    if not pairs:
        return missing(of, name, note or "not defined for any of them")
    numbers, names = zip(*pairs, strict=True)
    estimate = bootstrap(numbers, names, statistic=statistic, seed=seed)
    return Figure(of=of, name=name, value=estimate, better=better, note=note)


def write(figures: Sequence[Figure], out: Path, *, facts: dict[str, Any]) -> None:
    """``evaluation.md`` and ``evaluation.json``.

    Args:
        facts: what was evaluated and how, for both files.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / TABLE).write_text(as_markdown(figures, facts=facts), encoding="utf-8")
    tree = {"version": VERSION, **facts, "figures": [_tree(figure) for figure in figures]}
    (out / JSON).write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def as_markdown(figures: Sequence[Figure], *, facts: dict[str, Any]) -> str:
    """The table, and what it speaks of."""
    lines = ["# Evaluation", "", *(f"- {name}: {_cell(value)}" for name, value in facts.items()), ""]
    lines += [
        "| of | figure | value | 95 % interval | n | better | note |",
        "|---|---|--:|---|--:|---|---|",
    ]
    for figure in figures:
        value, interval, count = "-", "-", "-"
        if figure.value is not None:
            value, count = f"{figure.value.mean:.4g}", str(figure.value.n)
            if not math.isnan(figure.value.low):
                interval = f"{figure.value.low:.4g} to {figure.value.high:.4g}"
        cells = [figure.of, figure.name, value, interval, count, figure.better, figure.note]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    lines += ["", "n counts independent groups: stories, videos or films.", ""]
    return "\n".join(lines)


def _tree(figure: Figure) -> dict[str, Any]:
    value = figure.value
    numbers = (None, None, None) if value is None else (value.mean, value.low, value.high)
    mean, low, high = (None if number is None or math.isnan(number) else number for number in numbers)
    return {
        "of": figure.of,
        "name": figure.name,
        "value": mean,
        "low": low,
        "high": high,
        "n": 0 if value is None else value.n,
        "better": figure.better,
        "note": figure.note,
    }


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
