"""The paper's rule: three readings, strict at every boundary, many to many."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from stages import match as matching
from stages.match import MatchActions, MatchRule, assigned, find_pairs, match
from stages.reasons import Kind, NoMatch, Reason
from stages.records import Action, Clip, Drop, Match, Unmatched, Video

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
    found, _ = match(clips_of(clip), actions_of(action), rule)
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


def test_all_pairs_are_kept_by_clip_and_then_by_action() -> None:
    found, _ = match(clips_of((0, 10), (2, 9), (20, 30)), actions_of((1, 6), (2, 7), (40, 50)), FORMULA)
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
        matches, unmatched = match(clips, actions, rule)
        found = [(pair.clip_id, pair.action_id, pair.rule) for pair in matches]
        assert found == naive(clips, actions, rule)
        partnered = {item for clip, action, _ in found for item in (clip, action)}
        everything = [clip.clip_id for clip in clips] + [action.action_id for action in actions]
        assert [each.item_id for each in unmatched] == [
            item for item in everything if item not in partnered
        ]
        pairs += len(found)
    assert pairs > 500


@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_times_may_come_in_any_order_and_in_blocks_of_any_size(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "BLOCK_PAIRS", block)
    rng = np.random.default_rng(5)
    # A long action at the front lies over everything, others have no length at all.
    clips = clips_of(*[(start, start + length) for start, length in rng.integers(1, 40, (30, 2)).tolist()])
    spans = [(start, start + length) for start, length in rng.integers(0, 40, (30, 2)).tolist()]
    actions = actions_of(*spans, (0, 90), (7, 7))
    times = [
        np.array([getattr(item, edge) for item in items])
        for items in (clips, actions)
        for edge in ("start_s", "end_s")
    ]
    found = find_pairs(*times, FORMULA)
    names = [(f"c{clip}", f"a{action}") for clip, action in zip(found.clips, found.actions, strict=True)]
    assert names == [pair[:2] for pair in naive(clips, actions, FORMULA)]
    assert len(names) > 50


@pytest.mark.parametrize(
    ("clip", "action", "cause"),
    [
        # The conditions in their order, each at its boundary: 5 s exactly, ends together, IoU exactly 0.25.
        ((20, 40), (5, 6), NoMatch.NOTHING_NEAR),
        ((20, 40), (15, 16), NoMatch.NOTHING_NEAR),
        ((20, 40), (15.0625, 16), NoMatch.OVERLAP_TOO_SMALL),
        ((20, 40), (15, 28), NoMatch.TOO_FAR),
        ((20, 40), (25, 30), NoMatch.TOO_FAR),
        ((20, 40), (24, 29), NoMatch.OVERLAP_TOO_SMALL),
        ((20, 30), (18, 42), NoMatch.ENDS_EARLY),
        ((0, 8), (4, 8), NoMatch.ENDS_EARLY),
        ((0, 8), (4, 7.9375), NoMatch.OVERLAP_TOO_SMALL),
        ((0, 16), (0, 4), NoMatch.OVERLAP_TOO_SMALL),
    ],
)
def test_why_there_is_no_match(clip: Span, action: Span, cause: NoMatch) -> None:
    # With 0.5 for the pair that ends just before its clip does: its IoU is 0.49.
    rule = FORMULA if clip != (0, 8) else STRICTER
    matches, unmatched = match(clips_of(clip), actions_of(action), rule)
    assert matches == []
    assert [(each.item_id, each.cause) for each in unmatched] == [("c0", cause), ("a0", cause)]


def test_the_cause_is_that_of_the_partner_with_the_highest_overlap() -> None:
    # The first starts nearer and ends too late; the second overlaps more and starts too late.
    _, unmatched = match(clips_of((0, 20)), actions_of((1, 50), (6, 15.5)), FORMULA)
    assert unmatched[0] == Unmatched(
        item_id="c0", cause=NoMatch.TOO_FAR,
        detail="nearest action starts +6.00 s and ends -4.50 s from it, IoU 0.475",
    )  # fmt: skip
    assert [each.cause for each in unmatched[1:]] == [NoMatch.ENDS_EARLY, NoMatch.TOO_FAR]
    _, unmatched = match(clips_of((0, 20)), [], FORMULA)
    assert [(each.cause, each.detail) for each in unmatched] == [
        (NoMatch.NOTHING_NEAR, "the video has no actions")
    ]


def test_one_to_one_takes_the_largest_sum_and_says_who_came_too_late() -> None:
    # IoU: c0 with a0 0.6, with a1 0.5; c1 with a0 0.5, with a1 0.31: the best pair is in the worse sum.
    clips, actions = clips_of((0, 10), (1, 13)), actions_of((1, 7), (0, 5), (40, 50))
    everything, _ = match(clips, actions, FORMULA)
    assert [(pair.clip_id, pair.action_id) for pair in everything] == [
        ("c0", "a0"), ("c0", "a1"), ("c1", "a0"), ("c1", "a1")
    ]  # fmt: skip
    matches, unmatched = match(clips, actions, FORMULA, pairs="one_to_one")
    assert [(pair.clip_id, pair.action_id) for pair in matches] == [("c0", "a1"), ("c1", "a0")]
    assert [(each.item_id, each.cause) for each in unmatched] == [("a2", NoMatch.NOTHING_NEAR)]

    matches, unmatched = match(clips, actions[:1], FORMULA, pairs="one_to_one")
    assert [(pair.clip_id, pair.action_id) for pair in matches] == [("c0", "a0")]
    assert [(each.item_id, each.cause) for each in unmatched] == [("c1", NoMatch.TAKEN)]


def test_ties_of_an_assignment_go_to_nearer_starts_and_then_to_the_first() -> None:
    # Both actions overlap the clip by a half; the second starts nearer. Then two that are the same.
    def chosen(*spans: Span) -> list[str]:
        matches, _ = match(clips_of((0, 16)), actions_of(*spans), ALGORITHM_1, pairs="one_to_one")
        return [pair.action_id for pair in matches]

    assert chosen((4, 12), (1, 9)) == ["a1"]
    assert chosen((1, 9), (4, 12)) == ["a0"]
    assert chosen((1, 9), (1, 9)) == ["a0"]


def best_sum(iou: np.ndarray) -> float:
    """The largest sum of one-to-one pairs, by trying all."""
    if not iou.size:
        return 0.0
    rest = [
        float(iou[0, column]) + best_sum(np.delete(iou[1:], column, 1)) for column in range(iou.shape[1])
    ]
    return max([best_sum(iou[1:]), *rest])


def test_an_assignment_has_the_largest_sum_of_all() -> None:
    rng = np.random.default_rng(6)
    crowded = 0
    for _ in range(40):
        starts, lengths = rng.integers(0, 60, (2, 5)) / 4, rng.integers(8, 60, (2, 5)) / 4
        pairs = find_pairs(starts[0], starts[0] + lengths[0], starts[1], starts[1] + lengths[1], FORMULA)
        iou = np.zeros((5, 5))
        iou[pairs.clips, pairs.actions] = pairs.iou
        kept = assigned(pairs)
        assert len(set(kept.clips.tolist())) == len(set(kept.actions.tolist())) == len(kept)
        assert kept.iou.sum() == pytest.approx(best_sum(iou))
        crowded += len(kept) < len(pairs)
    assert crowded > 20


def stage(**settings: object) -> MatchActions:
    stages = build_stages(Config.model_validate({"match": settings}))
    return next(stage for stage in stages if isinstance(stage, MatchActions))


def video_of(clips: list[Clip], actions: list[Action]) -> Video:
    return Video(uri="file:///v", video_id="v", content_id="v", clips=clips, actions=actions)


def test_a_clip_without_an_action_is_dropped_and_says_why() -> None:
    video = stage()(video_of(clips_of((20, 40)), actions_of((12, 19), (26, 30), (40, 45))))
    drop, rejected = video.drops
    detail = "too_far: nearest action starts +6.00 s and ends -10.00 s from it, IoU 0.200"
    assert drop == Drop(kind=Kind.CLIP, stage="match", reason=Reason.NO_MATCH, detail=detail,
                        item_id="c0", start_s=20, end_s=40)  # fmt: skip
    assert (rejected.kind, rejected.reason) == (Kind.FILE, Reason.NO_MATCH)
    assert [each.item_id for each in video.unmatched] == ["c0", "a0", "a1", "a2"]


def test_one_to_one_is_a_matter_of_configuration() -> None:
    clips, actions = clips_of((0, 10), (1, 13)), actions_of((1, 7))
    assert len(stage()(video_of(clips, actions)).matches) == 2
    video = stage(pairs="one_to_one")(video_of(clips, actions))
    assert [(pair.clip_id, pair.action_id) for pair in video.matches] == [("c0", "a0")]
    assert [(drop.item_id, drop.detail.split(":")[0]) for drop in video.drops] == [("c1", "taken")]
    assert stage(pairs="one_to_one").measures_with() != stage().measures_with()


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
