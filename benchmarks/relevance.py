"""Accuracy of the embedded judgement that tells videos and clips on a topic from others.

``python -m benchmarks.relevance ANNOTATIONS`` takes videos from the YouCook2 annotations (the sentences of
a video) and from ``topics.tsv``, hand-written steps of sixteen other kinds of how-to videos (eight of a
kind, drawn at random, stand for a video). Each kind is the topic once and off the topic otherwise. Eight
kinds and YouCook2's training half calibrate: the curves that fit them are printed beside those in use.
The other eight kinds and the validation half are the held-out figures. A clip is a single sentence.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from models.sentences import SentenceEncoder
from stages.relevance import CLIP_CURVE, VIDEO_CURVE, Curve, RelevanceSettings, Topic

TOPICS = {
    "cooking": ("cooking", "cooking and baking food at home", "how to cook a dish"),
    "knitting": ("knitting and crochet",),
    "car repair": ("how to repair a car",),
    "gardening": ("gardening",),
    "make-up": ("putting on make-up",),
    "woodwork": ("making furniture of wood",),
    "phone repair": ("repairing phones",),
    "painting": ("painting pictures",),
    "exercise": ("exercise at home",),
    "bicycle": ("bicycle repair",),
    "sewing": ("sewing clothes",),
    "dog grooming": ("grooming a dog",),
    "plumbing": ("plumbing",),
    "guitar": ("playing the guitar",),
    "paper folding": ("paper crafts",),
    "cleaning": ("cleaning the house",),
    "soap and candles": ("making soap and candles",),
}
STEPS = 8
DRAWS = 6
"""Videos drawn of each hand-written kind."""

RATES = ("auc", "kept", "dropped", "accuracy")

Videos = dict[str, list[list[str]]]


class Remembering:
    """Sentence encoder that reads no text twice: all topics are compared with the same ones."""

    def __init__(self) -> None:
        self._encoder = SentenceEncoder(threads=1)
        self._known: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """``[n, 384]``."""
        for text in texts:
            if text not in self._known:
                self._known[text] = self._encoder.encode([text])[0]
        return np.stack([self._known[text] for text in texts])


def main() -> None:
    """Print the tables, then one JSON object."""
    parser = parser_of("relevance", __doc__)
    parser.add_argument("annotations", type=Path, help="youcookii_annotations_trainval.json")
    parser.add_argument("--videos", type=int, default=60, help="of YouCook2, of each half (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    halves = {
        half: {"cooking": cooking(arguments.annotations, half, arguments.videos, rng), **written(half, rng)}
        for half in ("calibrate", "test")
    }
    encoder = Remembering()
    topics = {text: Topic(text, encoder) for texts in TOPICS.values() for text in texts}
    print(f"{machine()}\n")
    figures: dict[str, Any] = {}
    defaults = RelevanceSettings()
    for what, curve, min_score in (
        ("video", VIDEO_CURVE, defaults.min_video_score),
        ("clip", CLIP_CURVE, defaults.min_clip_score),
    ):
        rows = []
        for half, videos in halves.items():
            measured = by_topic(videos, topics, whole=what == "video")
            if half == "calibrate":
                best = fitted(list(measured.values()), curve)
                figures[f"{what}_curve"] = [curve.slope, curve.middle]
                figures[f"{what}_curve_fitted"] = [round(best.slope, 1), round(best.middle, 3)]
            each = {text: rates(*margins, curve, min_score) for text, margins in measured.items()}
            means = {name: fmean(found[name] for found in each.values()) for name in RATES}
            rows += [[half, text, *found.values()] for text, found in (*each.items(), ("mean", means))]
            figures |= {f"{what}_{half}_{name}": round(value, 4) for name, value in means.items()}
        head = ["half", "topic", "AUC", f"on-topic {what}s kept", "others dropped", "accuracy"]
        print(markdown(head, rows), "\n")
    print(json.dumps(figures))


def cooking(annotations: Path, half: str, count: int, rng: np.random.Generator) -> list[list[str]]:
    """Sentences of some videos of one half of YouCook2."""
    database = json.loads(annotations.read_text(encoding="utf-8"))["database"]
    subset = {"calibrate": "training", "test": "validation"}[half]
    mine = [video for video in database.values() if video["subset"] == subset]
    chosen = rng.permutation(len(mine))[:count]
    return [[step["sentence"] for step in mine[index]["annotations"]] for index in chosen]


def written(half: str, rng: np.random.Generator) -> Videos:
    """Videos drawn of the hand-written kinds of one half."""
    kinds: dict[str, list[str]] = {}
    with Path(__file__).with_name("topics.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["part"] == half:
                kinds.setdefault(row["topic"], []).append(row["sentence"])
    return {
        kind: [[steps[n] for n in rng.permutation(len(steps))[:STEPS]] for _ in range(DRAWS)]
        for kind, steps in kinds.items()
    }


def by_topic(
    videos: Videos, topics: dict[str, Topic], *, whole: bool
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Margins of what is on each topic, and of all others: of whole videos, or of their sentences."""
    found = {}
    for kind in videos:
        for text in TOPICS[kind]:
            margins = {name: [topics[text].margins(each) for each in of] for name, of in videos.items()}
            joined = {
                name: np.array([each.mean() for each in of]) if whole else np.concatenate(of)
                for name, of in margins.items()
            }
            others = np.concatenate([of for name, of in joined.items() if name != kind])
            found[text] = (joined[kind].astype(float), others.astype(float))
    return found


def rates(inside: np.ndarray, outside: np.ndarray, curve: Curve, min_score: float) -> dict[str, float]:
    """Area under the curve, and what a threshold keeps and drops; accuracy is the mean of both."""
    kept = fmean(curve.score(margin) >= min_score for margin in inside)
    dropped = fmean(curve.score(margin) < min_score for margin in outside)
    larger = (inside[:, None] > outside[None]).mean() + 0.5 * (inside[:, None] == outside[None]).mean()
    return dict(zip(RATES, (float(larger), kept, dropped, (kept + dropped) / 2), strict=True))


def fitted(measured: Sequence[tuple[np.ndarray, np.ndarray]], start: Curve) -> Curve:
    """The logistic curve that tells the two apart best, all topics counting the same."""

    def loss(at: np.ndarray) -> float:
        return float(
            sum(
                np.log1p(np.exp(-at[0] * (inside - at[1]))).mean()
                + np.log1p(np.exp(at[0] * (outside - at[1]))).mean()
                for inside, outside in measured
            )
        )

    slope, middle = minimize(loss, [start.slope, start.middle], method="Nelder-Mead").x
    return Curve(slope=float(slope), middle=float(middle))


if __name__ == "__main__":
    main()
