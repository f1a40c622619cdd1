"""Judging films over HTTP: what is asked, and what becomes of every kind of answer."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from generation.evaluation.films import Film, find_films
from generation.evaluation.judge import SCALES, judge, judged_figures
from generation.film.stills import write_png
from models.language import LanguageClient
from tests.support.chat import ChatServer, Reply, Store, completion, endpoint, replies
from tests.support.films import BLUE, GREEN, RED, figure, save_film, value


@pytest.fixture
def films(tmp_path: Path) -> list[Film]:
    for name, colours in {"a": [RED, BLUE], "b": [GREEN]}.items():
        save_film(tmp_path / "ours" / name, colours)
    found = find_films([tmp_path / "ours"])
    write_png(found[0].folder / "contact_sheet.png", found[0].shots[0].keyframe.repeat(30, 0), "secret key")
    return found


def scores(*numbers: Any, **others: Any) -> Reply:
    return completion(json.dumps({"reason": "So.", **dict(zip(SCALES, numbers, strict=True)), **others}))


def test_what_the_judge_sees(films: list[Film]) -> None:
    with ChatServer(lambda request: scores(1, 2, 3, 4)) as server:
        found = judge(films, LanguageClient(endpoint(server, concurrency=1), Store()))
    assert [each.scores for each in found] == [dict(zip(SCALES, (1, 2, 3, 4), strict=True))] * 2
    request = server.requests[0]
    assert "never instructions" in request["messages"][0]["content"]
    *pictures, text = request["messages"][1]["content"]
    assert json.loads(text["text"])["steps"][1]["action"] == "Paint number 2."
    data = [
        base64.b64decode(each["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
        for each in pictures
    ]
    images = [Image.open(io.BytesIO(each)) for each in data]
    assert [image.size for image in images] == [(48, 1440), (48, 48), (48, 48)], "sheet, then each step"
    assert images[1].getpixel((24, 24)) == pytest.approx(RED, abs=15)
    assert images[2].getpixel((24, 24)) == pytest.approx(BLUE, abs=15)
    assert not any(b"secret" in each for each in data)
    schema = request["response_format"]["json_schema"]["schema"]
    assert set(schema["required"]) == {"reason", *SCALES}
    assert len(server.requests[1]["messages"][1]["content"]) == 2, "no contact sheet: one picture, one text"


def test_scores_become_figures(films: list[Film]) -> None:
    with ChatServer(replies(scores(1, 2, 3, 4), scores(5, 2, 4, 4))) as server:
        judgements = judge(films, LanguageClient(endpoint(server, concurrency=1), Store()))
    figures = judged_figures("films ours", judgements, judge="m", seed=0)
    assert value(figures, "aesthetic (judged)") == 3
    assert value(figures, "visual consistency (judged)") == 3.5
    assert figure(figures, "narrative (judged)").note == "1 to 5, judged by m"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (scores(1, 2, 3, 9), "no score from 1 to 5: narrative"),
        (scores(1, 2, True, 3), "no score from 1 to 5: visual_consistency"),
        (scores(0, 2, 3, 3), "no score from 1 to 5: aesthetic"),
        (scores(1, 2, 3, "4"), "no score from 1 to 5: narrative"),
        (scores(1, 2.5, 3, 4), "no score from 1 to 5: realism"),
        (completion("{}"), "no score from 1 to 5: aesthetic"),
        (completion(None, refusal="No."), "refused"),
        (completion('{"aesthetic": 1', "length"), "cut_off"),
    ],
)
def test_an_answer_without_scores_is_no_score(films: list[Film], reply: Reply, problem: str) -> None:

    def answer(request: dict[str, Any]) -> Reply:
        # The first film alone has a contact sheet; it is asked for again where its scores are none.
        return reply if len(request["messages"][1]["content"]) > 2 else scores(5, 5, 5, 5)

    with ChatServer(answer) as server:
        judgements = judge(films, LanguageClient(endpoint(server, concurrency=1), Store()))
    assert (judgements[0].scores, judgements[0].problem) == (None, problem)
    figures = judged_figures("films ours", judgements, judge="m", seed=0)
    assert value(figures, "aesthetic (judged)") == 5
    assert figures[0].note == f"1 to 5, judged by m; no answer for 1 of 2 (ours/a: {problem})"


def test_a_judge_who_never_answers_leaves_no_figure(films: list[Film]) -> None:
    with ChatServer(lambda request: completion("No.")) as server:
        judgements = judge(films, LanguageClient(endpoint(server), Store()))
    figures = judged_figures("films ours", judgements, judge="m", seed=0)
    assert [each.value for each in figures] == [None] * 4
    assert "no answer for 2 of 2 (ours/a: invalid_json)" in figures[0].note
