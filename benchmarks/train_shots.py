"""Fit the models that weigh evidence for cuts and gradual transitions.

``python -m benchmarks.train_shots`` renders films of the development clips below ``$VIDEOAUTEUR_DATA``,
see :mod:`benchmarks.films`, adds the development recipes and footage without transitions, and fits two
logistic models. Their weights are the constants ``WEIGHTS`` and ``BIAS`` of :mod:`stages.scan.cuts` and
:mod:`stages.scan.gradual`. Windows that lie partly in a transition, and changes at its edges, are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.films import FORMS, draw_film, write_film
from benchmarks.machine import machine
from benchmarks.shots import DEVELOPMENT, calm, data_files
from models.media import frames, open_media
from stages.records import Interval
from stages.scan.cuts import CutFinder
from stages.scan.gradual import GradualFinder
from stages.scan.thumbnails import ThumbnailMaker

RECIPES = ("recipes/Corn_Dog.mp4", "recipes/BLT_Sandwich.mp4")
FOOTAGE = ("real/making_cake.mp4", "real/dj2.mp4")
SHOWN_AFTER_S = 0.085
"""A cut is seen at the next picture, which is later at low rates."""
INSIDE = 0.75
"""Share of a window that lies in a transition from which it stands for one."""
Example = tuple[bool, tuple[float, ...]]


def main() -> None:
    """Fit and print the weights, one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_shots", description=__doc__)
    parser.add_argument("--films", type=int, default=3, help="films of each form (default 3)")
    arguments = parser.parse_args()
    clips = calm(data_files(DEVELOPMENT))
    if len(clips) < 2:
        parser.error("set VIDEOAUTEUR_DATA")
    examples: tuple[list[Example], list[Example]] = ([], [])

    def learn(path: Path, cuts_s: Sequence[float], gradual: Sequence[Interval]) -> None:
        for known, new in zip(examples, evidence(path, cuts_s, gradual), strict=True):
            known += new

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        for number, form in enumerate(FORMS):
            for film_number in range(arguments.films):
                film = draw_film(clips, 10, 100 * film_number + number)
                write_film(path, film, form)
                learn(path, film.cuts_s, film.gradual)
    for recipe in data_files(RECIPES):
        steps = json.loads(recipe.with_suffix(".json").read_text())["steps"]
        learn(recipe, [step["clip"][0] for step in steps[1:]], [])
    for footage in data_files(FOOTAGE):
        learn(footage, [], [])
    print(f"{machine()}\n")
    print(json.dumps({"cuts": fitted(examples[0]), "gradual": fitted(examples[1])}))


def evidence(
    path: Path, cuts_s: Sequence[float], gradual: Sequence[Interval]
) -> tuple[list[Example], list[Example]]:
    """Evidence for cuts and for gradual transitions in a video, each with what is true."""
    cuts, windows = CutFinder(), GradualFinder()
    changes: list[Example] = []
    covers: list[Example] = []

    def change(time_s: float, features: tuple[float, ...]) -> None:
        true = any(-0.03 <= time_s - cut_s <= SHOWN_AFTER_S for cut_s in cuts_s)
        near = any(one.start_s - 0.1 <= time_s <= one.end_s + 0.1 for one in gradual)
        if true or (not near and not any(abs(time_s - cut_s) <= 0.12 for cut_s in cuts_s)):
            changes.append((true, features))

    def window(start_s: float, end_s: float, features: tuple[float, ...]) -> None:
        span = Interval(start_s=start_s, end_s=end_s)
        share = max((span.overlap_s(one) / span.duration_s for one in gradual), default=0.0)
        cut = any(start_s - 0.05 <= cut_s <= end_s + 0.05 for cut_s in cuts_s)
        if share == 0 or (share >= INSIDE and not cut):
            covers.append((share > 0, features))

    cuts.witness, windows.witness = change, window
    maker = ThumbnailMaker()
    with open_media(path) as container:
        for frame in frames(container):
            thumbnail = maker(frame.time_s, frame.picture)
            cuts.add(thumbnail)
            windows.add(thumbnail)
    cuts.finish()
    return changes, covers


def fitted(examples: Sequence[Example]) -> dict[str, list[float] | float]:
    """Weights and bias of a logistic model, by Newton's method."""
    true = np.array([label for label, _ in examples], float)
    features = np.array([values for _, values in examples])
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    inputs = np.column_stack([(features - mean) / spread, np.ones(len(true))])
    weights: NDArray[np.float64] = np.zeros(inputs.shape[1])
    for _ in range(40):
        given = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (given - true) + weights
        curve = (inputs * (given * (1 - given))[:, None]).T @ inputs + np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    scaled = weights[:-1] / spread
    return {"weights": scaled.round(3).tolist(), "bias": round(float(weights[-1] - scaled @ mean), 3)}


if __name__ == "__main__":
    main()
