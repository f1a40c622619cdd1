"""The paper's four scales, rated by people who do not know what made which film.

``sheet.html`` is one file that needs no network: it holds the pictures and no name of a film or a system,
the order is shuffled, and its button saves the ratings as JSON. The key that tells what is what lies beside
it in ``key.json`` and is not handed out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from generation.evaluation.films import Film
from generation.evaluation.judge import HIGHEST, LOWEST, SCALES, as_jpeg, is_score, scale_name
from generation.evaluation.networks import evenly
from generation.evaluation.report import Figure, measured
from generation.stills import Picture

SHEET, KEY = "sheet.html", "key.json"
TEMPLATES = Path(__file__).parent
SHOT_PICTURES = 3
QUESTIONS = {
    "aesthetic": "Are the pictures pleasing: composition, light, colour, sharpness?",
    "realism": "Could this have been filmed: plausible objects, hands, tools?",
    "visual_consistency": "Do dish, objects, people and place stay the same from step to step?",
    "narrative": "Do the pictures show the steps in order and lead to the goal, without repetition?",
}


class RatingError(ValueError):
    """Ratings that do not belong to the sheet, or are damaged; the text says which and why."""


@dataclass(frozen=True, slots=True)
class _Row:
    text: str
    pictures: list[str]


@dataclass(frozen=True, slots=True)
class _Item:
    code: str
    goal: str
    rows: list[_Row]


def write_sheet(films: Sequence[Film], out: Path, *, seed: int) -> str:
    """Write ``sheet.html`` and ``key.json`` into a folder.

    Args:
        films: any number, of one system or several.
        seed: of the order; the same films and seed give the same sheet.

    Returns:
        the sheet's identity, which ratings carry.
    """
    order = list(films)
    random.Random(seed).shuffle(order)
    items = [
        _Item(f"film-{number:02}", film.goal, _rows(film)) for number, film in enumerate(order, start=1)
    ]
    names = {
        item.code: {"film": film.name, "system": film.system}
        for item, film in zip(items, order, strict=True)
    }
    identity = hashlib.sha256(json.dumps([asdict(item) for item in items]).encode()).hexdigest()[:16]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    html = environment.get_template("rating_sheet.html.j2").render(
        identity=identity,
        items=items,
        scales=[(scale, scale.replace("_", " "), QUESTIONS[scale]) for scale in SCALES],
        scores=range(LOWEST, HIGHEST + 1),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / SHEET).write_text(html, encoding="utf-8")
    key = {"sheet": identity, "seed": seed, "films": names}
    (out / KEY).write_text(json.dumps(key, indent=2) + "\n", encoding="utf-8")
    return identity


def _rows(film: Film) -> list[_Row]:
    return [
        _Row(
            shot.action or shot.caption,
            [_data(shot.video[at]) for at in evenly(len(shot.video), SHOT_PICTURES)],
        )
        for shot in film.shots
    ]


def rated_figures(ratings: Sequence[Path], key: Path, *, seed: int) -> list[Figure]:
    """One figure for each system and scale, over all raters; intervals are over films.

    Args:
        ratings: JSON files that the sheet saved, one a rater.
        key: the sheet's ``key.json``.

    Raises:
        RatingError: a file is damaged or of another sheet, or a rater has two.
    """
    truth = _read(key)
    films: dict[str, dict[str, str]] = truth["films"]
    raters: dict[str, Path] = {}
    found: list[tuple[str, str, int]] = []
    for path in ratings:
        sheet = _read(path)
        if sheet.get("sheet") != truth["sheet"]:
            raise RatingError(f"{path} was saved by another sheet than the one of {key}")
        rater = str(sheet.get("rater"))
        if rater in raters:
            raise RatingError(f"{path} and {raters[rater]} are both by the rater {rater!r}")
        raters[rater] = path
        found += _scores(path, sheet.get("ratings"), films)
    figures = []
    note = f"{LOWEST} to {HIGHEST}, {len(raters)} rater{'s' if len(raters) != 1 else ''}"
    for system in sorted({film["system"] for film in films.values()}):
        for scale in SCALES:
            own = [each for each in found if each[1] == scale and films[each[0]]["system"] == system]
            values, groups = [score for _, _, score in own], [code for code, _, _ in own]
            name = scale_name(scale, "rated")
            figures.append(
                measured(f"films {system}", name, values, groups, better="higher", note=note, seed=seed)
            )
    return figures


def _scores(path: Path, ratings: Any, films: dict[str, dict[str, str]]) -> list[tuple[str, str, int]]:
    if not isinstance(ratings, dict) or not set(ratings) <= set(films):
        raise RatingError(f"{path}: ratings are not of this sheet's films")
    scores = [
        (code, scale, score)
        for code, each in ratings.items()
        for scale, score in (each.items() if isinstance(each, dict) else [("", each)])
    ]
    for code, scale, score in scores:
        if scale not in SCALES or not is_score(score):
            raise RatingError(f"{path}: {code}, {scale}: {score!r} is no score from {LOWEST} to {HIGHEST}")
    return scores


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RatingError(
            f"{path} is not there; ratings are scored where their sheet was written"
        ) from error
    except ValueError as error:
        raise RatingError(f"{path} is damaged: {error}") from error
    if not isinstance(tree, dict):
        raise RatingError(f"{path} holds no object")
    return tree


def _data(picture: Picture) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(as_jpeg(picture)).decode()
