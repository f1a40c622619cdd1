"""Figures of a plan, checked against the requests that the run then makes to a real HTTP server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.media import Truth
from models.language import Question
from pipeline.cli.main import main
from pipeline.curation import plan as planning
from pipeline.curation.config import Config
from pipeline.curation.job import curate
from pipeline.curation.plan import Plan, Row, plan, tokens_of
from pipeline.platform.config import load
from tests.support.chat import ChatServer, Reply, completion

CAPTION = "A grey blob moves over a plain wall. A second blob rests beside it."


def answer(request: dict[str, Any]) -> Reply:
    """Whatever is asked for, as a text."""
    schema = request["response_format"]["json_schema"]["schema"]
    return completion(json.dumps(dict.fromkeys(schema["required"], CAPTION)))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


def settings(server: ChatServer, *more: str) -> list[str]:
    asked = [
        f"{door}.{key}={value}"
        for door in ("language", "vision")
        for key, value in (
            ("base_url", server.base_url), ("model", "m"), ("input_price", 2), ("output_price", 10)
        )
    ]  # fmt: skip
    return [
        "run.runner=local", "transcribe.require_speech=false", "match.required=false",
        *asked, *more,
    ]  # fmt: skip


def planned(given: Path, chosen: list[str], memo: Path | None = None) -> Plan:
    return plan(str(given), load(None, chosen, Config).config, memo=memo)


def row(found: Plan, stage: str) -> Row | None:
    return next((row for row in found.rows if row.stage == stage), None)


def test_a_file_that_is_no_video_asks_nothing(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "list.json").write_text("{}")
    found = planned(tmp_path, settings(server))
    assert (found.files, found.usable, found.rows) == (1, 0, [])


def test_a_new_video_is_taken_to_be_like_others_and_nothing_is_asked(
    wordless: tuple[Path, Truth], server: ChatServer
) -> None:
    found = planned(wordless[0], settings(server))
    assert (found.files, found.looked_at, found.usable, found.remembered) == (1, 1, 1, 0)
    assert found.hours == pytest.approx(12 / 3600, rel=0.05)
    captions = row(found, "caption")
    # Twelve seconds are one clip of 9.5 s, or two of 5 s asked twice each; nobody speaks.
    assert captions is not None and (captions.likely.requests, captions.high.requests) == (1, 4)
    assert row(found, "refine") is None
    for each in (captions.likely, captions.high):
        # Ten pictures of 240 x 240: nine patches of 28 pixels along each side.
        assert each.input_tokens > 10 * 81 * each.requests
        assert each.usd == pytest.approx((2 * each.input_tokens + 10 * each.output_tokens) / 1e6, rel=1e-3)
    assert not server.requests


def test_what_is_remembered_costs_nothing_and_what_is_not_is_counted_exactly(
    wordless: tuple[Path, Truth], server: ChatServer, tmp_path: Path
) -> None:
    video = shutil.copy(wordless[0], tmp_path / "Grey Blobs.mp4")
    memo = tmp_path / "memo"
    curate(str(video), tmp_path / "out", load(None, settings(server), Config), memo=memo)
    found = planned(video, settings(server), memo)
    assert found.remembered == 1 and not found.rows

    changed = settings(server, "caption.frames=3")
    expected = row(planned(video, changed, memo), "caption")
    before = len(server.requests)
    curate(str(video), tmp_path / "out", load(None, changed, Config), memo=memo)
    asked = [request for request in server.requests[before:] if "image_url" in json.dumps(request)]
    assert expected is not None and expected.likely.requests == len(asked) == 2


def test_many_files_are_judged_by_some_of_them(
    wordless: tuple[Path, Truth], server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        shutil.copy(wordless[0], tmp_path / f"{number}.mp4")
    monkeypatch.setattr(planning, "SAMPLE", 2)
    found = planned(tmp_path, settings(server))
    captions = row(found, "caption")
    assert (found.files, found.looked_at) == (6, 2)
    assert captions is not None and captions.likely.requests == 6
    assert found.hours == pytest.approx(6 * 12 / 3600, rel=0.05)


def test_the_command_prints_a_line_a_stage_and_names_what_is_missing(
    wordless: tuple[Path, Truth], server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for setting in settings(server) for part in ("--set", setting)]
    assert main(["plan", str(wordless[0]), *given]) == 0
    printed = capsys.readouterr().out
    assert "files       1; looked at 1, of which 1 are usable" in printed
    assert [line.split()[0] for line in printed.splitlines() if " m " in line][:1] == ["caption"]
    assert main(["plan", str(tmp_path / "nowhere"), *given]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


def test_tokens_grow_with_what_a_question_holds() -> None:
    bare = Question(instructions="Count.", material="one", schema={"type": "object"})
    longer = Question(instructions="Count.", material="one" + " two" * 100, schema={"type": "object"})
    assert tokens_of(longer) - tokens_of(bare) == 100
