"""Measure how well overlays are found: ``python -m benchmarks.watermark --seed N [--videos DIR]``.

Films of one to six stretches of real footage are made, cropped, scaled and graded at random, and every film
is judged twice by the product's own stages (probe, scan, clip, watermark, with the default configuration):
with a random overlay, and untouched. Films without overlays that look as if they had one are judged
beside them. Only pictures at 4 a second are written, as small H.264 files.

- ``recall``: share of the films with an overlay of at least 40 % opacity in which it was found: some
  finding scores above the threshold and meets the overlay's box.
- ``false_reject_rate``: share of the untouched and of the hard films with a finding above the threshold.
- ``precision``: found overlays, over these and the false ones.
- ``box_iou``: where found, mean overlap over union of two boxes: around all places of the overlay in the
  film, and around all findings above the threshold that meet it. A mark that jumps between corners is one
  finding for each corner.

Seeds below 1000 are for development. Seeds of reported figures start at 1000.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import cv2

from benchmarks.commands import parser_of
from benchmarks.footage import HELD_OUT, Footage, data_files, read_footage, video_files
from benchmarks.machine import machine, markdown
from benchmarks.marked_films import Case, MarkedFilm, Measurer, films_of, planned
from benchmarks.overlays import KINDS, Box
from stages.watermark.stage import box_iou, union

MIN_OPACITY = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Verdict on one film.

    Attributes:
        kind: of the overlay laid over it; ``untouched``, or a kind of hard film.
        opacity: of the overlay; 0 without one.
        box: of the overlay; None without one.
        score: of its strongest finding, of those that meet the box if there is one.
        found_kind: the kind that the finding names.
        iou: of the box around all findings above the threshold that meet the true one, with the true one.
        flagged: whether the score is above the threshold.
    """

    case: int
    kind: str
    behaviour: str
    opacity: float
    shots: int
    box: Box | None
    score: float
    found_kind: str
    iou: float
    flagged: bool


def main() -> None:
    """Make and judge the films, print tables, then one JSON object."""
    parser = parser_of("watermark", __doc__)
    parser.add_argument("--seed", type=int, default=1000, help="of films and overlays")
    parser.add_argument(
        "--videos", type=Path, help="folder of footage without overlays (default: the held-out footage)"
    )
    parser.add_argument("--skip", nargs="*", default=[], help="names of files to leave out")
    parser.add_argument("--clips", type=int, default=300, help="films with an overlay")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--out", type=Path, help="write every film's judgement here as it comes, one JSON object a line"
    )
    arguments = parser.parse_args()
    paths = video_files([arguments.videos], arguments.skip) if arguments.videos else data_files(HELD_OUT)
    if not paths:
        parser.error("no video files; give --videos, or set VIDEOAUTEUR_DATA to the folder of trial data")
    started = time.perf_counter()
    cases = planned(arguments.seed, arguments.clips)
    context = multiprocessing.get_context("spawn")
    judged: list[Judged] = []
    with (
        context.Pool(arguments.workers, _open, (paths,)) as pool,
        arguments.out.open("w") if arguments.out else contextlib.nullcontext() as out,
    ):
        for found in pool.imap(_judge, cases, chunksize=4):
            judged += found
            if out:
                out.writelines(f"{json.dumps(asdict(one))}\n" for one in found)
                out.flush()
    print(f"{machine()}\n")
    print(f"{len(judged)} films of {len(paths)} files, {time.perf_counter() - started:.0f} s\n")
    print_tables(judged)
    print(json.dumps(figures(judged)))


def figures(judged: Sequence[Judged]) -> dict[str, float]:
    """The four figures; see the module's text."""
    marked = [one for one in judged if one.box is not None and one.opacity >= MIN_OPACITY]
    clean = [one for one in judged if one.box is None]
    found = [one for one in marked if one.flagged]
    false = sum(one.flagged for one in clean)
    return {
        "recall": round(len(found) / len(marked), 4),
        "precision": round(len(found) / max(1, len(found) + false), 4),
        "false_reject_rate": round(false / len(clean), 4),
        "box_iou": round(fmean([one.iou for one in found] or [0.0]), 4),
    }


def print_tables(judged: Sequence[Judged]) -> None:
    """Print recall by kind, opacity, behaviour and shots, and false findings by film."""
    marked = [one for one in judged if one.box is not None]
    bands: list[tuple[str, Callable[[Judged], bool]]] = [
        ("below 0.4", lambda one: one.opacity < MIN_OPACITY),
        ("0.4 to 0.6", lambda one: MIN_OPACITY <= one.opacity <= 0.6),
        ("above 0.6", lambda one: one.opacity > 0.6),
    ]
    rows = []
    for kind in KINDS:
        of_kind = [one for one in marked if one.kind == kind]
        found = [one for one in of_kind if one.flagged and one.opacity >= MIN_OPACITY]
        rows.append([
            kind, *(_share([one for one in of_kind if band(one)]) for _, band in bands),
            fmean([one.iou for one in found] or [0.0]),
            fmean([one.found_kind == kind for one in found] or [0.0]),
        ])  # fmt: skip
    print("Found, by kind and opacity; box IoU and share named rightly at 0.4 and more\n")
    print(markdown(["kind", *(name for name, _ in bands), "box IoU", "named"], rows), "\n")
    strong = [one for one in marked if one.opacity >= MIN_OPACITY]
    clean = [one for one in judged if one.box is None]
    for title, chosen, key in (
        ("Found at 0.4 and more, by behaviour", strong, lambda one: one.behaviour),
        ("Found at 0.4 and more, by number of shots", strong, lambda one: str(one.shots)),
        ("False findings, by film", clean, lambda one: one.kind),
    ):
        parts: dict[str, list[Judged]] = defaultdict(list)
        for one in chosen:
            parts[key(one)].append(one)
        print(f"{title}\n")
        print(markdown(["films", "flagged"], [[name, _share(parts[name])] for name in sorted(parts)]), "\n")


def _share(judged: Sequence[Judged]) -> str:
    if not judged:
        return "-"
    found = sum(one.flagged for one in judged)
    return f"{found / len(judged):.3f} ({found} of {len(judged)})"


def judged(case: int, film: MarkedFilm, measurer: Measurer) -> Judged:
    """Judge one film by the product's stages."""
    findings = [finding for mark in measurer.video(film).watermarks for finding in mark.findings]
    met = [finding for finding in findings if film.box is None or box_iou(finding.box, film.box) > 0]
    best = max(met, key=lambda finding: finding.score, default=None)
    counted = [finding.box for finding in met if finding.score > measurer.threshold]
    return Judged(
        case=case, kind=film.kind, behaviour=film.behaviour, opacity=film.opacity, shots=film.shots,
        box=film.box,
        score=best.score if best else 0.0,
        found_kind=best.kind if best else "",
        iou=box_iou(union(counted), film.box) if counted and film.box else 0.0,
        flagged=bool(counted),
    )  # fmt: skip


_measurer: Measurer
_footage: list[Footage]


def _open(paths: list[Path]) -> None:
    global _measurer, _footage
    cv2.setNumThreads(1)
    _measurer, _footage = Measurer(), read_footage(paths)


def _judge(case: Case) -> list[Judged]:
    return [judged(case.number, film, _measurer) for film in films_of(case, _footage)]


if __name__ == "__main__":
    main()
