"""Fit the networks that weigh evidence for cuts and gradual transitions.

``python -m benchmarks.train_shots`` renders films (:mod:`benchmarks.films`) of the development clips below
``$VIDEOAUTEUR_DATA`` and of photographs (:mod:`benchmarks.moving_stills`), adds the development recipes and
footage without transitions, and writes ``stages/scan/cuts.safetensors`` and ``gradual.safetensors``.
Windows that lie partly in a transition, and changes at its edges, are left out. Each round of films, one of
every form, has clips of photographs of its own. The same files give the same weights with any number of
workers.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from stages.scan.cuts import WEIGHTS_FILE, CutFinder
from stages.scan.gradual import GradualFinder
from stages.scan.thumbnails import ThumbnailMaker

RECIPES = ("recipes/Corn_Dog.mp4", "recipes/BLT_Sandwich.mp4")
FOOTAGE = ("real/making_cake.mp4", "real/dj2.mp4")
FITS = {
    "cuts": partial(fitted, hidden=12),
    "gradual": partial(fitted, hidden=4, weight_decay=0.3, noise=0.3),
}
"""Fits of the two networks.

The windows of one transition are many and alike. A network with more freedom learns these few transitions,
and takes motion that it has not seen for one. Twelve films of each form in place of six help to find cuts,
but not gradual transitions: the shipped network for these was fitted to six.
"""
INSIDE = 0.75
"""Share of a window that lies in a transition from which it stands for one."""
Example = tuple[bool, tuple[float, ...]]


def main() -> None:
    """Render films, gather evidence, fit, and write the weights."""
    parser = parser_of("train_shots", __doc__)
    parser.add_argument("--films", type=int, default=12, help="films of each form (default 12)")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="more clips without cuts")
    parser.add_argument("--stills", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--still-clips", type=int, default=32, help="clips of photographs in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--networks", nargs="+", choices=list(FITS), default=list(FITS), help="to write")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE.parent, help="folder of the weights")
    arguments = parser.parse_args()
    clips = calm([*data_files(DEVELOPMENT), *arguments.clips])
    if len(clips) < 2:
        parser.error("set VIDEOAUTEUR_DATA")
    torch.set_num_threads(1)
    stills = [still for place in arguments.stills for still in sorted(place.rglob("*.jpg"))]
    rounds = [
        Round(number=number, seed=arguments.seed, clips=clips, stills=stills, made=arguments.still_clips)
        for number in range(arguments.films)
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        found = list(pool.imap(rendered, rounds, chunksize=1))
    for recipe in data_files(RECIPES):
        steps = json.loads(recipe.with_suffix(".json").read_text())["steps"]
        found.append(evidence(recipe, [step["clip"][0] for step in steps[1:]], []))
    found += [evidence(footage, [], []) for footage in data_files(FOOTAGE)]
    made = f", {arguments.still_clips} of photographs in each round" if stills else ""
    note = f"{arguments.films} films of each form, {len(clips)} clips{made}, seed {arguments.seed}"
    print(f"{machine()}\n\n{note}")
    for (name, fit), some in zip(FITS.items(), zip(*found, strict=True), strict=True):
        examples = [example for each in some for example in each]
        truths = [true for true, _ in examples]
        print(f"{name}: {len(examples)} examples, {sum(truths)} true")
        if name in arguments.networks:
            network = fit([values for _, values in examples], truths)
            save(arguments.out / f"{name}.safetensors", {"": network}, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A film of every form.

    Attributes:
        clips: without cuts.
        stills: photographs, of which ``made`` more clips are made.
    """

    number: int
    seed: int
    clips: Sequence[Path]
    stills: Sequence[Path]
    made: int


def rendered(one: Round) -> tuple[list[Example], list[Example]]:
    """Render the films of a round and return their evidence for cuts and for gradual transitions."""
    changes: list[Example] = []
    windows: list[Example] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        clips = [*one.clips]
        if one.stills:
            rng = np.random.default_rng((one.seed, one.number))
            clips += write_clips(Path(folder), one.stills, one.made, rng)
        for number, form in enumerate(FORMS):
            film = draw_film(clips, 10, one.seed + 100 * one.number + number)
            write_film(path, film, form)
            jumps = [Interval(start_s=at_s - 0.2, end_s=at_s + 0.2) for at_s in film.jumps_s]
            some = evidence(path, film.cuts_s, film.gradual, jumps)
            changes += some[0]
            windows += some[1]
    return changes, windows


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
