"""Pair clips with the actions spoken over them.

Source: VideoAuteur, appendix E. All comparisons are strict and all pairs are kept, many to many.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np

from stages.base import Pool, Stage
from stages.clip import drop_clip
from stages.records import Action, Clip, Match, Reason, Video


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRule:
    """When does an action belong to a clip?

    ``(|start - start| < max_start_diff_s and clip ends later and IoU > min_iou) or IoU > sufficient_iou``

    The paper's three readings: 0.25 and 0.5 (its formula, our default), 0.2 and 0.5 (its Algorithm 1),
    0.5 and None (its stricter alignment).

    Attributes:
        max_start_diff_s: largest distance between the two starts, in seconds.
        min_iou: overlap demanded of a pair whose starts are close.
        sufficient_iou: overlap that is enough by itself; None switches this path off.
    """

    max_start_diff_s: float = 5.0
    min_iou: float = 0.25
    sufficient_iou: float | None = 0.5


class MatchActions(Stage):
    """Finds the pairs; a clip that no action belongs to is dropped if a match is required."""

    name: ClassVar[str] = "match"
    pool: ClassVar[Pool] = "language"
    reads = ("kept_clips", "kept_actions")
    writes = ("matches",)

    def __init__(self, rule: MatchRule, *, required: bool) -> None:
        self.rule = rule
        self.required = required

    def measures_with(self) -> object:
        return asdict(self.rule)

    def measure(self, video: Video) -> Video:
        return replace(video, matches=match(video.kept_clips, video.kept_actions, self.rule))

    def judge(self, video: Video) -> Video:
        if not self.required:
            return video
        matched = {pair.clip_id for pair in video.matches}
        video = video.drop(
            *(
                drop_clip(clip, self.name, Reason.NO_MATCH, _nearest(clip, video.kept_actions))
                for clip in video.kept_clips
                if clip.clip_id not in matched
            )
        )
        if not video.kept_clips:
            video = video.reject(self.name, Reason.NO_MATCH, "no clip has an action of its own")
        return video


def match(clips: list[Clip], actions: list[Action], rule: MatchRule) -> list[Match]:
    """All pairs of one video for which the rule holds, by clip and then by action.

    Both arguments are in order of time. Memory: a few arrays of ``len(clips) * len(actions)``.
    """
    if not clips or not actions:
        return []
    clip_start, clip_end = _times(clips)
    action_start, action_end = _times(actions)
    overlap = np.minimum.outer(clip_end, action_end) - np.maximum.outer(clip_start, action_start)
    extent = np.maximum.outer(clip_end, action_end) - np.minimum.outer(clip_start, action_start)
    iou = np.maximum(overlap, 0) / extent
    apart = np.abs(np.subtract.outer(clip_start, action_start))
    by_start = (
        (apart < rule.max_start_diff_s) & np.greater.outer(clip_end, action_end) & (iou > rule.min_iou)
    )
    by_iou = iou > (np.inf if rule.sufficient_iou is None else rule.sufficient_iou)
    return [
        Match(
            clip_id=clips[c].clip_id,
            action_id=actions[a].action_id,
            iou=round(float(iou[c, a]), 6),
            start_diff_s=round(float(apart[c, a]), 6),
            rule="start" if by_start[c, a] else "iou",
        )
        for c, a in np.argwhere(by_start | by_iou)
    ]


def best_matches(matches: list[Match]) -> dict[str, Match]:
    """For each clip id its best pair: highest IoU, then the smaller distance of starts, then the id."""
    ranked = sorted(matches, key=lambda pair: (-pair.iou, pair.start_diff_s, pair.action_id), reverse=True)
    return {pair.clip_id: pair for pair in ranked}


def _times(items: list[Clip] | list[Action]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([item.start_s for item in items]), np.array([item.end_s for item in items])


def _nearest(clip: Clip, actions: list[Action]) -> str:
    """Why a clip has no match, in terms of the action that comes nearest."""
    if not actions:
        return "the video has no actions"
    best = max(actions, key=lambda action: (clip.iou(action), -abs(clip.start_s - action.start_s)))
    return (
        f"nearest action starts {best.start_s - clip.start_s:+.2f} s from the clip, "
        f"IoU {clip.iou(best):.3f}"
    )
