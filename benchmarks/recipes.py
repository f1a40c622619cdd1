"""Score a curation run against videos whose steps are known.

``python -m benchmarks.recipes FOLDER`` curates FOLDER with the default configuration and compares the
dataset with ``NAME.json`` beside each ``NAME.mp4``:
``{"steps": [{"clip": [s, e], "action": [s, e], "text": "..."}]}``.
With ``--set a.b=value``, for instance an endpoint, it curates a second time and shows both.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from pipeline.curation.config import Config
from pipeline.curation.job import curate
from pipeline.dataset.reading import open_dataset
from pipeline.platform.command import add_set_option
from pipeline.platform.config import load
from stages.records import Interval
from stages.view import path_of

CUT_TOLERANCE_S = 0.1
FOUND_IOU = 0.3
ARTICLES = {"a", "an", "the"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A true step: its clip, when its sentence is spoken, and the sentence."""

    clip: Interval
    action: Interval
    text: str


def main() -> None:
    """Print a table of the figures, then one JSON object."""
    parser = parser_of("recipes", __doc__)
    parser.add_argument("folder", type=Path, help="videos with their truth beside them")
    parser.add_argument("--out", type=Path, help="keep the datasets here")
    parser.add_argument("--runner", choices=("ray", "local"), default="local")
    add_set_option(parser, "configuration of a second run")
    arguments = parser.parse_args()
    truth = {path.stem: truth_of(path) for path in sorted(arguments.folder.glob("*.json"))}
    videos = [path for name in truth for path in [arguments.folder / f"{name}.mp4"] if path.exists()]
    if not videos:
        parser.error(f"{arguments.folder}: no NAME.mp4 with a NAME.json")
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        listing = out / "videos.txt"
        listing.write_text("".join(f"{path.resolve()}\n" for path in videos))
        figures = {}
        runs = {"default": [], **({"as set": arguments.settings} if arguments.settings else {})}
        for name, settings in runs.items():
            target = out / name
            loaded = load(None, [f"run.runner={arguments.runner}", *settings], Config)
            outcome = curate(str(listing), target, loaded, memo=out / f"memo of {name}")
            figures[name] = score(target, truth) | speed(outcome.summary)
    print(f"{machine()}\n")
    head = ["figure", *figures]
    rows = [[key, *(run[key] for run in figures.values())] for key in figures["default"]]
    print(markdown(head, rows), "\n")
    print(json.dumps(figures))


def truth_of(path: Path) -> list[Step]:
    """Return the steps of ``NAME.json``."""
    steps = json.loads(path.read_text())["steps"]
    return [
        Step(
            clip=Interval(start_s=step["clip"][0], end_s=step["clip"][1]),
            action=Interval(start_s=step["action"][0], end_s=step["action"][1]),
            text=step["text"],
        )
        for step in steps
    ]


def score(dataset: Path, truth: dict[str, list[Step]]) -> dict[str, float | int]:
    """Return all figures of one dataset.

    Returns:
        ``cut_f1`` at 0.1 s; ``action_recall`` at an IoU above 0.3; ``match_precision`` and
        ``match_recall`` of (clip, action) pairs; ``in_order``, the share of videos whose narrative
        has true steps only, in their order, and ``steps_told``, the share of true steps in narratives;
        actions by source; and three figures of the texts that were found: ``word_errors`` of 100 true
        words, articles aside, ``exact`` texts, and ``with_articles``, the share with at least one article.
    """
    opened = open_dataset(dataset)
    tables = {
        name: opened.table(name).to_pylist()
        for name in ("videos", "clips", "actions", "matches", "narratives")
    }
    cuts = [0, 0, 0]
    true_pairs = found_pairs = given_pairs = in_order = steps_told = found = 0
    errors: list[tuple[int, int]] = []
    texts: list[str] = []
    for video in tables["videos"]:
        steps = truth[path_of(opened.uri(video["uri"])).stem]
        mine = {
            name: [row for row in rows if row["video_id"] == video["video_id"]]
            for name, rows in tables.items()
        }
        hits = _cut_hits(video["shot_starts_s"][1:], [step.clip.start_s for step in steps[1:]])
        cuts = [cuts[0] + hits, cuts[1] + len(video["shot_starts_s"]) - 1, cuts[2] + len(steps) - 1]
        step_of_clip = {row["clip_id"]: _best(row, [s.clip for s in steps]) for row in mine["clips"]}
        step_of_action = {
            row["action_id"]: _best(row, [step.action for step in steps]) for row in mine["actions"]
        }
        said = _first_texts(mine["actions"], step_of_action)
        found += len(said)
        texts += said.values()
        errors += [
            (_word_errors(steps[number].text, text), len(_words(steps[number].text)))
            for number, text in said.items()
        ]
        pairs = {(step_of_clip[m["clip_id"]], step_of_action[m["action_id"]]) for m in mine["matches"]}
        true_pairs += len(steps)
        given_pairs += len(mine["matches"])
        found_pairs += len({pair for pair in pairs if pair[0] == pair[1] and pair[0] is not None})
        told = [step_of_action[s["action_id"]] for n in mine["narratives"] for s in n["steps"]]
        known = [number for number in told if number is not None]
        in_order += len(known) == len(told) and known == sorted(set(known))
        steps_told += len(known)
    sources = [row["source"] for row in tables["actions"]]
    return {
        "cut_f1": 2 * cuts[0] / max(1, cuts[1] + cuts[2]),
        "action_recall": found / true_pairs,
        "match_precision": found_pairs / max(1, given_pairs),
        "match_recall": found_pairs / true_pairs,
        "in_order": in_order / len(truth),
        "steps_told": steps_told / true_pairs,
        "by_llm": sources.count("llm"),
        "by_asr": sources.count("asr"),
        "word_errors": 100 * sum(e for e, _ in errors) / max(1, sum(n for _, n in errors)),
        "exact": sum(wrong == 0 for wrong, _ in errors),
        "with_articles": fmean(bool(ARTICLES & set(text.lower().split())) for text in texts),
    }


def speed(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return seconds of video for each second of wall time, as a whole and by stage."""
    video_s = summary["duration_s"]["in"]
    stages = {f"realtime_{name}": each["seconds"] for name, each in summary["stages"].items()}
    return {
        name: round(video_s / seconds, 2) if seconds else 0.0
        for name, seconds in ({"realtime": summary["seconds"]} | stages).items()
    }


def _cut_hits(given: list[float], true: list[float]) -> int:
    """True cuts that have a given one within the tolerance, each given one used once."""
    left = sorted(given)
    hits = 0
    for cut in true:
        near = [time_s for time_s in left if abs(time_s - cut) <= CUT_TOLERANCE_S]
        if near:
            left.remove(min(near, key=lambda time_s: abs(time_s - cut)))
            hits += 1
    return hits


def _first_texts(actions: list[dict[str, Any]], step_of: Mapping[str, int | None]) -> dict[int, str]:
    """Return the text of the first action of each true step that has one."""
    texts: dict[int, str] = {}
    for action in actions:
        step = step_of[action["action_id"]]
        if step is not None:
            texts.setdefault(step, action["text"])
    return texts


def _best(row: dict[str, Any], intervals: list[Interval]) -> int | None:
    here = Interval(start_s=row["start_s"], end_s=row["end_s"])
    overlaps = [here.iou(interval) for interval in intervals]
    best = max(range(len(overlaps)), key=overlaps.__getitem__)
    return best if overlaps[best] > FOUND_IOU else None


def _words(text: str) -> list[str]:
    joined = text.lower().replace("-", " ")
    return [word for word in re.findall(r"[a-z]+", joined) if word not in ARTICLES]


def _word_errors(true: str, given: str) -> int:
    """Words that must be changed, added or removed, articles aside; compounds may be split."""
    a, b = _words(true), _words(given)
    if "".join(a) == "".join(b):
        return 0
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in blocks if tag != "equal")


if __name__ == "__main__":
    main()
