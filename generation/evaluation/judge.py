"""The paper's four scales, judged by a vision model behind an OpenAI-compatible endpoint.

A judge's numbers are its own: they compare films under one judge, not with people
(:mod:`pipeline.evaluation.rating_sheet`). From 1 to 5; the paper does not state its range.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from generation.evaluation.films import Film
from generation.film.stills import read_picture
from models.language import Answer, LanguageClient, Question
from pipeline.evaluation.figures import Figure, measured, missing
from pipeline.evaluation.judging import as_jpeg, is_score

SCALES = ("aesthetic", "realism", "visual_consistency", "narrative")
LOWEST, HIGHEST = 1, 5
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        **{scale: {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST} for scale in SCALES},
    },
    "required": ["reason", *SCALES],
    "additionalProperties": False,
}
ANSWER_TOKENS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmJudgement:
    """Scores of one film, or why there are none."""

    film: str
    scores: Mapping[str, int] | None
    problem: str = ""


def judge(films: Sequence[Film], client: LanguageClient) -> list[FilmJudgement]:
    """Ask for every film.

    Raises:
        TransientError, EndpointError: see :class:`models.language.LanguageClient`.
    """
    answers = client.ask([question(film) for film in films])
    return [_judgement(film, answer) for film, answer in zip(films, answers, strict=True)]


def question(film: Film) -> Question:
    """Return the judge's question: the contact sheet if there is one, then each step's middle picture."""
    sheet = film.folder / "contact_sheet.png"
    pictures = [read_picture(sheet.read_bytes())] if sheet.is_file() else []
    pictures += [shot.video[len(shot.video) // 2] for shot in film.shots]
    steps = [{"action": shot.step.action, "caption": shot.step.caption} for shot in film.shots]
    return Question(
        instructions=(files(__package__) / "judge.txt").read_text(encoding="utf-8").strip(),
        material=json.dumps({"goal": film.goal, "steps": steps}, ensure_ascii=False),
        images=[as_jpeg(picture) for picture in pictures],
        schema=SCHEMA,
        max_tokens=ANSWER_TOKENS,
    )


def judged_figures(of: str, judgements: Sequence[FilmJudgement], *, judge: str, seed: int) -> list[Figure]:
    """Return one figure a scale; films without a usable answer are counted in the note."""
    judged = {each.film: each.scores for each in judgements if each.scores is not None}
    failed = [f"{each.film}: {each.problem}" for each in judgements if each.scores is None]
    note = f"{LOWEST} to {HIGHEST}, judged by {judge}"
    if failed:
        note += f"; no answer for {len(failed)} of {len(judgements)} ({failed[0]})"
    if not judged:
        return [missing(of, scale_name(scale, "judged"), note) for scale in SCALES]
    return [
        measured(
            of,
            scale_name(scale, "judged"),
            [scores[scale] for scores in judged.values()],
            list(judged),
            better="higher",
            note=note,
            seed=seed,
        )
        for scale in SCALES
    ]


def scale_name(scale: str, by: str) -> str:
    """Return a scale's name in the table."""
    return f"{scale.replace('_', ' ')} ({by})"


def _judgement(film: Film, answer: Answer) -> FilmJudgement:
    if answer.content is None:
        return FilmJudgement(film=film.name, scores=None, problem=str(answer.problem))
    scores = {scale: answer.content.get(scale) for scale in SCALES}
    bad = [scale for scale, score in scores.items() if not is_score(score, LOWEST, HIGHEST)]
    if bad:
        return FilmJudgement(
            film=film.name, scores=None, problem=f"no score from {LOWEST} to {HIGHEST}: {bad[0]}"
        )
    return FilmJudgement(
        film=film.name, scores={scale: int(score) for scale, score in scores.items() if score}
    )
