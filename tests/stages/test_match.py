"""The paper's rule: three readings, strict at every boundary, many to many."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.chain import build_stages
from pipeline.config import Config
from stages.match import MatchActions, MatchRule, match
from stages.records import Action, Clip, Drop, Kind, Match, Reason, Video

Span = tuple[float, float]
FORMULA = MatchRule()
ALGORITHM_1 = MatchRule(min_iou=0.2)
STRICTER = MatchRule(min_iou=0.5, sufficient_iou=None)


def clips_of(*spans: Span) -> list[Clip]:
    return [
        Clip(clip_id=f"c{index}", clip_index=index, start_s=start_s, end_s=end_s,
             num_shots=1, sharpness=0.5, exposure=0.5, motion=0.01)
        for index, (start_s, end_s) in enumerate(spans)
    ]  # fmt: skip


def actions_of(*spans: Span) -> list[Action]:
    return [
        Action(action_id=f"a{index}", start_s=start_s, end_s=end_s, text="Stir.", asr_text="stir",
               confidence=1.0, source="llm")
        for index, (start_s, end_s) in enumerate(spans)
    ]  # fmt: skip


def rule_of(clip: Span, action: Span, rule: MatchRule) -> str | None:
    found = match(clips_of(clip), actions_of(action), rule)
    return found[0].rule if found else None


@pytest.mark.parametrize(
    ("clip", "action", "formula", "algorithm_1", "stricter"),
    [
        # IoU 0.3 from close starts; 0.22; 0.6.
        ((0, 10), (1, 4), "start", "start", None),
        ((0, 100), (1, 23), None, "start", None),
        ((0, 10), (1, 7), "start", "start", "start"),
        # The clip must end later: IoU 0.45 and 0.8 the other way about.
        ((0, 9), (0, 20), None, None, None),
        ((0, 8), (0, 10), "iou", "iou", None),
        ((0, 10), (0, 10), "iou", "iou", None),
        # Starts too far apart: only the overlap counts.
        ((0, 20), (6, 18), "iou", "iou", None),
        ((0, 20), (6, 15), None, None, None),
        ((0, 6), (7, 9), None, None, None),
        # Boundaries, all exact in binary: starts 5.0 s apart (IoU 0.45), IoU 0.25, 0.5, and 0.5 alone.
        ((0, 20), (5, 14), None, None, None),
        ((0, 20), (4.9375, 14), "start", "start", None),
        ((5, 20), (0, 12), None, None, None),
        ((0, 16), (0, 4), None, "start", None),
        ((0, 16), (0, 4.0625), "start", "start", None),
        ((0, 16), (0, 8), "start", "start", None),
        ((0, 16), (0, 8.0625), "start", "start", "start"),
        ((0, 20), (8, 18), None, None, None),
        ((0, 20), (8, 18.0625), "iou", "iou", None),
    ],
)
def test_three_readings(
    clip: Span, action: Span, formula: str | None, algorithm_1: str | None, stricter: str | None
) -> None:
    found = [rule_of(clip, action, rule) for rule in (FORMULA, ALGORITHM_1, STRICTER)]
    assert found == [formula, algorithm_1, stricter]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, FORMULA),
        ({"min_iou": 0.2}, ALGORITHM_1),
        ({"min_iou": 0.5, "sufficient_iou": None}, STRICTER),
    ],
)
def test_the_readings_are_a_matter_of_configuration(settings: dict[str, object], rule: MatchRule) -> None:
    assert stage(**settings).rule == rule
    assert MatchRule(max_start_diff_s=5.0, min_iou=0.25, sufficient_iou=0.5) == FORMULA


def test_all_pairs_are_kept_by_clip_and_then_by_action() -> None:
    found = match(clips_of((0, 10), (2, 9), (20, 30)), actions_of((1, 6), (2, 7), (40, 50)), FORMULA)
    assert found == [
        Match(clip_id="c0", action_id="a0", iou=0.5, start_diff_s=1.0, rule="start"),
        Match(clip_id="c0", action_id="a1", iou=0.5, start_diff_s=2.0, rule="start"),
        Match(clip_id="c1", action_id="a0", iou=0.5, start_diff_s=1.0, rule="start"),
        Match(clip_id="c1", action_id="a1", iou=0.714286, start_diff_s=0.0, rule="start"),
    ]


def naive(clips: list[Clip], actions: list[Action], rule: MatchRule) -> list[tuple[str, str, str]]:
    """The formula as it stands in the paper."""
    found = []
    for clip in clips:
        for action in actions:
            overlap = max(0, min(clip.end_s, action.end_s) - max(clip.start_s, action.start_s))
            iou = overlap / (max(clip.end_s, action.end_s) - min(clip.start_s, action.start_s))
            close = abs(clip.start_s - action.start_s) < rule.max_start_diff_s
            start = close and clip.end_s > action.end_s and iou > rule.min_iou
            if start or (rule.sufficient_iou is not None and iou > rule.sufficient_iou):
                found.append((clip.clip_id, action.action_id, "start" if start else "iou"))
    return found


@pytest.mark.parametrize("rule", [FORMULA, ALGORITHM_1, STRICTER], ids=["formula", "algorithm", "strict"])
def test_the_same_pairs_as_a_loop_over_all(rule: MatchRule) -> None:
    rng = np.random.default_rng(4)
    pairs = 0
    for _ in range(60):
        # Times on a coarse grid, so that boundaries are hit.
        starts, lengths = rng.integers(0, 160, (2, 24)) / 4, rng.integers(1, 80, (2, 24)) / 4
        spans = [
            sorted(zip(start.tolist(), (start + length).tolist(), strict=True))
            for start, length in zip(starts, lengths, strict=True)
        ]
        clips, actions = clips_of(*spans[0]), actions_of(*spans[1])
        found = [(pair.clip_id, pair.action_id, pair.rule) for pair in match(clips, actions, rule)]
        assert found == naive(clips, actions, rule)
        pairs += len(found)
    assert pairs > 500


def stage(**settings: object) -> MatchActions:
    stages = build_stages(Config.model_validate({"match": settings}))
    return next(stage for stage in stages if isinstance(stage, MatchActions))


def video_of(clips: list[Clip], actions: list[Action]) -> Video:
    return Video(uri="file:///v", video_id="v", content_id="v", clips=clips, actions=actions)


@pytest.mark.parametrize(
    ("actions", "detail"),
    [
        ([], "the video has no actions"),
        ([(2, 6), (12.5, 18)], "nearest action starts -7.50 s from the clip, IoU 0.000"),
        ([(12, 19), (26, 30), (40, 45)], "nearest action starts +6.00 s from the clip, IoU 0.200"),
    ],
    ids=["none", "before", "within"],
)
def test_a_clip_without_an_action_says_how_near_the_nearest_was(actions: list[Span], detail: str) -> None:
    video = stage()(video_of(clips_of((20, 40)), actions_of(*actions)))
    drop, rejected = video.drops
    assert drop == Drop(kind=Kind.CLIP, stage="match", reason=Reason.NO_MATCH, detail=detail,
                        item_id="c0", start_s=20, end_s=40)  # fmt: skip
    assert (rejected.kind, rejected.reason) == (Kind.FILE, Reason.NO_MATCH)


def test_only_what_is_kept_is_matched_and_only_what_is_matched_is_kept() -> None:
    clips, actions = clips_of((0, 10), (10, 20), (20, 30)), actions_of((1, 6), (11, 16), (50, 60))
    video = video_of(clips, actions).drop(
        Drop(kind=Kind.CLIP, stage="clip", reason=Reason.STILL, detail="", item_id="c0"),
    )
    video = stage()(video)
    assert [(pair.clip_id, pair.action_id) for pair in video.matches] == [("c1", "a1")]
    assert [clip.clip_id for clip in video.kept_clips] == ["c1"]
    assert [(drop.item_id, drop.reason) for drop in video.drops] == [
        ("c0", Reason.STILL), ("c2", Reason.NO_MATCH)
    ]  # fmt: skip
    # An action that belongs to no clip stays: it is a row of its own, not matched.
    assert len(video.kept_actions) == 3
    assert video.rejected is None


def test_nothing_is_dropped_where_no_match_is_demanded() -> None:
    video = stage(required=False)(video_of(clips_of((0, 10)), []))
    assert (video.matches, video.drops) == ([], [])
