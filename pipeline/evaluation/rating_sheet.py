"""Blind rating sheets for people.

``sheet.html`` is one file that needs no network: it holds pictures and texts and no name of what made them,
the order is shuffled, and its button saves the ratings as JSON. The key that tells what is what lies beside
it in ``key.json`` and is not handed out. What a sheet asks is a :class:`Form`:
:mod:`generation.evaluation.film_sheet`, :mod:`pipeline.captions.sheet`.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.errors import UsageError
from models.files import json_digest

SHEET, KEY = "sheet.html", "key.json"
TEMPLATES = Path(__file__).parent


class RatingError(UsageError):
    """Ratings that do not belong to the sheet, or are damaged; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One question about every item.

    Attributes:
        answers: what a rater can choose, from worst to best or the other way, each with its meaning, which
            may be empty.
    """

    name: str
    title: str
    question: str
    answers: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Questions of a sheet.

    Attributes:
        introduction: said above all items.
        item: what one is called, such as ``film``.
    """

    introduction: str
    item: str
    scales: tuple[Scale, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Pictures in a line, as JPEG files, and the text above them."""

    text: str
    pictures: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Thing to rate.

    Attributes:
        rows: one after the other; several are numbered.
        text: said above them.
        truth: what it is and who made it, for the key alone.
    """

    text: str
    rows: Sequence[Row]
    truth: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One answer of one rater; ``code`` and ``truth`` are those of the item."""

    code: str
    truth: Mapping[str, str]
    scale: str
    score: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """Answers of all raters; ``truths`` are those of all items, rated or not."""

    truths: list[Mapping[str, str]]
    given: list[Rating]


def write_sheet(form: Form, items: Sequence[Item], out: Path, *, seed: int) -> str:
    """Write ``sheet.html`` and ``key.json`` into a folder.

    Args:
        seed: of the order; the same items and seed give the same sheet.

    Returns:
        the sheet's identity, which ratings carry.
    """
    order = list(items)
    random.Random(seed).shuffle(order)
    shown = [
        {
            "code": f"{form.item}-{number:02}",
            "text": item.text,
            "rows": [
                {"text": row.text, "pictures": [_data(jpeg) for jpeg in row.pictures]} for row in item.rows
            ],
        }
        for number, item in enumerate(order, start=1)
    ]  # fmt: skip
    identity = json_digest(shown)[:16]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    html = environment.get_template("rating_sheet.html.j2").render(
        identity=identity, form=form, items=shown
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / SHEET).write_text(html, encoding="utf-8")
    truths = {each["code"]: dict(item.truth) for each, item in zip(shown, order, strict=True)}
    key = {"sheet": identity, "seed": seed, "items": truths}
    (out / KEY).write_text(json.dumps(key, indent=2) + "\n", encoding="utf-8")
    return identity


def read_ratings(paths: Sequence[Path], key: Path, form: Form) -> Ratings:
    """All answers of all raters.

    Args:
        paths: JSON files that the sheet saved, one a rater.
        key: the sheet's ``key.json``.

    Raises:
        RatingError: a file is damaged or of another sheet, or a rater has two.
    """
    tree = _read(key)
    truths = tree.get("items")
    if not isinstance(truths, dict):
        raise RatingError(f"{key} is the key of no sheet")
    raters: dict[str, Path] = {}
    found: list[Rating] = []
    for path in paths:
        sheet = _read(path)
        if sheet.get("sheet") != tree["sheet"]:
            raise RatingError(f"{path} was saved by another sheet than the one of {key}")
        rater = str(sheet.get("rater"))
        if rater in raters:
            raise RatingError(f"{path} and {raters[rater]} are both by the rater {rater!r}")
        raters[rater] = path
        found += _ratings(path, sheet.get("ratings"), truths, form)
    return Ratings(truths=list(truths.values()), given=found)


def _ratings(path: Path, ratings: Any, truths: dict[str, dict[str, str]], form: Form) -> list[Rating]:
    if not isinstance(ratings, dict) or not set(ratings) <= set(truths):
        raise RatingError(f"{path}: ratings are not of this sheet's {form.item}s")
    allowed = {scale.name: scale.answers for scale in form.scales}
    found = []
    for code, each in ratings.items():
        for scale, score in each.items() if isinstance(each, dict) else [("", each)]:
            if not isinstance(score, int) or isinstance(score, bool) or score not in allowed.get(scale, ()):
                raise RatingError(f"{path}: {code}, {scale}: {score!r} is no score of the sheet")
            found.append(Rating(code=code, truth=truths[code], scale=scale, score=score))
    return found


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


def _data(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
