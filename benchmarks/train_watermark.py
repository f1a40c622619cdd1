"""Train the network that scores candidates.

``python -m benchmarks.train_watermark --examples FILE`` writes ``stages/watermark/head.safetensors``. Films
are those of :mod:`benchmarks.marked_films` with seeds below 1000, of footage
(:data:`benchmarks.footage.HEAD_VIDEOS`) and of stills that become shots by a slow pan or zoom; the
appearance network was trained on other files. The same arguments and files give the same weights. The files
must not be among those that figures are reported for.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator

from benchmarks.commands import parser_of
from benchmarks.fitting import fitted, moved, save
from benchmarks.footage import HEAD_VIDEOS, Footage, Picture, data_files, read_footage, still_files
from benchmarks.marked_films import Case, MarkedFilm, films_of, planned
from benchmarks.watermark import MIN_OPACITY
from models.perceptron import Perceptron
from stages.records import Box
from stages.watermark.appearance import Appearance
from stages.watermark.drawn import shared
from stages.watermark.evidence import HEAD_FILE, Candidate, candidates
from stages.watermark.extent import Gray
from stages.watermark.stage import WINDOW_PICTURES, small_gray

HIDDEN = 48
WEIGHT_DECAY, NOISE = 0.5, 0.4
"""Chosen on footage of other sources than the examples."""
FOLDS = 5
FALSE_SHARE = 0.008
"""The score of 0.5 is that which 0.8 % of the films without an overlay reach, by cross-validation. Some
of them are sharp photographs, which look more drawn than footage."""
COVERED = 0.5
"""Share of the smaller of a candidate and an overlay from which they are one."""
OFTEN = 0.3
"""Share of a candidate's pictures in which it must be the overlay, to count as one."""
STILL_PICTURES = 24
STILL_PX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One film's candidates.

    Attributes:
        overlays: for each candidate, whether it is the overlay; None where it touches the overlay a little.
        features: values by the order of ``FEATURES``, for each candidate.
    """

    case: int
    kind: str
    opacity: float
    behaviour: str
    shots: int
    overlays: list[bool | None]
    features: list[list[float]]

    @property
    def counts(self) -> bool:
        """Return whether the film belongs to the figures: its overlay, if any, is not too faint."""
        return self.opacity == 0 or self.opacity >= MIN_OPACITY


def main() -> None:
    """Make films, gather candidates, train, and write the weights."""
    parser = parser_of("train_watermark", __doc__)
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="more footage without overlays")
    parser.add_argument("--stills", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--shots", type=int, default=80, help="made of each folder of stills")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(100, 108)))
    parser.add_argument("--films", type=int, default=240, help="with an overlay, of each seed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--examples", type=Path, required=True, help="made if it does not exist")
    parser.add_argument("--out", type=Path, default=HEAD_FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.examples.exists():
        videos = [*data_files(HEAD_VIDEOS), *arguments.videos]
        cases = [case for seed in arguments.seeds for case in planned(seed, arguments.films)]
        context = multiprocessing.get_context("spawn")
        given = (videos, arguments.stills, arguments.shots)
        with context.Pool(arguments.workers, _open, given) as pool, arguments.examples.open("w") as out:
            for found in pool.imap(_examples, cases, chunksize=2):
                out.writelines(f"{json.dumps(asdict(one))}\n" for one in found)
    examples = [Example(**json.loads(line)) for line in arguments.examples.read_text().splitlines()]
    odds: list[list[float]] = [[] for _ in examples]
    for fold in range(FOLDS):
        network = fit([one for one in examples if one.case % FOLDS != fold])
        for n, one in enumerate(examples):
            if one.case % FOLDS == fold:
                odds[n] = [network.odds(row) for row in one.features]
    threshold = report(examples, odds)
    note = f"{len(examples)} films, seeds {' '.join(map(str, arguments.seeds))}"
    save(arguments.out, {"": moved(fit(examples), threshold)}, note)


def fit(examples: Sequence[Example]) -> Perceptron:
    """Fit a network to the candidates of some films."""
    pairs = [
        (row, overlay)
        for one in examples
        for row, overlay in zip(one.features, one.overlays, strict=True)
        if overlay is not None
    ]
    rows, truths = [row for row, _ in pairs], [overlay for _, overlay in pairs]
    return fitted(rows, truths, hidden=HIDDEN, weight_decay=WEIGHT_DECAY, noise=NOISE)


def report(examples: Sequence[Example], odds: Sequence[Sequence[float]]) -> float:
    """Print shares found and flagged; return the log odds that ``FALSE_SHARE`` of the clean films reach."""
    best = [strongest(one, own) for one, own in zip(examples, odds, strict=True)]
    clean = [score for one, score in zip(examples, best, strict=True) if not one.opacity]
    threshold = float(np.quantile(clean, 1 - FALSE_SHARE))
    for title, least in (("0.5", threshold), ("1 % false", float(np.quantile(clean, 0.99)))):
        parts: dict[str, list[bool]] = {}
        for one, score in zip(examples, best, strict=True):
            if one.counts:
                names = [one.kind, *(["all", one.behaviour, f"{one.shots} shots"] if one.opacity else [])]
                for name in names:
                    parts.setdefault(name, []).append(score > least)
        shares = (f"{name} {sum(hits)}/{len(hits)}" for name, hits in sorted(parts.items()))
        print(f"at {title} ({least:.2f}): {', '.join(shares)}")
    return threshold


def strongest(example: Example, odds: Sequence[float]) -> float:
    """Return the highest log odds in a film: of candidates that touch its overlay, if it has one."""
    chosen = [
        score
        for score, overlay in zip(odds, example.overlays, strict=True)
        if overlay is not False or not example.opacity
    ]
    return max(chosen, default=-20.0)


_footage: list[Footage] = []
_appearance: Appearance


def _open(videos: list[Path], stills: list[Path], shots: int) -> None:
    global _appearance
    cv2.setNumThreads(1)
    _appearance = Appearance()
    _footage.extend(read_footage(videos))
    rng = np.random.default_rng(7)
    for folder in stills:
        paths = still_files(folder, head=True)
        for n in rng.permutation(len(paths))[:shots]:
            _footage.append(still_shot(rng, paths[int(n)], len(_footage)))


def still_shot(rng: Generator, path: Path, number: int) -> Footage:
    """Show a still as a shot: under a slow pan and zoom, or unmoved."""
    picture = cv2.imread(str(path))
    assert picture is not None
    side = min(picture.shape[:2])
    # Of a large still, a part at any scale.
    side = int(np.exp(rng.uniform(np.log(min(side, STILL_PX)), np.log(side))))
    if side > STILL_PX:
        factor = STILL_PX / side
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        side = STILL_PX
    free = np.array(picture.shape[:2]) - side
    corner = rng.random(2) * free
    ends = corner + side * rng.uniform(-0.12, 0.12, (2, 2)) if rng.random() < 0.7 else [corner, corner]
    zooms = rng.uniform(0.8, 1, 2)
    jpegs = []
    for index in range(STILL_PICTURES):
        share = index / STILL_PICTURES
        part = side * ((1 - share) * zooms[0] + share * zooms[1])
        y, x = ((1 - share) * ends[0] + share * ends[1]).clip(0, np.array(picture.shape[:2]) - part)
        scale = STILL_PX / part
        matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
        shot = cv2.warpAffine(picture, matrix, (STILL_PX, STILL_PX), flags=cv2.INTER_CUBIC)
        jpegs.append(cv2.imencode(".jpg", shot, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    return Footage(name=path.name, group=f"{path.parent.parent}/{number % 8}", jpegs=jpegs)


def _examples(case: Case) -> list[Example]:
    rng = np.random.default_rng([case.seed, case.number, 1])
    return [example(case, film, rng) for film in films_of(case, _footage)]


def example(case: Case, film: MarkedFilm, rng: Generator) -> Example:
    """Gather the candidates of a film from every second picture, coded as JPEG."""
    quality = int(rng.integers(35, 85))
    count = len(film.pictures) // 2
    step = max(1, count / WINDOW_PICTURES)
    chosen = [2 * int(k * step) for k in range(int(count / step))]
    found = candidates([_gray(film.pictures[index], quality) for index in chosen], _appearance)
    places = [film.places[index] if film.places else [] for index in chosen]
    return Example(
        case=case.number, kind=film.kind, opacity=film.opacity, behaviour=film.behaviour, shots=film.shots,
        overlays=[is_overlay(one, places) for one in found],
        features=[list(one.features) for one in found],
    )  # fmt: skip


def is_overlay(found: Candidate, places: Sequence[Sequence[Box]]) -> bool | None:
    """Return whether a candidate is the overlay; None where it is that in few pictures or in part.

    Args:
        places: boxes of the overlay in every picture.
    """
    covers = [
        max((shared(found.box, box) for box in boxes), default=0.0)
        for boxes, seen in zip(places, found.shown, strict=True)
        if seen
    ]
    if not any(covers):
        return False
    return True if np.mean([share > COVERED for share in covers]) >= OFTEN else None


def _gray(picture: Picture, quality: int) -> Gray:
    """The picture as the detector sees a packed frame."""
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return small_gray(coded.tobytes())


if __name__ == "__main__":
    main()
