"""The paper's four scales, rated by people who do not know what made which film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from generation.evaluation.films import Film
from generation.evaluation.judge import HIGHEST, LOWEST, SCALES, scale_name
from generation.evaluation.networks import evenly
from pipeline.evaluation.figures import Figure, measured
from pipeline.evaluation.judging import as_jpeg
from pipeline.evaluation.rating_sheet import Form, Item, Row, Scale, read_ratings, write_sheet

SHOT_PICTURES = 3
QUESTIONS = {
    "aesthetic": "Are the pictures pleasing: composition, light, colour, sharpness?",
    "realism": "Could this have been filmed: plausible objects, hands, tools?",
    "visual_consistency": "Do dish, objects, people and place stay the same from step to step?",
    "narrative": "Do the pictures show the steps in order and lead to the goal, without repetition?",
}
FORM = Form(
    introduction="Each film below was made by a machine and is shown by pictures of its steps, in order. "
    f"Please rate every film on the four scales, from {LOWEST} (very bad) to {HIGHEST} (very good), each "
    "scale by itself. At the end, save your ratings and send the file back.",
    item="film",
    scales=tuple(
        Scale(
            name=scale,
            title=scale.replace("_", " "),
            question=QUESTIONS[scale],
            answers=dict.fromkeys(range(LOWEST, HIGHEST + 1), ""),
        )
        for scale in SCALES
    ),
)  # fmt: skip


def write_film_sheet(films: Sequence[Film], out: Path, *, seed: int) -> str:
    """Write a sheet of films, of one system or several, and its key; return the sheet's identity."""
    items = [
        Item(
            text=film.goal,
            rows=[
                Row(
                    text=shot.step.action or shot.step.caption,
                    pictures=[as_jpeg(shot.video[at]) for at in evenly(len(shot.video), SHOT_PICTURES)],
                )
                for shot in film.shots
            ],
            truth={"film": film.name, "system": film.system},
        )
        for film in films
    ]
    return write_sheet(FORM, items, out, seed=seed)


def rated_figures(paths: Sequence[Path], key: Path, *, seed: int) -> list[Figure]:
    """Return one figure for each system and scale, over all raters; intervals are over films.

    Raises:
        RatingError: see :func:`pipeline.evaluation.rating_sheet.read_ratings`.
    """
    found = read_ratings(paths, key, FORM)
    note = f"{LOWEST} to {HIGHEST}, {len(paths)} rater{'s' if len(paths) != 1 else ''}"
    figures = []
    for system in sorted({truth["system"] for truth in found.truths}):
        for scale in SCALES:
            own = [each for each in found.given if each.scale == scale and each.truth["system"] == system]
            values, groups = [each.score for each in own], [each.code for each in own]
            name = scale_name(scale, "rated")
            figures.append(
                measured(f"films {system}", name, values, groups, better="higher", note=note, seed=seed)
            )
    return figures
