"""Figures of the watermark benchmark, and the films that it makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.footage import FPS, STILLS_WITH_OVERLAYS, Footage, random_film, still_files
from benchmarks.marked_films import HARD, UNTOUCHED, films_of, planned
from benchmarks.overlays import KINDS, Box
from benchmarks.train_watermark import is_overlay
from benchmarks.watermark import Judged, figures
from stages.watermark.evidence import Candidate

NONE = Judged(
    case=0, kind=UNTOUCHED, behaviour="", opacity=0.0, shots=1, box=None, score=0.0, found_kind="",
    iou=0.0, flagged=False,
)  # fmt: skip
MARKED = replace(NONE, kind="logo", behaviour="steady", opacity=0.6, box=(0.1, 0.1, 0.2, 0.2))


def footage() -> list[Footage]:
    rng = np.random.default_rng(0)
    jpegs = [
        cv2.imencode(".jpg", rng.integers(0, 255, (300, 400, 3)).astype(np.uint8))[1] for _ in range(32)
    ]
    return [Footage(name=str(n), group="all", jpegs=jpegs) for n in range(2)]


def test_figures_leave_faint_overlays_out_and_count_all_films_without_one() -> None:
    found = replace(MARKED, flagged=True, iou=0.8)
    faint = replace(MARKED, opacity=0.3)
    judged = [found, replace(found, iou=0.4), MARKED, faint, NONE, NONE, NONE, replace(NONE, flagged=True)]
    assert figures(judged) == {
        "recall": 0.6667, "precision": 0.6667, "false_reject_rate": 0.25, "box_iou": 0.6,
    }  # fmt: skip


def test_every_kind_is_planned_equally_often_with_a_hard_film_for_every_two() -> None:
    kinds = [case.kind for case in planned(1000, 28)]
    assert [kinds.count(kind) for kind in KINDS] == [4] * 7
    assert sum(kinds.count(kind) for kind in HARD) == 14


def test_a_film_is_made_twice_with_its_overlay_and_without() -> None:
    case = planned(3, 7)[0]
    plain, marked = films_of(case, footage())
    again = films_of(case, footage())[1]
    assert plain.kind == UNTOUCHED and plain.box is None
    assert marked.kind == "logo" and marked.box is not None
    assert len(plain.pictures) == len(marked.pictures) >= 5 * FPS
    assert any((a != b).any() for a, b in zip(plain.pictures, marked.pictures, strict=True))
    assert all((a == b).all() for a, b in zip(marked.pictures, again.pictures, strict=True))


def test_pictures_of_a_film_are_rendered_when_asked_for() -> None:
    film = random_film(np.random.default_rng(1), footage(), 3)
    half = film[1::2]
    assert len(half) == len(film) // 2
    assert (half[0] == film[1]).all()


def test_a_candidate_is_the_overlay_only_in_pictures_that_show_it() -> None:
    place = (0.1, 0.1, 0.3, 0.2)
    places = [[place], [place], [], []]

    def found(box: Box, shown: str) -> Candidate:
        flags = tuple(letter == "x" for letter in shown)
        return Candidate(box=box, features=(), shown=flags, persistent=0, drifts=False)

    assert is_overlay(found(place, "xx--"), places) is True
    assert is_overlay(found(place, "xxxx"), places) is True
    assert is_overlay(found(place, "--xx"), places) is False
    assert is_overlay(found((0.25, 0.1, 0.6, 0.4), "xx--"), places) is None
    assert is_overlay(found((0.5, 0.5, 0.7, 0.6), "xx--"), places) is False


def test_stills_are_split_by_source_and_those_with_overlays_left_out(tmp_path: Path) -> None:
    listed = STILLS_WITH_OVERLAYS.read_text().split()[0]
    for name in ("a/1", "a/2", "b/1", "c/1", f"{listed}/1"):
        path = tmp_path / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    halves = [[path.parent.name for path in still_files(tmp_path, head=head)] for head in (False, True)]
    assert halves == [["a", "a", "c"], ["b"]]
