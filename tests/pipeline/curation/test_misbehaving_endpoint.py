"""The whole job against an endpoint that does all that providers do, over real HTTP.

Every clip ends with a caption or a reason, the ledger adds up to the server's own count, and no answered
request is paid for twice, whatever ends the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples.drawing import moving_blobs
from examples.media import Scene, write_video
from pipeline.cli.main import main
from tests.support.chat import ChatServer, Reply
from tests.support.curating import table

ROOT = Path(__file__).parents[3]
CAPTION = "A cook stirs the soup with a wooden spoon."
LINE = "Stir the soup with a wooden spoon."
WRONG_SCHEMA = '{"caption": 5}'
# What the server does to the first requests for a clip, before it answers as it should.
PASSING: dict[str, list[str]] = {
    "pauses": ["429, Retry-After"],
    "is busy": ["429", "429"],
    "fails": ["500", "503"],
    "hangs": ["hang"],
    "breaks off": ["half", "closed"],
    "has a gateway": ["page"],
    "writes no JSON": ["no JSON"],
}
# What it does to all of them, and how the clip ends.
LASTING = {
    "wrong schema": "no_caption",
    "empty": "no_caption",
    "10 MB": "no_caption",
    "refusal": "refused",
    "moderation": "refused",
}
UNKNOWN = {"hang", "half", "closed", "10 MB"}
"""After these nobody but the server knows what was charged."""


class Provider:
    """Answers by moods, one a clip, and keeps accounts of its own.

    Attributes:
        told: (tokens read, tokens written) of every answer that it sent whole.
        answered: bodies of the requests that it answered.
        did: what it did to requests, by mood.
        held: released once for every request that it holds back.
        hold_after: answers after which it holds all further requests back until it goes.
    """

    def __init__(self, *moods: list[str], hold_after: int | None = None) -> None:
        self._moods = list(moods)
        self._of: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._taken = 0
        self.gone = threading.Event()
        self.told: list[tuple[int, int]] = []
        self.answered: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.held = threading.Semaphore(0)
        self.hold_after = hold_after

    def __call__(self, request: dict[str, Any]) -> Reply | None:
        body = json.dumps(request, sort_keys=True)
        with self._lock:
            hold = self.hold_after is not None and self._taken >= self.hold_after
            self._taken += not hold
            mood = self._mood(request)
        if hold:
            self.held.release()
            self.gone.wait(60)
            return None
        with self._lock:
            self.did[mood] += 1
        match mood:
            case "429, Retry-After":
                return Reply({}, 429, Retry_After="0.2")
            case "429" | "500" | "503":
                return Reply({"error": {"message": "not now"}}, int(mood))
            case "hang":
                self.gone.wait(60)
                return None
            case "half":
                return Reply('{"choices": [{"message": {"content": "A co', 200, Content_Length="900")
            case "closed":
                return None
            case "page":
                return Reply("<html>Please log in</html>")
            case "moderation":
                return Reply({"error": {"code": 403, "message": "your input was flagged"}}, 403)
        return self._completion(body, mood, request)

    def _mood(self, request: dict[str, Any]) -> str:
        """Return the treatment of a request, by the order of the clip that it is about."""
        if not pictures(request):
            return "good"
        about = json.dumps(request["messages"][:2])
        if about not in self._of:
            self._of[about] = self._moods.pop(0) if self._moods else []
        rest = self._of[about]
        mood = rest[0] if rest else "good"
        if mood not in LASTING and rest:
            rest.pop(0)
        return mood

    def _completion(self, body: str, mood: str, request: dict[str, Any]) -> Reply:
        schema = request["response_format"]["json_schema"]["schema"]
        text = {
            "no JSON": "A cook stirs the soup.",
            "wrong schema": WRONG_SCHEMA,
            "empty": "",
            "10 MB": "soup " * 2_000_000,
            "refusal": None,
        }.get(mood, json.dumps(CAPTION_ANSWER if pictures(request) else filled(schema)))
        message = {"role": "assistant", "content": text}
        if mood == "refusal":
            message["refusal"] = "I cannot look at this."
        with self._lock:
            self.answered[body] += 1
            number = sum(self.answered.values())
            usage = {"prompt_tokens": 1000 + number, "completion_tokens": 10 + number}
            if mood not in UNKNOWN:
                self.told.append((usage["prompt_tokens"], usage["completion_tokens"]))
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return Reply({"object": "chat.completion", "choices": [choice], "usage": usage})


CAPTION_ANSWER = {"caption": CAPTION}


def pictures(request: dict[str, Any]) -> int:
    return sum(isinstance(message["content"], list) for message in request["messages"])


def filled(schema: dict[str, Any]) -> Any:
    """Some answer that a schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            return {name: filled(schema["properties"][name]) for name in schema["required"]}
        case "array":
            return [filled(schema["items"])]
        case "string":
            return LINE
    return schema.get("minimum", 0)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A silent film with a shot for every mood, and a short one."""
    folder = tmp_path_factory.mktemp("given")
    for name, shots in (("long", len(PASSING) + len(LASTING)), ("short", 2)):
        scenes = [
            Scene(duration_s=5.2, picture=moving_blobs(seed, ((200, 120, 60), (60, 140, 200))[seed % 2]))
            for seed in range(shots)
        ]
        write_video(folder / f"{name}.mp4", scenes, width_px=160, height_px=120, fps=10, audio=False)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _nothing_to_read() -> Iterator[None]:
    """No time is spent on reading what is not written on these pictures."""
    with pytest.MonkeyPatch.context() as patch:
        reader = SimpleNamespace(read=lambda picture: [])
        patch.setattr("stages.watermark.stage.TextReader", lambda threads: reader)
        yield


@pytest.fixture(scope="module")
def memo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all runs here: pictures are read once, questions differ."""
    return tmp_path_factory.mktemp("memo")


def arguments(given: Path, output: Path, memo: Path, server: ChatServer, *settings: str) -> list[str]:
    """Of a run that asks this server."""
    common = [
        "run.runner=local", "run.transient_retries=0", "transcribe.require_speech=false",
        "match.required=false", "narrate.min_steps=1", "watermark.threshold=1", "caption.side_px=64",
        *(f"{door}.{setting}" for door in ("language", "vision") for setting in (
            f"base_url={server.base_url}", "model=m", "timeout_s=4", "input_price=2", "output_price=8",
        )),
    ]  # fmt: skip
    options = [argument for setting in (*common, *settings) for argument in ("--set", setting)]
    return ["curate", str(given), str(output), "--memo", str(memo), *options]


def ledger(output: Path) -> Counter[str]:
    """Its figures over all stages, as run.json has them."""
    sums: Counter[str] = Counter()
    for row in json.loads((output / "run.json").read_text())["ledger"]:
        sums.update({name: value for name, value in row.items() if isinstance(value, int | float)})
    return sums


def assert_adds_up(output: Path, server: ChatServer, provider: Provider) -> Counter[str]:
    """The ledger says what the server counted."""
    sums = ledger(output)
    assert sums["requests"] == len(server.requests)
    assert sums["requests"] == sums["answered"] + sums["failed"] + sums["unfinished"]
    assert sums["input_tokens"] == sum(read for read, _ in provider.told)
    assert sums["output_tokens"] == sum(written for _, written in provider.told)
    usd = sum(2 * read + 8 * written for read, written in provider.told) / 1e6
    assert sums["usd"] == pytest.approx(usd)
    return sums


def test_every_clip_ends_with_a_caption_or_a_reason_and_the_ledger_adds_up(
    tmp_path: Path, given: Path, memo: Path
) -> None:
    moods = [*PASSING.values(), *([mood] for mood in LASTING)]
    provider = Provider(*moods)
    with ChatServer(provider) as server:
        code = main(arguments(given, tmp_path / "out", memo, server))
        provider.gone.set()
    assert code == 0
    clips = table(tmp_path / "out", "clips")
    assert [clip["caption"] for clip in clips] == [CAPTION] * (len(PASSING) + 2)
    reasons = [row["reason"] for row in table(tmp_path / "out", "rejects") if row["kind"] == "clip"]
    assert Counter(reasons) == Counter(LASTING.values())
    for mood in (*LASTING, *(mood for moods in PASSING.values() for mood in moods)):
        assert provider.did[mood] > 0, mood
    sums = assert_adds_up(tmp_path / "out", server, provider)
    assert sums["unknown"] == sum(provider.did[mood] for mood in UNKNOWN)
    assert sums["unfinished"] == 0 and sums["at_most_usd"] > sums["usd"]
    assert max(provider.answered.values()) == 1


def test_after_a_kill_nothing_answered_is_paid_for_twice(tmp_path: Path, given: Path, memo: Path) -> None:
    output, provider = tmp_path / "out", Provider(hold_after=5)
    with ChatServer(provider) as server:
        asked = arguments(given, output, memo, server, "caption.frames=3", "vision.concurrency=2")
        killed = subprocess.Popen([sys.executable, "-m", "pipeline", *asked], cwd=ROOT)
        # Whoever asks again has stored the answer before: both that may be on their way are held.
        for _ in range(2):
            assert provider.held.acquire(timeout=120)
        killed.kill()
        killed.wait()
        provider.gone.set()
        on_their_way = len(server.requests) - len(provider.told)
        assert on_their_way == 2 and len(provider.told) == 5
        provider.hold_after = None
        assert main(asked) == 0
    assert len(table(output, "clips")) == len(PASSING) + len(LASTING) + 2
    sums = assert_adds_up(output, server, provider)
    assert sums["unfinished"] == sums["unknown"] == on_their_way
    assert sums["remembered"] >= 4, "one of the five answers may be that of a finished film"
    assert set(provider.answered.values()) == {1}


def test_a_spent_budget_stops_the_run_and_a_larger_one_goes_on(
    tmp_path: Path, given: Path, memo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, provider = tmp_path / "out", Provider()
    with ChatServer(provider) as server:
        asked = arguments(given, output, memo, server, "caption.frames=2")
        assert main([*asked, "--set", "budget.max_requests=6"]) == 3
        said = capsys.readouterr()
        assert "budget.max_requests, which is 6" in said.err and "larger budget" in said.err
        assert len(server.requests) == 6 == assert_adds_up(output, server, provider)["requests"]
        rejects = [row for row in table(output, "rejects") if row["kind"] == "file"]
        unfinished = {row["uri"] for row in table(output, "videos") if row["status"] == "failed"}
        assert unfinished == {row["uri"] for row in rejects}
        assert {row["reason"] for row in rejects} == {"budget_spent"}
        assert json.loads((output / "run.json").read_text())["status"] == "budget_spent"
        assert (output / "report.html").is_file()
        # The same budget again: it is spent already.
        assert main([*asked, "--set", "budget.max_requests=6"]) == 3
        assert len(server.requests) == 6
        assert main(asked) == 0
    assert set(provider.answered.values()) == {1}
    assert len(table(output, "clips")) == len(PASSING) + len(LASTING) + 2
    assert_adds_up(output, server, provider)
