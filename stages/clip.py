"""Cut a video into clips.

Clips follow shots. A long shot is divided, at a pause in the speech where there is one near, otherwise
where little moves; short shots that follow each other are joined. Together the candidate clips cover the
whole video, so that every second is either kept or dropped with a reason.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from statistics import fmean, median
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from models.settings import NonNegative, Positive, Section, Share
from stages.base import Pool, Stage
from stages.reasons import Kind, Reason
from stages.records import Clip, Drop, Evidence, Interval, Video

EDGE_S = 0.05
"""Seconds by which a clip may be shorter than ``clip.min_s``: a boundary is exact to about one picture, and
less exact where pictures beside it were dropped."""
CALM = 0.5
"""Share of the motion halfway below which a long shot is rather divided elsewhere."""


BLACK = 0.03
"""Exposure below which a packed frame is black."""


class ClipMeasuring(Section):
    """Settings that turn shots into clips.

    Attributes:
        min_s: a clip shorter than this is dropped; counted before the guard is trimmed.
        max_s: a shot longer than this is divided.
        short_shots: ``join`` puts neighbouring short shots together until they are long enough;
            ``drop`` gives them up.
        guard_s: trimmed off either end of each clip, against frames of a neighbour.
    """

    min_s: Positive = 5.0
    max_s: Positive = 30.0
    short_shots: Literal["join", "drop"] = "join"
    guard_s: NonNegative = 0.0

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        if self.max_s < 2 * self.min_s:
            raise ValueError("max_s must be at least twice min_s, or long shots cannot be divided")
        if self.guard_s * 2 >= self.min_s:
            raise ValueError("guard_s must be less than half of min_s")
        return self


class ClipSettings(ClipMeasuring):
    """Shots into clips, and bounds on a clip's measurements; see :class:`stages.records.Evidence`.

    Attributes:
        max_black_s: longest stretch of black frames in a clip; null for any.
        max_frozen_s: longest stretch in which nothing moves; null for any.
        max_still_share: share of a clip in which nothing moves: slide shows and screen recordings.
        max_shake: shake of the camera, as :class:`stages.records.Shake` counts it; null for any. It is
            measured only where there is a bound.
    """

    min_sharpness: Share = 0.1
    min_exposure: Share = 0.05
    max_exposure: Share = 0.97
    min_motion: Share = 0.0005
    max_black_s: NonNegative | None = None
    max_frozen_s: NonNegative | None = None
    max_still_share: Share = 1.0
    max_shake: NonNegative | None = None


class CutClips(Stage):
    """Makes clips from shots and gives up those that are too short, dark, bright, blurred or still."""

    name: ClassVar[str] = "clip"
    version: ClassVar[int] = 5
    pool: ClassVar[Pool] = "media"
    reads = ("video_id", "evidence", "transcript")
    writes = ("clips",)

    measuring = ClipMeasuring
    settings: ClipSettings

    def __init__(self, settings: ClipSettings) -> None:
        self.settings = settings

    def measure(self, video: Video) -> Video:
        assert video.evidence is not None and video.transcript is not None
        spoken = video.transcript.sentences
        pauses = [
            (before.end_s + after.start_s) / 2
            for before, after in itertools.pairwise(spoken)
            if after.start_s >= before.end_s
        ]
        moments = list(zip(video.evidence.frame_times_s, video.evidence.motion, strict=True))
        parts = [
            (part, num_shots)
            for run in between([*video.evidence.gaps, *video.evidence.transitions], video.evidence.shots)
            for shot, num_shots in joined(run, self.settings)
            for part in divided(shot, self.settings, pauses, moments)
        ]
        clips = [self._clip(video, index, part, num_shots) for index, (part, num_shots) in enumerate(parts)]
        return video.with_results(clips=clips)

    def _clip(self, video: Video, index: int, part: Interval, num_shots: int) -> Clip:
        assert video.evidence is not None
        evidence = video.evidence
        inside = frames_in(evidence, part)
        # Guarding a clip must not turn it inside out.
        guard_s = min(self.settings.guard_s, part.duration_s / 4)
        return Clip(
            clip_id=f"{video.video_id}-c{index:04d}",
            clip_index=index,
            start_s=round(part.start_s + guard_s, 6),
            end_s=round(part.end_s - guard_s, 6),
            num_shots=num_shots,
            sharpness=round(median(evidence.sharpness[inside] or [0.0]), 4),
            exposure=round(median(evidence.exposure[inside] or [0.0]), 4),
            # The first frame differs from the shot before, not by motion.
            motion=round(fmean(evidence.motion[inside][1:] or [0.0]), 5),
        )

    def judge(self, video: Video) -> Video:
        assert video.evidence is not None
        drops = [self._drop(clip, video.evidence) for clip in video.kept_clips]
        video = video.drop(*(drop for drop in drops if drop is not None))
        if not video.kept_clips:
            video = video.reject(self.name, Reason.NO_CLIPS, f"none of {len(video.clips)} is fit")
        return video

    def _drop(self, clip: Clip, evidence: Evidence) -> Drop | None:
        rules = self.settings
        if any(clip.overlap_s(gap) > 0 for gap in evidence.gaps):
            return drop_clip(clip, self.name, Reason.DAMAGED, "pictures are lost or smeared here")
        if any(clip.overlap_s(transition) > 0 for transition in evidence.transitions):
            return drop_clip(clip, self.name, Reason.TRANSITION, "a dissolve or a fade between two shots")
        # As long as it was before the guard, which takes at most half of it.
        whole_s = clip.duration_s + min(2 * self.settings.guard_s, clip.duration_s)
        if whole_s < self.settings.min_s - EDGE_S:
            reason, detail = (
                Reason.TOO_SHORT,
                f"{whole_s:.2f} s; clip.min_s is {self.settings.min_s:g}",
            )
        elif clip.exposure < rules.min_exposure:
            reason, detail = Reason.TOO_DARK, _against(clip.exposure, "exposure", "min", rules)
        elif clip.exposure > rules.max_exposure:
            reason, detail = Reason.TOO_BRIGHT, _against(clip.exposure, "exposure", "max", rules)
        elif clip.sharpness < rules.min_sharpness:
            reason, detail = Reason.BLURRED, _against(clip.sharpness, "sharpness", "min", rules)
        elif clip.motion < rules.min_motion:
            reason, detail = Reason.STILL, _against(clip.motion, "motion", "min", rules)
        elif (found := stretches_of(clip, evidence, rules)) is not None:
            reason, detail = found
        elif rules.max_shake is not None and (shake := shake_of(clip, evidence)) > rules.max_shake:
            reason, detail = Reason.SHAKY, _against(shake, "shake", "max", rules)
        else:
            return None
        return drop_clip(clip, self.name, reason, detail)


def stretches_of(clip: Clip, evidence: Evidence, rules: ClipSettings) -> tuple[Reason, str] | None:
    """Return why a clip has too long a stretch that is black or in which nothing moves; None if it has not.

    A packed frame stands for the time until the next one.
    """
    if rules.max_black_s is None and rules.max_frozen_s is None and rules.max_still_share == 1:
        return None
    inside = frames_in(evidence, clip)
    times_s = [*evidence.frame_times_s[inside], clip.end_s]
    black = [exposure < BLACK for exposure in evidence.exposure[inside]]
    # The motion of a frame is that since the one before.
    still = [motion < rules.min_motion for motion in evidence.motion[inside][1:]]
    for name, most_s, reason, marks in (
        ("black", rules.max_black_s, Reason.TOO_DARK, black),
        ("frozen", rules.max_frozen_s, Reason.STILL, still),
    ):
        start_s, lasts_s = longest(times_s, marks)
        if most_s is not None and lasts_s > most_s + EDGE_S:
            return (
                reason,
                f"{name} for {lasts_s:.2f} s from {start_s:.2f} s; clip.max_{name}_s is {most_s:g}",
            )
    share = sum(still) / max(1, len(still))
    if share > rules.max_still_share:
        detail = f"nothing moves in {share:.2f} of it; clip.max_still_share is {rules.max_still_share:g}"
        return Reason.STILL, detail
    return None


def shake_of(clip: Interval, evidence: Evidence) -> float:
    """Return the median shake of the bursts in a clip, in percent of the long side; 0 if there is none."""
    inside = [
        shake.percent
        for shake in evidence.shakes
        if clip.start_s <= shake.start_s and shake.end_s < clip.end_s
    ]
    return median(inside or [0.0])


def longest(times_s: Sequence[float], marks: Sequence[bool]) -> tuple[float, float]:
    """Return start and length of the longest run of marked steps; step ``i`` begins at ``times_s[i]``."""
    best, since = (0.0, 0.0), None
    for index, marked in enumerate([*marks, False]):
        if marked and since is None:
            since = times_s[index]
        elif not marked and since is not None:
            best = max(best, (since, times_s[index] - since), key=lambda found: found[1])
            since = None
    return best


def drop_clip(clip: Clip, stage: str, reason: Reason, detail: str) -> Drop:
    """The record of a clip that a stage gives up."""
    return Drop(
        kind=Kind.CLIP, stage=stage, reason=reason, detail=detail,
        item_id=clip.clip_id, start_s=clip.start_s, end_s=clip.end_s,
    )  # fmt: skip


def frames_in(evidence: Evidence, part: Interval) -> slice:
    """Return the packed frames that are shown inside an interval."""
    times = evidence.frame_times_s
    return slice(bisect_left(times, part.start_s), bisect_left(times, part.end_s))


def between(gaps: list[Interval], shots: list[Interval]) -> list[list[Interval]]:
    """Split shots at stretches that no clip may touch: damage and gradual transitions.

    Returns:
        runs of shots that may be joined, in order of time; each gap is a run of its own.
    """
    runs: list[list[Interval]] = [[]]
    edges = sorted({edge for gap in gaps for edge in (gap.start_s, gap.end_s)})
    for shot in shots:
        cuts = [shot.start_s, *(edge for edge in edges if shot.start_s < edge < shot.end_s), shot.end_s]
        for start_s, end_s in itertools.pairwise(cuts):
            if start_s in edges and runs[-1]:
                runs.append([])
            runs[-1].append(Interval(start_s=start_s, end_s=end_s))
    return runs


def joined(shots: list[Interval], settings: ClipMeasuring) -> list[tuple[Interval, int]]:
    """Put runs of short shots together.

    A group is closed as soon as it is long enough, and is never joined to a shot that can stand by
    itself: clips of one shot stay clips of one shot. What remains of a run is joined to the group
    before it, if the two fit together.

    Returns:
        (interval, number of shots in it), covering what the shots cover.
    """
    groups: list[list[Interval]] = []
    for shot in shots:
        group = groups[-1] if groups else None
        short = shot.duration_s < settings.min_s - EDGE_S
        if (
            settings.short_shots == "join"
            and short
            and group is not None
            and _span(group).duration_s < settings.min_s - EDGE_S
            and _span([*group, shot]).duration_s <= settings.max_s
        ):
            group.append(shot)
        else:
            groups.append([shot])
    result: list[list[Interval]] = []
    for group in groups:
        if (
            settings.short_shots == "join"
            and result
            and len(result[-1]) > 1
            and _span(group).duration_s < settings.min_s - EDGE_S
            and _span([*result[-1], *group]).duration_s <= settings.max_s
        ):
            result[-1] = [*result[-1], *group]
        else:
            result.append(group)
    return [(_span(group), len(group)) for group in result]


def divided(
    shot: Interval, settings: ClipMeasuring, pauses: list[float], moments: Sequence[tuple[float, float]]
) -> list[Interval]:
    """Split a long shot into as few equal parts as fit, moved to pauses or calm moments near their edges.

    Args:
        pauses: in the speech, times in seconds.
        moments: (time, motion) of the packed frames.
    """
    count = math.ceil(shot.duration_s / settings.max_s - 1e-9)
    if count <= 1:
        return [shot]
    step = shot.duration_s / count
    edges = [shot.start_s]
    for number in range(1, count):
        even = shot.start_s + number * step
        rest = count - number
        low = max(edges[-1] + settings.min_s, shot.end_s - rest * settings.max_s)
        high = min(edges[-1] + settings.max_s, shot.end_s - rest * settings.min_s)
        even = min(max(even, low), high)
        low, high = max(low, even - step / 4), min(high, even + step / 4)
        near = [pause for pause in pauses if low <= pause <= high]
        edges.append(
            min(near, key=lambda pause: abs(pause - even))
            if near
            else calmest([moment for moment in moments if low <= moment[0] <= high], even)
        )
    edges.append(shot.end_s)
    return [Interval(start_s=a, end_s=b) for a, b in itertools.pairwise(edges)]


def calmest(moments: Sequence[tuple[float, float]], even: float) -> float:
    """Return the moment of least motion, or ``even`` where it is hardly calmer there."""
    if not moments:
        return even
    _, usual = min(moments, key=lambda moment: abs(moment[0] - even))
    time_s, motion = min(moments, key=lambda moment: (moment[1], abs(moment[0] - even)))
    return time_s if motion < CALM * usual else even


def _span(shots: list[Interval]) -> Interval:
    return Interval(start_s=shots[0].start_s, end_s=shots[-1].end_s)


def _against(value: float, score: str, side: str, rules: ClipSettings) -> str:
    name = f"{side}_{score}"
    return f"{score} {value:.3f}; clip.{name} is {getattr(rules, name):g}"
