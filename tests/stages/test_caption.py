"""Captions by a model that sees, by one that only reads notes, and what is done about bad answers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models import weights
from models.language import Endpoint
from models.llamacpp import LlamaServer
from pipeline.chain import EMBEDDED_MODEL, build_stages
from pipeline.config import Config
from stages.base import Workspace
from stages.caption import FRAME_TALK, FREE_WORDS, SCHEMA, WriteCaptions, shortened, spread
from stages.match import MatchActions
from stages.narrate import Narrate
from stages.records import Caption, Evidence, Interval, Match, Reason, Video, Watermark
from stages.scan import FramePacker, read_frames
from tests.models.test_image_tags import clock
from tests.models.test_language import ChatServer, Reply, Store, completion
from tests.stages.test_narrate import FACTS
from tests.stages.test_records import action, clip

NOWHERE = "http://127.0.0.1:9/v1"
GOOD = "A hand sets a round white clock. The clock hangs on a wall."


def workspace(scratch: Path, *, language: str = NOWHERE, vision: str | None = None) -> Workspace:
    return Workspace(
        scratch=scratch,
        answers=Store(),
        language=Endpoint(base_url=language, model=EMBEDDED_MODEL, max_retries=0, concurrency=1),
        vision=Endpoint(base_url=vision, model="eyes", max_retries=0) if vision else None,
    )


def stage(*, vision: str | None = None, **settings: object) -> WriteCaptions:
    seeing = {"vision": {"base_url": vision, "model": "eyes"}} if vision else {}
    stages = build_stages(Config.model_validate({"caption": settings, **seeing}))
    return next(stage for stage in stages if isinstance(stage, WriteCaptions))


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """Two clips of twenty seconds that show a clock, the first with an action; frames are packed."""
    times = [index / 2 for index in range(80)]
    evidence = Evidence(
        shots=[Interval(start_s=0.0, end_s=20.0), Interval(start_s=20.0, end_s=40.0)],
        frame_times_s=times, sharpness=[0.5] * 80, exposure=[0.5] * 80, motion=[0.01] * 80,
        overlays=[], num_frames=80,
    )  # fmt: skip
    found = Video(
        uri="file:///v.mp4", video_id="v" * 16, content_id="v" * 64, evidence=evidence,
        clips=[clip(0, 0.0, 20.0), clip(1, 20.0, 40.0)],
        watermarks=[Watermark(clip_id=f"v-c000{index}", score=0.0, box=None, text="",
                              screen_text=["Step 1", "|", "25%"]) for index in range(2)],
        actions=[replace(action(0, 1.0, 12.0), text="Set the clock.")],
        matches=[Match(clip_id="v-c0000", action_id="v-a0000", iou=0.55, start_diff_s=1.0, rule="start")],
    )  # fmt: skip
    target = workspace(tmp_path).frames_path(found)
    target.parent.mkdir(parents=True)
    with FramePacker(target) as packer:
        for index, time_s in enumerate(times):
            packer.add(time_s, np.roll(clock(), index, axis=1), 90)
    return found


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (10, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]),
        (3, [3, 10, 16]),
        (1, [10]),
        (20, range(20)),
        (99, range(20)),
    ],
)
def test_frames_are_spread_evenly(count: int, chosen: list[int]) -> None:
    assert spread([float(number) for number in range(20)], count) == list(chosen)
    assert spread([], count) == []


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", ""),
        ("Chop it. Fry it.", "Chop it. Fry it."),
        ("Chop the leek. Fry the leek! Eat it.", "Chop the leek."),
        ("Chop 1.5 leeks. Then fry.", "Chop 1.5 leeks. Then fry."),
        ("Chop the leek and the onion. Fry.", "Chop the leek and the"),
    ],
)
def test_a_long_caption_ends_with_a_whole_sentence(text: str, short: str) -> None:
    assert shortened(text, 5) == short


def test_a_seeing_model_gets_ten_frames_of_each_clip(video: Video, tmp_path: Path) -> None:
    with ChatServer(lambda request: completion(json.dumps({"caption": f"  {GOOD}\n"}))) as server:
        tested = stage(vision=server.base_url)
        tested.open(workspace(tmp_path, vision=server.base_url))
        captioned = tested(video)
    assert captioned.drops == []
    shown = [[start_s + 1 + 2 * step for step in range(10)] for start_s in (0.0, 20.0)]
    assert captioned.captions == [
        Caption(clip_id=f"v-c000{index}", text=GOOD, model="eyes", frame_times_s=times)
        for index, times in enumerate(shown)
    ]
    frames = workspace(tmp_path).frames_path(video)
    pictures = []
    for request in server.requests:
        assert request["model"] == "eyes"
        assert request["response_format"]["json_schema"]["schema"] == SCHEMA
        assert "80 words" in request["messages"][0]["content"]
        *images, words = request["messages"][-1]["content"]
        assert words == {"type": "text", "text": "The clip lasts 20.0 seconds."}
        urls = [image["image_url"]["url"].partition(",") for image in images]
        assert {kind for kind, _, _ in urls} == {"data:image/jpeg;base64"}
        pictures.append([base64.b64decode(data) for _, _, data in urls])
    assert sorted(pictures) == sorted(read_frames(frames, times) for times in shown)
    picture = cv2.imdecode(np.frombuffer(pictures[0][9], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (300, 300, 3)


BAD = {
    "no JSON": completion("It shows a clock."),
    "refusal": completion(None, refusal="I will not look at this."),
    "cut off": completion('{"caption": "A', "length"),
    "other key": completion('{"text": "A clock."}'),
    "no text": completion('{"caption": 5}'),
    "empty": completion('{"caption": " \\n"}'),
    "talk of frames": completion('{"caption": "In the first frame a hand sets a clock."}'),
    "talk of pictures": completion('{"caption": "These images show a clock."}'),
    "bad request": Reply({"error": {"message": "image too large"}}, 400),
}


@pytest.mark.parametrize("name", BAD)
def test_a_clip_without_a_usable_caption_is_dropped(name: str, video: Video, tmp_path: Path) -> None:
    asked = iter([completion(json.dumps({"caption": GOOD})), BAD[name]])
    with ChatServer(lambda request: next(asked)) as server:
        tested = stage(vision=server.base_url)
        space = workspace(tmp_path, vision=server.base_url)
        assert space.vision is not None
        tested.open(replace(space, vision=replace(space.vision, concurrency=1)))
        captioned = tested(video)
    (drop,) = captioned.drops
    assert (drop.item_id, drop.reason, drop.stage) == ("v-c0001", Reason.NO_CAPTION, "caption")
    assert drop.detail == "the model gave no usable caption"
    assert [caption.clip_id for caption in captioned.captions] == ["v-c0000"]
    assert captioned.rejected is None


@pytest.mark.parametrize(
    ("text", "talk"),
    [
        ("A person glues a wooden frame.", False),
        ("The cook hangs a picture frame above the stove.", False),
        ("A hand lifts two bee frames out of the box.", False),
        ("A tray cools on a metal frame in the kitchen.", False),
        ("The cook frames the pastry with dough.", False),
        ("In the frame a cook chops leek.", True),
        ("A cook chops leek in this frame.", True),
        ("Frame 3 has a pot.", True),
        ("The Frames show a pot.", True),
        ("A pot boils across the frames.", True),
        ("The first frame has a pot, the last frame a plate.", True),
        ("By the next frame the pot is gone.", True),
        ("A pot appears in the last few frames.", True),
        ("The frame shows a pot.", True),
        ("A hand enters the frame.", True),
        ("These pictures are of a pot.", True),
    ],
)
def test_a_frame_that_stands_in_the_kitchen_is_no_talk_of_frames(text: str, talk: bool) -> None:
    assert bool(FRAME_TALK.search(text)) is talk


def test_a_video_without_a_caption_is_rejected(video: Video, tmp_path: Path) -> None:
    with ChatServer(lambda request: BAD["no JSON"]) as server:
        tested = stage(vision=server.base_url)
        tested.open(workspace(tmp_path, vision=server.base_url))
        captioned = tested(video)
    assert [drop.item_id for drop in captioned.drops] == ["v-c0000", "v-c0001", None]
    assert captioned.rejected is not None and captioned.rejected.reason is Reason.NO_CAPTION


def test_a_clip_between_two_packed_frames_cannot_be_described(video: Video, tmp_path: Path) -> None:
    between = replace(video, clips=[*video.clips, clip(2, 40.0, 40.2)])
    with ChatServer(lambda request: completion(json.dumps({"caption": GOOD}))) as server:
        tested = stage(vision=server.base_url, frames=3, max_words=7)
        tested.open(workspace(tmp_path, vision=server.base_url))
        captioned = tested(between)
    assert [drop.item_id for drop in captioned.drops] == ["v-c0002"]
    assert [len(request["messages"][-1]["content"]) for request in server.requests] == [4, 4]
    assert {caption.text for caption in captioned.captions} == {"A hand sets a round white clock."}


def test_captions_are_bought_for_matched_clips_alone_unless_told_otherwise(
    video: Video, tmp_path: Path
) -> None:
    match = next(stage for stage in build_stages(Config()) if isinstance(stage, MatchActions))
    matched = match.judge(video)
    assert [drop.item_id for drop in matched.drops] == ["v-c0001"]
    results = {}
    with ChatServer(lambda request: completion(json.dumps({"caption": GOOD}))) as server:
        for only_matched, asked in ((True, 1), (False, 2)):
            server.requests.clear()
            tested = stage(vision=server.base_url, only_matched=only_matched)
            tested.open(workspace(tmp_path, vision=server.base_url))
            results[only_matched] = tested(matched)
            assert len(server.requests) == asked
    assert results[True].kept_clips == results[False].kept_clips == video.clips[:1]
    assert results[True].drops == results[False].drops


def embedded(
    video: Video, tmp_path: Path, answer: Callable[[dict[str, Any]], Reply]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Texts of the embedded captioner if its language model answers so, and what it was asked."""
    with ChatServer(answer) as server:
        tested = stage()
        tested.open(workspace(tmp_path, language=server.base_url))
        captioned = tested(video)
        tested.close()
    return [caption.text for caption in captioned.captions], server.requests


PLAINLY = "Set the clock, with analog clock in view."
REST = ' The screen reads "Step 1". The shot is calm.'


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (completion('{"caption": "A person sets the analog clock."}'), "A person sets the analog clock."),
        (completion('{"caption": "A person sets the analog clock in a sunny kitchen."}'), PLAINLY),
        (completion('{"caption": "An analog clock is in view."}'), PLAINLY),
        (completion('{"caption": "The frame shows a person who sets the analog clock."}'), PLAINLY),
        (completion('{"caption": ""}'), PLAINLY),
        (completion("no JSON"), PLAINLY),
    ],
    ids=["faithful", "invented", "action-lost", "frames", "empty", "no-json"],
)
def test_the_embedded_captioner_says_what_its_notes_say_and_no_more(
    reply: Reply, sentence: str, video: Video, tmp_path: Path
) -> None:
    texts, requests = embedded(video, tmp_path, lambda request: reply)
    # Of the second clip no action is known, so no model is asked to make a sentence of one.
    assert texts == [sentence + REST, "Analog clock in view." + REST]
    (request,) = requests
    assert request["messages"][-1]["content"] == "Action: Set the clock.\nObjects: analog clock"


def test_a_caption_tells_of_the_same_action_as_its_step(video: Video, tmp_path: Path) -> None:
    """Both actions overlap the clip alike; the later one, by id, starts farther away."""
    tied = replace(
        video,
        clips=video.clips[:1],
        actions=[replace(action(0, 1.0, 11.0), text="Set the clock."),
                 replace(action(1, 9.0, 19.0), text="Hang the clock.")],
        matches=[Match(clip_id="v-c0000", action_id=f"v-a000{index}", iou=0.5, start_diff_s=far, rule="iou")
                 for index, far in ((1, 9.0), (0, 1.0))],
        facts=FACTS,
    )  # fmt: skip
    texts, _ = embedded(tied, tmp_path, lambda request: BAD["no JSON"])
    narrative = Narrate(min_steps=1)(tied).narrative
    assert narrative is not None
    assert [step.action for step in narrative.steps] == ["Set the clock."]
    assert texts == [PLAINLY + REST]


@pytest.mark.parametrize(("motion", "word"), [(0.0199, "calm"), (0.02, "lively"), (0.1, "fast")])
def test_motion_in_a_word(motion: float, word: str, video: Video, tmp_path: Path) -> None:
    moving = replace(video, clips=[replace(video.clips[1], motion=motion)])
    texts, _ = embedded(moving, tmp_path, lambda request: BAD["no JSON"])
    assert texts == [f'Analog clock in view. The screen reads "Step 1". The shot is {word}.']


def test_the_embedded_captioner_with_its_real_models(video: Video, tmp_path: Path) -> None:
    with LlamaServer(weights.smollm2(), host="127.0.0.1", threads=1, context_tokens=2048) as server:
        tested = stage()
        tested.open(workspace(tmp_path, language=server.base_url))
        captioned = tested(replace(video, clips=video.clips[:1]))
    (caption,) = captioned.captions
    assert caption.model == "embedded:efficientnet-lite0+SmolLM2-135M-Instruct"
    assert caption.frame_times_s == [3.0, 10.0, 16.5]
    assert caption.text.endswith(REST)
    words = set(re.findall(r"[\w']+", caption.text.removesuffix(REST).lower()))
    assert {"clock"} <= words <= {"set", "sets", "setting", "the", "analog", "clock"} | FREE_WORDS
