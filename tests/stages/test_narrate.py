"""Clips in order, each with its best action, under the video's title."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.chain import build_stages
from pipeline.config import Config
from stages.narrate import Narrate, title
from stages.records import (
    Action,
    Caption,
    Clip,
    Drop,
    Facts,
    Kind,
    Match,
    Reason,
    Step,
    Video,
)

FACTS = Facts(
    container="mp4", video_codec="h264", audio_codec="aac", duration_s=40.0,
    width_px=640, height_px=360, fps=25.0, rotation_deg=0, title="",
)  # fmt: skip


def video_of(*pairs: Match, uri: str = "file:///v/Bread_Soup.mp4") -> Video:
    """Three captioned clips of ten seconds and three actions; ``pairs`` says which belong together."""
    clips = [
        Clip(clip_id=f"c{index}", clip_index=index, start_s=10.0 * index, end_s=10.0 * index + 10,
             num_shots=1, sharpness=0.5, exposure=0.5, motion=0.01)
        for index in range(3)
    ]  # fmt: skip
    actions = [
        Action(action_id=f"a{index}", start_s=10.0 * index + 1, end_s=10.0 * index + 6,
               text=f"Stir {index}.", asr_text="stir", confidence=0.9, source="llm")
        for index in range(3)
    ]  # fmt: skip
    captions = [Caption(clip_id=f"c{index}", text=f"Pan {index}.", model="m", frame_times_s=[0.0])
                for index in (2, 0, 1)]  # fmt: skip
    return Video(uri=uri, video_id="v", content_id="v", facts=FACTS, clips=clips, actions=actions,
                 matches=list(pairs), captions=captions)  # fmt: skip


def pair(clip: int, action: int, iou: float, start_diff_s: float = 1.0) -> Match:
    return Match(
        clip_id=f"c{clip}", action_id=f"a{action}", iou=iou, start_diff_s=start_diff_s, rule="start"
    )


def narrate(**settings: object) -> Narrate:
    stages = build_stages(Config.model_validate({"narrate": settings}))
    return next(stage for stage in stages if isinstance(stage, Narrate))


def steps(video: Video) -> list[Step]:
    assert video.narrative is not None
    return video.narrative.steps


def test_steps_follow_the_clips_whatever_the_order_of_the_matches() -> None:
    video = narrate()(video_of(pair(2, 2, 0.5), pair(0, 0, 0.5), pair(1, 1, 0.5)))
    assert steps(video) == [
        Step(step_index=index, clip_id=f"c{index}", action_id=f"a{index}", start_s=10.0 * index,
             end_s=10.0 * index + 10, action=f"Stir {index}.", caption=f"Pan {index}.")
        for index in range(3)
    ]  # fmt: skip
    assert video.narrative is not None and video.narrative.title == "How to make bread soup?"
    assert video.rejected is None


@pytest.mark.parametrize(
    ("pairs", "best"),
    [
        ([pair(0, 0, 0.3), pair(0, 1, 0.6), pair(0, 2, 0.5)], "a1"),
        ([pair(0, 0, 0.5, 2.0), pair(0, 1, 0.5, 0.5), pair(0, 2, 0.5, 1.0)], "a1"),
        ([pair(0, 2, 0.5, 1.0), pair(0, 1, 0.5, 1.0)], "a1"),
    ],
    ids=["overlap", "nearer-start", "first-id"],
)
def test_a_clip_takes_its_best_action(pairs: list[Match], best: str) -> None:
    for order in (pairs, pairs[::-1]):
        first, *rest = steps(narrate().measure(video_of(*order)))
        assert first.action_id == best
        # An action can be the best of several clips; a clip without one is a step all the same.
        assert [(step.action_id, step.action) for step in rest] == [(None, ""), (None, "")]
    shared = steps(narrate().measure(video_of(pair(0, 1, 0.4), pair(1, 1, 0.4))))
    assert [step.action_id for step in shared] == ["a1", "a1", None]


def test_dropped_clips_are_no_steps_and_steps_are_numbered_without_a_gap() -> None:
    drop = Drop(kind=Kind.CLIP, stage="watermark", reason=Reason.WATERMARK, detail="", item_id="c1")
    video = narrate()(video_of(pair(0, 0, 0.5), pair(2, 2, 0.5)).drop(drop))
    assert [(step.step_index, step.clip_id) for step in steps(video)] == [(0, "c0"), (1, "c2")]


@pytest.mark.parametrize(
    ("min_steps", "detail"), [(3, None), (4, "3 steps; narrate.min_steps is 4"), (1, None)]
)
def test_too_few_steps(min_steps: int, detail: str | None) -> None:
    rejected = narrate(min_steps=min_steps)(video_of()).rejected
    if detail is None:
        assert rejected is None
    else:
        assert rejected is not None
        assert (rejected.reason, rejected.detail) == (Reason.TOO_FEW_STEPS, detail)


@pytest.mark.parametrize(
    ("name", "own", "expected"),
    [
        ("Bread_Soup.mp4", "", "How to make bread soup?"),
        ("chicken-and--rice (2).final.mov", "", "How to make chicken and rice 2 final?"),
        ("How%20to%20boil%20an%20egg.mp4", "", "How to boil an egg"),
        ("K%C3%BCchen%20%F0%9F%8D%B2.webm", "", "How to make küchen?"),
            # Bytes that are no UTF-8 are left out.
        ("Caf%E9%20latte.mp4", "", "How to make caf latte?"),
        *((f"{name}.mp4", "", "") for name in (
            "IMG_0001", "VID-20240101", "DSC00012", "GOPR0123", "PXL_20240101_123456", "MOV_7", "video",
            "clip%20(3)", "2024-01-01%2012.30", "_",
        )),
        ("IMG_0001.mp4", "Bread soup, the easy way", "Bread soup, the easy way"),
        ("Bread_Soup.mp4", "Onion soup", "Onion soup"),
    ],
)  # fmt: skip
def test_the_title(name: str, own: str, expected: str) -> None:
    video = video_of(uri=f"file:///videos/{name}")
    assert title(replace(video, facts=replace(FACTS, title=own))) == expected
