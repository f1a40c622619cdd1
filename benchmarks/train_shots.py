"""Fit the networks that weigh evidence for cuts and gradual transitions.

``python -m benchmarks.train_shots`` renders films (:mod:`benchmarks.films`) of the development clips below
``$VIDEOAUTEUR_DATA`` and of photographs (:mod:`benchmarks.moving_stills`), adds the development recipes and
footage without transitions, and writes ``stages/scan/cuts.safetensors`` and ``gradual.safetensors``.
Windows that lie partly in a transition, and changes at its edges, are left out. The same files give the
same weights.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.commands import parser_of
from benchmarks.films import FORMS, draw_film, write_film
from benchmarks.fitting import fitted, save
from benchmarks.machine import machine
from benchmarks.moving_stills import write_clips
from benchmarks.shots import DEVELOPMENT, calm, data_files
from models.media import frames, open_media
from stages.records import Interval
from stages.scan.cuts import WEIGHTS_FILE as CUTS_FILE
from stages.scan.cuts import CutFinder
from stages.scan.gradual import WEIGHTS_FILE as GRADUAL_FILE
from stages.scan.gradual import GradualFinder
from stages.scan.thumbnails import ThumbnailMaker

RECIPES = ("recipes/Corn_Dog.mp4", "recipes/BLT_Sandwich.mp4")
FOOTAGE = ("real/making_cake.mp4", "real/dj2.mp4")
FITS = (partial(fitted, hidden=12), partial(fitted, hidden=4, weight_decay=0.3, noise=0.3))
"""Fits of the networks for cuts and for gradual transitions.

The windows of one transition are many and alike. A network with more freedom learns these few transitions,
and takes motion that it has not seen for one.
"""
INSIDE = 0.75
"""Share of a window that lies in a transition from which it stands for one."""
Example = tuple[bool, tuple[float, ...]]


def main() -> None:
    """Render films, gather evidence, fit, and write the weights."""
    parser = parser_of("train_shots", __doc__)
    parser.add_argument("--films", type=int, default=6, help="films of each form (default 6)")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="more clips without cuts")
    parser.add_argument("--stills", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--still-clips", type=int, default=32, help="clips made of photographs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=CUTS_FILE.parent, help="folder of the weights")
    arguments = parser.parse_args()
    clips = calm([*data_files(DEVELOPMENT), *arguments.clips])
    if len(clips) < 2:
        parser.error("set VIDEOAUTEUR_DATA")
    torch.set_num_threads(1)
    examples: tuple[list[Example], list[Example]] = ([], [])

    def learn(path: Path, *truth: Sequence[Any]) -> None:
        for known, new in zip(examples, evidence(path, *truth), strict=True):
            known += new

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        stills = [still for place in arguments.stills for still in sorted(place.rglob("*.jpg"))]
        if stills:
            rng = np.random.default_rng(arguments.seed)
            clips += write_clips(Path(folder), stills, arguments.still_clips, rng)
        for number, form in enumerate(FORMS):
            for film_number in range(arguments.films):
                film = draw_film(clips, 10, arguments.seed + 100 * film_number + number)
                write_film(path, film, form)
                jumps = [Interval(start_s=at_s - 0.2, end_s=at_s + 0.2) for at_s in film.jumps_s]
                learn(path, film.cuts_s, film.gradual, jumps)
    for recipe in data_files(RECIPES):
        steps = json.loads(recipe.with_suffix(".json").read_text())["steps"]
        learn(recipe, [step["clip"][0] for step in steps[1:]], [])
    for footage in data_files(FOOTAGE):
        learn(footage, [], [])
    note = f"{arguments.films} films of each form, {len(clips)} clips, seed {arguments.seed}"
    print(f"{machine()}\n\n{note}")
    for target, found, fit in zip((CUTS_FILE, GRADUAL_FILE), examples, FITS, strict=True):
        truths = [true for true, _ in found]
        print(f"{target.stem}: {len(found)} examples, {sum(truths)} true")
        network = fit([values for _, values in found], truths)
        save(arguments.out / target.name, {"": network}, note)


def evidence(
    path: Path, cuts_s: Sequence[float], gradual: Sequence[Interval], jumps: Sequence[Interval] = ()
) -> tuple[list[Example], list[Example]]:
    """Evidence for cuts and for gradual transitions in a video, each with what is true."""
    changes: list[tuple[float, tuple[float, ...]]] = []
    covers: list[Example] = []

    def change(time_s: float, features: tuple[float, ...]) -> float:
        changes.append((time_s, features))
        return 0.0

    def window(start_s: float, end_s: float, features: tuple[float, ...]) -> float:
        span = Interval(start_s=start_s, end_s=end_s)
        share = max((span.overlap_s(one) / span.duration_s for one in gradual), default=0.0)
        cut = any(start_s - 0.05 <= cut_s <= end_s + 0.05 for cut_s in cuts_s)
        if share == 0 or (share >= INSIDE and not cut):
            covers.append((share > 0, features))
        return 0.0

    cuts, windows = CutFinder(change), GradualFinder(window)
    maker = ThumbnailMaker()
    with open_media(path) as container:
        for frame in frames(container):
            thumbnail = maker(frame.time_s, frame.picture)
            cuts.add(thumbnail)
            windows.add(thumbnail)
    cuts.finish()
    return labelled(changes, cuts_s, [*gradual, *jumps]), covers


def labelled(
    changes: Sequence[tuple[float, tuple[float, ...]]],
    cuts_s: Sequence[float],
    unclear: Sequence[Interval],
) -> list[Example]:
    """Return the evidence of changes with what is true: of the changes around a cut, the largest is it."""
    largest = {
        max(near)[1]
        for cut_s in cuts_s
        if (near := [(values[0], at_s) for at_s, values in changes if -0.05 <= at_s - cut_s <= 0.1])
    }
    return [
        (at_s in largest, values)
        for at_s, values in changes
        if at_s in largest
        or not (
            any(one.start_s - 0.1 <= at_s <= one.end_s + 0.1 for one in unclear)
            or any(abs(at_s - cut_s) <= 0.12 for cut_s in cuts_s)
        )
    ]


if __name__ == "__main__":
    main()
