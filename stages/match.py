"""Pair clips with the actions spoken over them.

Source: VideoAuteur, appendix E. All comparisons are strict. All pairs are kept, many to many; a
one-to-one assignment is an option. :func:`find_pairs` works on plain arrays of times, for one video or
for millions of clips on one axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from models.settings import Positive, Section, Share
from stages.base import Pool, Stage
from stages.clip import drop_clip
from stages.reasons import NoMatch, Reason
from stages.records import Action, Clip, Interval, Match, Unmatched, Video

BLOCK_PAIRS = 1 << 18
"""Candidates that are checked at once: about 20 MB."""
TIE = 1e-9
"""Share of IoU below which two assignments are equally good, and near starts decide."""


class MatchRule(Section):
    """Condition under which an action belongs to a clip.

    ``(|start - start| < max_start_diff_s and clip ends later and IoU > min_iou) or IoU > sufficient_iou``

    The paper's three readings: 0.25 and 0.5 (its formula, our default), 0.2 and 0.5 (its Algorithm 1),
    0.5 and None (its stricter alignment).

    Attributes:
        max_start_diff_s: largest distance between the two starts, in seconds.
        min_iou: overlap demanded of a pair whose starts are close, at least 0.
        sufficient_iou: overlap that is enough by itself, at least 0; None switches this path off.
    """

    max_start_diff_s: Positive = 5.0
    min_iou: Share = 0.25
    sufficient_iou: Share | None = 0.5


class MatchMeasuring(MatchRule):
    """The rule, and which of the pairs that it allows are taken: all, or the best one-to-one."""

    pairs: Literal["all", "one_to_one"] = "all"


class MatchSettings(MatchMeasuring):
    """Pairs of clips and actions. ``required`` drops clips without an action."""

    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of clips and actions, side by side; each array is ``[n]``.

    Attributes:
        clips: positions in the clips that were given.
        actions: positions in the actions that were given.
        iou: overlap over joint extent.
        start_diff_s: absolute distance of the two starts.
        by_start: the first bracket of the rule holds.
        valid: the rule holds.
    """

    clips: np.ndarray
    actions: np.ndarray
    iou: np.ndarray
    start_diff_s: np.ndarray
    by_start: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, which: np.ndarray) -> Pairs:
        """Return some of the pairs, by mask or by positions."""
        return Pairs(**{name: getattr(self, name)[which] for name in self.__slots__})


class MatchActions(Stage):
    """Pairs of clips and actions; a clip without an action is dropped if a match is required."""

    name: ClassVar[str] = "match"
    version: ClassVar[int] = 2
    pool: ClassVar[Pool] = "language"
    reads = ("kept_clips", "kept_actions")
    writes = ("matches", "unmatched")

    measuring = MatchMeasuring
    settings: MatchSettings

    def __init__(self, settings: MatchSettings) -> None:
        self.settings = settings

    def measure(self, video: Video) -> Video:
        matches, unmatched = match(
            video.kept_clips, video.kept_actions, self.settings, pairs=self.settings.pairs
        )
        return video.with_results(matches=matches, unmatched=unmatched)

    def judge(self, video: Video) -> Video:
        if not self.settings.required:
            return video
        causes = {each.item_id: each for each in video.unmatched}
        lonely = [(clip, causes[clip.clip_id]) for clip in video.kept_clips if clip.clip_id in causes]
        video = video.drop(
            *(
                drop_clip(clip, self.name, Reason.NO_MATCH, f"{found.cause}: {found.detail}")
                for clip, found in lonely
            )
        )
        if not video.kept_clips:
            video = video.reject(self.name, Reason.NO_MATCH, "no clip has an action of its own")
        return video


def match(
    clips: Sequence[Clip],
    actions: Sequence[Action],
    rule: MatchRule,
    *,
    pairs: Literal["all", "one_to_one"] = "all",
) -> tuple[list[Match], list[Unmatched]]:
    """Return the pairs of one video, by clip and then by action, and why other items have none.

    Both arguments are in order of time. Clips without an action come before actions without a clip.
    """
    clip_times, action_times = _times(clips), _times(actions)
    valid = find_pairs(*clip_times, *action_times, rule)
    kept = assigned(valid) if pairs == "one_to_one" else valid
    matches = [
        Match(
            clip_id=clips[clip].clip_id,
            action_id=actions[action].action_id,
            iou=round(iou, 6),
            start_diff_s=round(apart, 6),
            rule="start" if by_start else "iou",
        )
        for clip, action, iou, apart, by_start in zip(
            kept.clips.tolist(),
            kept.actions.tolist(),
            kept.iou.tolist(),
            kept.start_diff_s.tolist(),
            kept.by_start.tolist(),
            strict=True,
        )
    ]
    with_action, with_clip = set(kept.clips.tolist()), set(kept.actions.tolist())
    unmatched = [
        *why_unmatched([clip for n, clip in enumerate(clips) if n not in with_action], actions, rule),
        *why_unmatched([action for n, action in enumerate(actions) if n not in with_clip], clips, rule),
    ]
    return matches, unmatched


def find_pairs(
    clip_start_s: np.ndarray,
    clip_end_s: np.ndarray,
    action_start_s: np.ndarray,
    action_end_s: np.ndarray,
    rule: MatchRule,
) -> Pairs:
    """Return all pairs for which the rule holds, by clip and then by action.

    No threshold is below 0, so only what overlaps can match. Actions are sorted by start, and each clip
    looks at a window of them; windows are checked in blocks. Memory: the pairs found,
    and a block of ``BLOCK_PAIRS`` candidates, or of one clip's window where that is larger.

    Args:
        clip_start_s: ``[clips]`` in seconds, in any order; likewise ``clip_end_s``.
        action_start_s: ``[actions]`` in seconds, in any order; likewise ``action_end_s``.
    """
    order = np.argsort(action_start_s, kind="stable")
    # The window: from the first action that any earlier or itself ends after the clip's start ...
    first = np.searchsorted(np.maximum.accumulate(action_end_s[order]), clip_start_s, side="right")
    # ... to the last that starts before its end.
    past = np.searchsorted(action_start_s[order], clip_end_s, side="left")
    found: list[Pairs] = []
    for clips, within in _windows(first, np.maximum(past - first, 0)):
        actions = order[within]
        pairs = held_against(
            clip_start_s[clips], clip_end_s[clips], action_start_s[actions], action_end_s[actions], rule
        )
        found.append(replace(pairs, clips=clips, actions=actions).take(pairs.valid))
    if not found:
        return held_against((), (), (), (), rule)
    every = Pairs(**{name: np.concatenate([getattr(p, name) for p in found]) for name in Pairs.__slots__})
    return every.take(np.lexsort((every.actions, every.clips)))


def _windows(first: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield clips with each of the sorted actions in their windows, whole clips in each block."""
    upto = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = upto[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(upto, done + BLOCK_PAIRS, side="right")))
        block = counts[begin:end]
        clips = np.repeat(np.arange(begin, end), block)
        place = np.arange(len(clips)) - np.repeat(upto[begin:end] - block - done, block)
        yield clips, first[clips] + place
        begin = end


def held_against(
    clip_start_s: Sequence[float] | np.ndarray,
    clip_end_s: Sequence[float] | np.ndarray,
    action_start_s: Sequence[float] | np.ndarray,
    action_end_s: Sequence[float] | np.ndarray,
    rule: MatchRule,
) -> Pairs:
    """Check pairs against the rule, each clip against the action in the same place."""
    clip_start, clip_end = np.asarray(clip_start_s, float), np.asarray(clip_end_s, float)
    action_start, action_end = np.asarray(action_start_s, float), np.asarray(action_end_s, float)
    overlap = np.minimum(clip_end, action_end) - np.maximum(clip_start, action_start)
    extent = np.maximum(clip_end, action_end) - np.minimum(clip_start, action_start)
    iou = np.maximum(overlap, 0) / extent
    apart = np.abs(clip_start - action_start)
    by_start = (apart < rule.max_start_diff_s) & (clip_end > action_end) & (iou > rule.min_iou)
    by_iou = iou > (np.inf if rule.sufficient_iou is None else rule.sufficient_iou)
    index = np.arange(len(iou))
    return Pairs(
        clips=index,
        actions=index,
        iou=iou,
        start_diff_s=apart,
        by_start=by_start,
        valid=by_start | by_iou,
    )


def assigned(pairs: Pairs) -> Pairs:
    """Return the pairs of a one-to-one assignment with the largest sum of IoU.

    Assignments whose sums differ by less than a billionth are distinguished by nearer starts, and those
    that agree there too by the order of the items. Items are assigned group by group, a group being
    those that pairs connect. Memory: the square of the largest group.
    """
    # SciPy would be a quarter of the time in which every command starts, and the default needs none of it.
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return pairs
    nodes = int(pairs.clips.max()) + 1 + int(pairs.actions.max()) + 1
    links = (pairs.clips, pairs.actions + int(pairs.clips.max()) + 1)
    _, group = connected_components(coo_array((np.ones(len(pairs)), links), (nodes, nodes)), directed=False)
    by_group = np.argsort(group[pairs.clips], kind="stable")
    edges = np.flatnonzero(np.diff(group[pairs.clips][by_group])) + 1
    chosen = []
    for members in np.split(by_group, edges):
        clips, row = np.unique(pairs.clips[members], return_inverse=True)
        actions, column = np.unique(pairs.actions[members], return_inverse=True)
        gain, place = np.zeros((len(clips), len(actions))), np.full((len(clips), len(actions)), -1)
        apart = pairs.start_diff_s[members]
        gain[row, column] = pairs.iou[members] - TIE * apart / (1 + apart)
        place[row, column] = members
        taken = place[linear_sum_assignment(gain, maximize=True)]
        # The solver fills the matrix up with pairs that the rule does not allow.
        chosen.append(taken[taken >= 0])
    return pairs.take(np.sort(np.concatenate(chosen)))


def why_unmatched(
    items: Sequence[Clip | Action], others: Sequence[Clip | Action], rule: MatchRule
) -> Iterator[Unmatched]:
    """Yield, for each item, the first condition of the rule that its nearest partner fails.

    Nearest is the one of highest IoU, then with the smaller distance of starts, then the first; where
    the rule holds for some, and an assignment gave them to others, one of those. In order:

    - ``nothing_near``: no partner overlaps, or starts within ``max_start_diff_s``;
    - ``too_far``: it overlaps, but its start is not within ``max_start_diff_s``;
    - ``ends_early``: the clip does not end later than the action;
    - ``overlap_too_small``: the IoU is not above ``min_iou``;
    - ``taken``: the rule holds, and the partner went to another.
    """
    if others:
        block = max(1, BLOCK_PAIRS // len(others))
        for at in range(0, len(items), block):
            yield from _why_unmatched(items[at : at + block], others, rule)
        return
    for item in items:
        detail = f"the video has no {'actions' if isinstance(item, Clip) else 'clips'}"
        yield Unmatched(item_id=_id_of(item), cause=NoMatch.NOTHING_NEAR, detail=detail)


def _why_unmatched(
    items: Sequence[Clip | Action], others: Sequence[Clip | Action], rule: MatchRule
) -> Iterator[Unmatched]:
    """Yield the same for some items, each checked against all others at once."""
    own_start, own_end = (np.repeat(times_s, len(others)) for times_s in _times(items))
    start, end = (np.tile(times_s, len(items)) for times_s in _times(others))
    is_clip = isinstance(items[0], Clip)
    if is_clip:
        pairs = held_against(own_start, own_end, start, end, rule)
    else:
        pairs = held_against(start, end, own_start, own_end, rule)
    valid, iou, apart = (
        each.reshape(len(items), len(others)) for each in (pairs.valid, pairs.iou, pairs.start_diff_s)
    )
    best = np.where(valid == valid.any(axis=1, keepdims=True), iou, -1.0)
    nearest = np.where(best == best.max(axis=1, keepdims=True), apart, np.inf).argmin(axis=1)
    for row, (item, place) in enumerate(zip(items, nearest.tolist(), strict=True)):
        other = others[place]
        clip, action = (item, other) if is_clip else (other, item)
        if valid[row, place]:
            cause = NoMatch.TAKEN
        elif apart[row, place] >= rule.max_start_diff_s:
            cause = NoMatch.TOO_FAR if iou[row, place] > 0 else NoMatch.NOTHING_NEAR
        elif clip.end_s <= action.end_s:
            cause = NoMatch.ENDS_EARLY
        else:
            cause = NoMatch.OVERLAP_TOO_SMALL
        detail = (
            f"nearest {'action' if is_clip else 'clip'} starts {other.start_s - item.start_s:+.2f} s and "
            f"ends {other.end_s - item.end_s:+.2f} s from it, IoU {iou[row, place]:.3f}"
        )
        yield Unmatched(item_id=_id_of(item), cause=cause, detail=detail)


def _id_of(item: Clip | Action) -> str:
    return item.clip_id if isinstance(item, Clip) else item.action_id


def best_matches(matches: list[Match]) -> dict[str, Match]:
    """Return the best pair of each clip id: highest IoU, then smaller distance of starts, then id."""
    ranked = sorted(matches, key=lambda pair: (-pair.iou, pair.start_diff_s, pair.action_id), reverse=True)
    return {pair.clip_id: pair for pair in ranked}


def _times(items: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([item.start_s for item in items]), np.array([item.end_s for item in items])
