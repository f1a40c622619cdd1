"""Coverage and hallucination of captions, judged by a vision model behind an OpenAI-compatible endpoint.

The scale is the paper's: 6 to 3 without hallucination, 2 to 0 with it, by how informative a caption is; a
mean is told in hundredths of the best. A judge's numbers are its own: they compare captions under one
judge, not with people (:mod:`pipeline.captions.sheet`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from models.language import Answer, LanguageClient, Question
from pipeline.captions.dataset import CaptionedClip, Key, compared
from pipeline.captions.frames import Shown
from pipeline.evaluation.figures import Figure, measured, missing
from pipeline.evaluation.judging import is_score
from stages import prompts

LOWEST, HIGHEST = 0, 6
HALLUCINATED = 2
"""The best score of a caption that tells what is not there."""
SCORE, HALLUCINATION = "score (judged)", "captions with hallucination (judged)"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "score": {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST},
    },
    "required": ["reason", "score"],
    "additionalProperties": False,
}
ANSWER_TOKENS = 300
MAX_REASON = 1000
JUDGEMENTS = "judgements.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionJudgement:
    """The score of one caption, or why there is none; the reason is the judge's own words."""

    clip: CaptionedClip
    score: int | None
    reason: str = ""
    problem: str = ""


def judge_captions(
    clips: Sequence[CaptionedClip], shown: Shown, client: LanguageClient
) -> list[CaptionJudgement]:
    """Ask for every clip that has pictures.

    Raises:
        TransientError, EndpointError, BudgetError: see :class:`models.language.LanguageClient`.
    """
    visible = [clip for clip in clips if clip.key in shown.pictures]
    answers = client.ask([question(clip, shown.pictures[clip.key]) for clip in visible])
    judged = [_judgement(clip, answer) for clip, answer in zip(visible, answers, strict=True)]
    unseen = [
        CaptionJudgement(clip=clip, score=None, problem=shown.problems[clip.key])
        for clip in clips
        if clip.key not in shown.pictures
    ]
    return [*judged, *unseen]


def question(clip: CaptionedClip, pictures: Sequence[bytes]) -> Question:
    """Return the judge's question on a clip: its pictures, and its caption as data."""
    return Question(
        instructions=(files(__package__) / "judge.txt").read_text(encoding="utf-8").strip(),
        material=prompts.as_data({"caption": clip.caption}),
        images=pictures,
        schema=SCHEMA,
        max_tokens=ANSWER_TOKENS,
    )


def judged_figures(
    name: str, judgements: Sequence[CaptionJudgement], *, judge: str, seed: int
) -> list[Figure]:
    """Two figures of a dataset; captions without a usable answer are counted in the note."""
    of = f"captions {name}"
    judged = [each for each in judgements if each.score is not None]
    failed = [f"{each.clip.clip_id}: {each.problem}" for each in judgements if each.score is None]
    note = f"{len(judged)} captions, judged by {judge}"
    if failed:
        note += f"; no score for {len(failed)} of {len(judgements)} ({failed[0]})"
    if not judged:
        return [missing(of, figure, note) for figure in (SCORE, HALLUCINATION)]
    videos = [each.clip.video_id for each in judged]
    points = list(_points(judged).values())
    invented = [float(each.score is not None and each.score <= HALLUCINATED) for each in judged]
    return [
        measured(of, SCORE, points, videos, better="higher", note=f"0 to 100; {note}", seed=seed),
        measured(of, HALLUCINATION, invented, videos, better="lower", note=f"share; {note}", seed=seed),
    ]


def judged_differences(
    judgements: dict[str, list[CaptionJudgement]], *, judge: str, seed: int
) -> list[Figure]:
    """Return how much more later datasets' captions score than the first's, on shared clips."""
    points = {name: _points(each) for name, each in judgements.items()}
    videos = {each.clip.key: each.clip.video_id for some in judgements.values() for each in some}
    return compared(SCORE, points, videos, note=f"judged by {judge}", seed=seed)


def write_judgements(judgements: dict[str, list[CaptionJudgement]], out: Path) -> None:
    """Every score with its reason, one JSON object a line."""
    lines = [
        json.dumps(
            {
                "dataset": name,
                "clip_id": each.clip.clip_id,
                "score": each.score,
                "reason": each.reason,
                "problem": each.problem,
                "caption": each.clip.caption,
            },
            ensure_ascii=False,
        )
        for name, some in judgements.items()
        for each in some
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / JUDGEMENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _points(judgements: Sequence[CaptionJudgement]) -> dict[Key, float]:
    """Scores on the scale to 100."""
    return {each.clip.key: 100 * each.score / HIGHEST for each in judgements if each.score is not None}


def _judgement(clip: CaptionedClip, answer: Answer) -> CaptionJudgement:
    if answer.content is None:
        return CaptionJudgement(clip=clip, score=None, problem=str(answer.problem))
    score, reason = answer.content.get("score"), answer.content.get("reason")
    if not is_score(score, LOWEST, HIGHEST) or not isinstance(reason, str):
        return CaptionJudgement(
            clip=clip, score=None, problem=f"no score from {LOWEST} to {HIGHEST} with a reason"
        )
    assert isinstance(score, int)
    return CaptionJudgement(clip=clip, score=score, reason=" ".join(reason.split())[:MAX_REASON])
