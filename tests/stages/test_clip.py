"""Clips follow shots, cover the video without a gap, and are given up for one named reason each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
import pytest

from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from stages.clip import EDGE_S, ClipSettings, CutClips, divided, frames_in
from stages.reasons import Kind, Reason
from stages.records import Evidence, Interval, Sentence, Shake, Transcript, Video

Span = tuple[float, float]

SHAKY = "shake 0.430; clip.max_shake is 0.35"


def stage(**clip: object) -> CutClips:
    stages = build_stages(Config.model_validate({"clip": clip}))
    return next(stage for stage in stages if isinstance(stage, CutClips))


def video_of(
    shots: list[Interval], spoken: Sequence[Span] = (), scores: Mapping[str, float] | None = None
) -> Video:
    """A scanned and transcribed video with the same measurements throughout, packed twice a second."""
    measured = {"sharpness": 0.5, "exposure": 0.5, "motion": 0.01, **(scores or {})}
    count = int((shots[-1].end_s - shots[0].start_s) * 2 + 1)
    times = [shots[0].start_s + index / 2 for index in range(count)]
    evidence = Evidence(
        shots=shots, frame_times_s=times, num_frames=count,
        sharpness=[measured["sharpness"]] * count, exposure=[measured["exposure"]] * count,
        motion=[measured["motion"]] * count,
    )  # fmt: skip
    sentences = [Sentence(start_s=a, end_s=b, text="Stir.", confidence=1.0) for a, b in spoken]
    return Video(
        uri="file:///v.mp4", video_id="v", content_id="v" * 64, evidence=evidence,
        transcript=Transcript(language="en", sentences=sentences, model="base"),
    )  # fmt: skip


def in_a_row(*lengths: float, start_s: float = 0.0) -> list[Interval]:
    edges = [round(edge, 6) for edge in accumulate(lengths, initial=start_s)]
    return [Interval(start_s=a, end_s=b) for a, b in pairwise(edges)]


def spans(video: Video) -> list[tuple[float, float, int]]:
    return [(clip.start_s, clip.end_s, clip.num_shots) for clip in video.clips]


@pytest.mark.parametrize(
    ("lengths", "clips", "dropped"),
    [
        ([5], [(0, 5, 1)], []),
        ([4.96], [(0, 4.96, 1)], []),
        ([4.94], [(0, 4.94, 1)], [0]),
        ([30], [(0, 30, 1)], []),
        ([31], [(0, 15.5, 1), (15.5, 31, 1)], []),
        ([2, 2, 2, 14], [(0, 6, 3), (6, 20, 1)], []),
        # What remains of a run goes to the group before it.
        ([3, 3, 2, 12], [(0, 8, 3), (8, 20, 1)], []),
        # A short shot between shots that stand by themselves has nowhere to go.
        ([8, 3, 9], [(0, 8, 1), (8, 11, 1), (11, 20, 1)], [1]),
        # Nor is it joined where too long a clip would come of it.
        ([4, 28, 4, 4], [(0, 4, 1), (4, 32, 1), (32, 40, 2)], [0]),
        ([7, 2, 2, 7], [(0, 7, 1), (7, 11, 2), (11, 18, 1)], [1]),
        ([4, 40], [(0, 4, 1), (4, 24, 1), (24, 44, 1)], [0]),
    ],
)
def test_shots_become_clips(
    lengths: list[float], clips: list[tuple[float, float, int]], dropped: list[int]
) -> None:
    video = stage()(video_of(in_a_row(*lengths)))
    assert spans(video) == clips
    found = [(drop.item_id, drop.reason) for drop in video.drops if drop.kind is Kind.CLIP]
    assert found == [(f"v-c{index:04d}", Reason.TOO_SHORT) for index in dropped]


def test_short_shots_can_be_dropped_instead() -> None:
    video = stage(short_shots="drop")(video_of(in_a_row(2, 2, 2, 14)))
    assert spans(video) == [(0, 2, 1), (2, 4, 1), (4, 6, 1), (6, 20, 1)]
    assert [(drop.reason, drop.detail, drop.start_s, drop.end_s) for drop in video.drops] == [
        (Reason.TOO_SHORT, "2.00 s; clip.min_s is 5", start, start + 2) for start in (0, 2, 4)
    ]


@pytest.mark.parametrize(
    ("spoken", "edges"),
    [
        ([], [70 / 3, 140 / 3]),
        # Pauses at 24 and 45 s, each within a quarter of a part of the even edge.
        ([(1, 23), (25, 44), (46, 60)], [24, 45]),
        # Of two near pauses the nearer one; a pause far from any even edge is none of ours.
        ([(1, 22), (22.4, 24), (26, 30), (32, 60)], [22.2, 140 / 3]),
        ([(1, 10), (12, 35), (35.5, 60)], [70 / 3, 140 / 3]),
        # Sentences that overlap leave no pause.
        ([(1, 24), (23, 60)], [70 / 3, 140 / 3]),
    ],
    ids=["silent", "near", "nearer", "far", "overlapping"],
)
def test_a_long_shot_is_divided_at_pauses(spoken: list[Span], edges: list[float]) -> None:
    video = stage().measure(video_of(in_a_row(70), spoken))
    assert [clip.end_s for clip in video.clips] == pytest.approx([*edges, 70])


def test_without_a_pause_a_long_shot_is_divided_where_little_moves() -> None:
    video = video_of(in_a_row(50))
    assert video.evidence is not None
    # At the grid of the packed frames: 28.5 s, and a calmer moment too far from the middle.
    video.evidence.motion[57] = 0.001
    video.evidence.motion[80] = 0.0
    assert [clip.end_s for clip in stage().measure(video).clips] == [28.5, 50]


def test_divided_parts_stay_in_bounds_wherever_the_pauses_are() -> None:
    rng = np.random.default_rng(2)
    moved = 0
    for _ in range(300):
        min_s = float(rng.uniform(1, 6))
        # Twice the least length is the tightest that the configuration allows.
        max_s = min_s * float(rng.choice([2.0, 2.2, 6.0]))
        settings = ClipSettings(min_s=min_s, max_s=max_s, short_shots="join", guard_s=0.0)
        start_s = float(rng.uniform(0, 50))
        shot = Interval(start_s=start_s, end_s=start_s + max_s * float(rng.uniform(0.5, 4.5)))
        pauses = sorted(rng.uniform(shot.start_s - 5, shot.end_s + 5, int(rng.integers(0, 40))).tolist())
        moments = [(time_s, float(rng.random())) for time_s in np.arange(0, shot.end_s, 0.5).tolist()]
        parts = divided(shot, settings, pauses, moments)
        assert (parts[0].start_s, parts[-1].end_s) == (shot.start_s, shot.end_s)
        assert all(before.end_s == after.start_s for before, after in pairwise(parts))
        moved += sum(part.end_s in pauses for part in parts)
        if len(parts) > 1:
            assert all(settings.min_s - 1e-6 <= part.duration_s <= settings.max_s + 1e-6 for part in parts)
            assert len(parts) == int(np.ceil(shot.duration_s / settings.max_s)), "as few as fit"
    assert moved > 100


@pytest.mark.parametrize("short_shots", ["join", "drop"])
@pytest.mark.parametrize("guard_s", [0.0, 0.25])
def test_clips_tile_the_video(short_shots: str, guard_s: float) -> None:
    """Every second lies in exactly one candidate clip, and each is kept or dropped by its length."""
    rng = np.random.default_rng(3)
    tested = stage(short_shots=short_shots, guard_s=guard_s)
    for _ in range(100):
        lengths = rng.choice([0.6, 2.0, 4.9, 5.0, 12.0, 30.0, 47.0, 95.0], int(rng.integers(1, 25)))
        lengths += rng.uniform(0, 1, len(lengths)) * (rng.random(len(lengths)) < 0.5)
        shots = in_a_row(*lengths.tolist(), start_s=float(rng.choice([0.0, 0.046])))
        talk = np.sort(rng.uniform(shots[0].start_s, shots[-1].end_s, 2 * int(rng.integers(0, 20))))
        video = tested(video_of(shots, [(a, b) for a, b in talk.reshape(-1, 2).tolist()]))
        clips = video.clips
        guards = [min(guard_s, clip.duration_s / 2) for clip in clips]
        wholes = [
            (clip.start_s - guard, clip.end_s + guard) for clip, guard in zip(clips, guards, strict=True)
        ]
        # Without a guard exactly; with one, each edge is rounded once more.
        edges = [*(start_s for start_s, _ in wholes), shots[-1].end_s]
        ends = [shots[0].start_s, *(end_s for _, end_s in wholes)]
        assert edges == (pytest.approx(ends, abs=3e-6) if guard_s else ends)
        assert [clip.clip_index for clip in clips] == list(range(len(clips)))

        dropped = {drop.item_id: drop.reason for drop in video.drops if drop.kind is Kind.CLIP}
        for clip, (start_s, end_s) in zip(clips, wholes, strict=True):
            assert end_s - start_s <= 30 + 1e-5
            short = end_s - start_s < 5 - EDGE_S
            assert dropped.get(clip.clip_id) == (Reason.TOO_SHORT if short else None)
            if clip.num_shots > 1:
                assert short_shots == "join"
                # Joined clips keep to whole shots.
                assert min(abs(shot.start_s - start_s) for shot in shots) < 3e-6
                assert min(abs(shot.end_s - end_s) for shot in shots) < 3e-6


@pytest.mark.parametrize(
    ("length", "guard_s", "clip", "detail"),
    [
        (5.0, 0.5, (0.5, 4.5), None),
        (4.9, 0.5, (0.5, 4.4), "4.90 s; clip.min_s is 5"),
        # So short a shot that the guard is cut down: it must not count as longer than it was.
        (0.8, 2.4, (0.2, 0.6), "0.80 s; clip.min_s is 5"),
        (4.0, 2.0, (1.0, 3.0), "4.00 s; clip.min_s is 5"),
    ],
)
def test_the_guard_is_trimmed_after_the_bounds_are_counted(
    length: float, guard_s: float, clip: Span, detail: str | None
) -> None:
    video = stage(guard_s=guard_s)(video_of(in_a_row(length, 20)))
    assert (video.clips[0].start_s, video.clips[0].end_s) == pytest.approx(clip)
    told = [drop.detail for drop in video.drops if drop.item_id == "v-c0000"]
    assert told == ([] if detail is None else [detail])


@pytest.mark.parametrize(
    ("scores", "reason", "detail"),
    [
        ({"exposure": 0.049}, Reason.TOO_DARK, "exposure 0.049; clip.min_exposure is 0.05"),
        ({"exposure": 0.971}, Reason.TOO_BRIGHT, "exposure 0.971; clip.max_exposure is 0.97"),
        ({"sharpness": 0.09}, Reason.BLURRED, "sharpness 0.090; clip.min_sharpness is 0.1"),
        ({"motion": 0.0}, Reason.STILL, "motion 0.000; clip.min_motion is 0.0005"),
        # Black is dark first of all.
        ({"exposure": 0.0, "sharpness": 0.0, "motion": 0.0}, Reason.TOO_DARK, "exposure 0.000"),
    ],
)
def test_each_measurement_has_its_reason(scores: dict[str, float], reason: Reason, detail: str) -> None:
    video = stage()(video_of(in_a_row(6), scores=scores))
    drop, rejected = video.drops
    assert (drop.kind, drop.stage, drop.reason) == (Kind.CLIP, "clip", reason)
    assert drop.detail.startswith(detail)
    assert (drop.item_id, drop.start_s, drop.end_s) == ("v-c0000", 0.0, 6.0)
    assert rejected == video.rejected
    assert (rejected.reason, rejected.detail) == (Reason.NO_CLIPS, "none of 1 is fit")


@pytest.mark.parametrize(
    "scores",
    [{"exposure": 0.05}, {"exposure": 0.97}, {"sharpness": 0.1}, {"motion": 0.0005}],
)
def test_a_measurement_on_its_bound_is_kept(scores: dict[str, float]) -> None:
    assert stage()(video_of(in_a_row(6), scores=scores)).drops == []


def test_an_hour_of_black_is_one_rejected_video_with_every_clip_accounted_for() -> None:
    black = {"exposure": 0.0, "sharpness": 0.0, "motion": 0.0}
    video = stage()(video_of(in_a_row(3600), scores=black))
    assert len(video.clips) == 120
    assert {drop.reason for drop in video.drops if drop.kind is Kind.CLIP} == {Reason.TOO_DARK}
    assert video.kept_clips == []
    assert video.rejected is not None and video.rejected.reason is Reason.NO_CLIPS


def test_the_change_from_the_shot_before_is_no_motion() -> None:
    video = video_of(in_a_row(6, 6), scores={"motion": 0.0})
    assert video.evidence is not None
    video.evidence.motion[12] = 0.9
    assert [drop.reason for drop in stage()(video).drops[:-1]] == [Reason.STILL, Reason.STILL]
    video.evidence.motion[13] = 0.9
    assert [drop.item_id for drop in stage()(video).drops] == ["v-c0000"]


def test_a_frame_belongs_to_the_clip_that_starts_with_it() -> None:
    evidence = video_of(in_a_row(6, 6)).evidence
    assert evidence is not None
    first, second = (evidence.frame_times_s[frames_in(evidence, shot)] for shot in evidence.shots)
    assert (first[0], first[-1], second[0]) == (0.0, 5.5, 6.0)


@pytest.mark.parametrize(
    ("rules", "reason", "detail"),
    [
        ({}, None, ""),
        ({"max_black_s": 2}, Reason.TOO_DARK, "black for 2.50 s from 2.00 s; clip.max_black_s is 2"),
        ({"max_black_s": 2.5}, None, ""),
        ({"max_frozen_s": 1.5}, Reason.STILL, "frozen for 3.00 s from 5.50 s; clip.max_frozen_s is 1.5"),
        ({"max_frozen_s": 3}, None, ""),
        (
            {"max_still_share": 0.3},
            Reason.STILL,
            "nothing moves in 0.32 of it; clip.max_still_share is 0.3",
        ),
        ({"max_still_share": 0.4}, None, ""),
    ],
)
def test_black_and_frozen_stretches(rules: dict[str, float], reason: Reason | None, detail: str) -> None:
    video = video_of(in_a_row(10))
    assert video.evidence is not None
    video.evidence.exposure[4:9] = [0.01] * 5
    video.evidence.motion[12:18] = [0.0] * 6
    drops = [drop for drop in stage(**rules)(video).drops if drop.kind is Kind.CLIP]
    assert [(drop.reason, drop.detail) for drop in drops] == ([] if reason is None else [(reason, detail)])


@pytest.mark.parametrize(
    ("rules", "dropped"),
    [({}, []), ({"max_shake": 0.45}, []), ({"max_shake": 0.35}, [(Reason.SHAKY, SHAKY)])],
)
def test_the_median_shake_inside_a_clip_is_bounded(
    rules: dict[str, float], dropped: list[tuple[Reason, str]]
) -> None:
    video = video_of(in_a_row(10, 10))
    assert video.evidence is not None
    # The burst at 10 s is cut in two by the boundary; those behind it are still.
    shakes = (0.1, 0.36, 0.5, 2.0, 0.2, 3.0, 0, 0, 0, 0)
    video.evidence.shakes.extend(
        Shake(start_s=2.0 * n - 0.1, end_s=2.0 * n + 0.4, percent=percent)
        for n, percent in enumerate(shakes)
    )
    drops = [drop for drop in stage(**rules)(video).drops if drop.kind is Kind.CLIP]
    assert [(drop.reason, drop.detail) for drop in drops] == dropped
    assert all(drop.item_id == "v-c0000" for drop in drops)
