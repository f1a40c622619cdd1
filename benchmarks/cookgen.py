"""Hold the matching and the statistics against CookGen's own material: the YouCook2 annotations.

``python -m benchmarks.cookgen ANNOTATIONS`` reads the original annotation file and treats each annotated
segment as a clip and its sentence as an action, as CookGen does for its YouCook2 half. It prints the
statistics beside the published ones, matches the segments with themselves and with random cuts, and
matches made-up pairs against time: all videos on one axis, one video after the other, and in a plain
loop over pandas rows.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from stages.match import MatchRule, assigned, find_pairs

FORMULA = MatchRule()
ALGORITHM_1 = MatchRule(min_iou=0.2)
STRICTER = MatchRule(min_iou=0.5, sufficient_iou=None)
PUBLISHED = {
    "train_videos": 1333, "train_segments": 10337, "train_mean_s": 19.62, "train_per_video": 7.75,
    "val_videos": 457, "val_segments": 3492, "val_mean_s": 19.64, "val_per_video": 7.64,
}  # fmt: skip
CUT_S = (5.0, 30.0)
"""Shortest and longest random cut: the bounds of CookGen's clips."""
ITEMS = 8
"""Clips, and actions, of a made-up video; CookGen has 6 to 8."""
TICKS = 64
"""Made-up times lie on a grid of 1/64 s, so that moving a video along the axis changes no difference."""
SPACING_S = 1024.0
"""From one made-up video to the next on the axis; none is as long."""


def main() -> None:
    """Print the tables, then one JSON object."""
    parser = parser_of("cookgen", __doc__)
    parser.add_argument("annotations", type=Path, help="youcookii_annotations_trainval.json")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="made-up pairs (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of cuts and pairs (%(default)s)")
    arguments = parser.parse_args()
    videos, segments = read(arguments.annotations)
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pandas", "scipy"))
    print(f"{machine()}, {versions}\n")

    figures = statistics(videos, segments)
    names = ("videos", "segments", "mean_s", "per_video", "words_per_action", "words_per_video")
    rows = [
        [name, *(each for part in ("train", "val") for each in _beside(f"{part}_{name}", figures))]
        for name in names
    ]
    print(markdown(["figure", "train", "published", "val", "published"], rows), "\n")

    found = match_counts(segments, segments, "identity")
    found |= match_counts(random_cuts(videos, arguments.seed), segments, "cuts")
    head = ["clips", "rule", "pairs", "clips matched", "actions matched", "pairs one to one"]
    print(markdown(head, [[*name, *counts.values()] for name, counts in found.items()]), "\n")
    figures |= {
        f"{clips}_{rule}_{name}": count
        for (clips, rule), counts in found.items()
        for name, count in counts.items()
    }
    figures["identity_matched"] = identity_matched(segments)

    timed = speed(arguments.pairs, arguments.repeats, arguments.seed)
    rows = [
        [run.name, f"{run.seconds:.2f}", f"{run.pairs_per_s:,.0f}", f"{run.peak_mb:.1f}"] for run in timed
    ]
    print(markdown(["matching", "seconds", "pairs/s", "peak MB"], rows), "\n")
    together, one_by_one, loop = timed
    figures |= {
        "pairs": arguments.pairs // ITEMS**2 * ITEMS**2,
        "pairs_matched": len(together.found),
        "same_results": together.found == one_by_one.found == loop.found,
        "pairs_per_s": round(together.pairs_per_s),
        "pairs_per_s_by_video": round(one_by_one.pairs_per_s),
        "pairs_per_s_loop": round(loop.pairs_per_s),
        "times_loop": round(loop.seconds / together.seconds, 1),
        "times_loop_by_video": round(loop.seconds / one_by_one.seconds, 1),
        "peak_mb": round(together.peak_mb, 1),
    }
    print(json.dumps(figures))


def read(annotations: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The videos (``video_id``, ``part``, ``duration_s``) and their segments, in order of the file.

    Segments are (``video_id``, ``start_s``, ``end_s``, ``sentence``).
    """
    database = json.loads(annotations.read_text(encoding="utf-8"))["database"]
    parts = {"training": "train", "validation": "val"}
    videos = [
        (video_id, parts[video["subset"]], float(video["duration"])) for video_id, video in database.items()
    ]
    segments = [
        (video_id, *map(float, step["segment"]), step["sentence"])
        for video_id, video in database.items()
        for step in video["annotations"]
    ]
    return (
        pd.DataFrame(videos, columns=["video_id", "part", "duration_s"]),
        pd.DataFrame(segments, columns=["video_id", "start_s", "end_s", "sentence"]),
    )


def statistics(videos: pd.DataFrame, segments: pd.DataFrame) -> dict[str, Any]:
    """The figures that CookGen publishes of its YouCook2 half; means with two decimals, as there."""
    whole = segments.merge(videos, on="video_id")
    figures: dict[str, Any] = {}
    for part in ("train", "val"):
        mine = whole[whole["part"] == part]
        count = int((videos["part"] == part).sum())
        words = sum(len(sentence.split()) for sentence in mine["sentence"])
        figures |= {
            f"{part}_videos": count,
            f"{part}_segments": len(mine),
            f"{part}_mean_s": round(fmean(mine["end_s"] - mine["start_s"]), 2),
            f"{part}_per_video": round(len(mine) / count, 2),
            f"{part}_words_per_action": round(words / len(mine), 2),
            f"{part}_words_per_video": round(words / count, 2),
        }
    return figures


def _beside(name: str, figures: dict[str, Any]) -> tuple[object, object]:
    """A figure and the published one, where there is one."""
    return str(figures[name]), str(PUBLISHED.get(name, ""))


def random_cuts(videos: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each video cut from its start to its end, at random, into clips of 5 to 30 s; no rest is kept."""
    rng = np.random.default_rng(seed)
    clips = []
    for video in videos.itertuples():
        edge_s = 0.0
        while (next_s := edge_s + rng.uniform(*CUT_S)) <= video.duration_s:
            clips.append((video.video_id, edge_s, next_s))
            edge_s = next_s
    return pd.DataFrame(clips, columns=["video_id", "start_s", "end_s"])


def match_counts(
    clips: pd.DataFrame, actions: pd.DataFrame, name: str
) -> dict[tuple[str, str], dict[str, int]]:
    """Count matches, video by video: by name and rule, pairs, clips, actions, and pairs one to one."""
    rules = {"tau_0.25": FORMULA, "tau_0.2": ALGORITHM_1, "strict_0.5": STRICTER}
    return {(name, rule): _counts(clips, actions, rules[rule]) for rule in rules}


def identity_matched(segments: pd.DataFrame) -> int:
    """Segments that match the sentence which was written for them."""
    found = (find_pairs(*times, *times, FORMULA) for times in _by_video(segments).values())
    return sum(int(np.sum(each.clips == each.actions)) for each in found)


def _counts(clips: pd.DataFrame, actions: pd.DataFrame, rule: MatchRule) -> dict[str, int]:
    mine, spoken = _by_video(clips), _by_video(actions)
    counts = dict.fromkeys(("pairs", "clips", "actions", "one_to_one"), 0)
    for video_id in mine.keys() & spoken.keys():
        found = find_pairs(*mine[video_id], *spoken[video_id], rule)
        counts["pairs"] += len(found)
        counts["clips"] += len(np.unique(found.clips))
        counts["actions"] += len(np.unique(found.actions))
        counts["one_to_one"] += len(assigned(found))
    return counts


def _by_video(items: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Starts and ends of each video's items, which lie together."""
    names, first = np.unique(items["video_id"].to_numpy(str), return_index=True)
    start_s, end_s = _times(items)
    edges = np.sort(first)[1:]
    parts = zip(np.split(start_s, edges), np.split(end_s, edges), strict=True)
    return dict(zip(names[np.argsort(first)].tolist(), parts, strict=True))


def _times(items: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return items["start_s"].to_numpy(), items["end_s"].to_numpy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One way to match, measured.

    Attributes:
        seconds: median of the runs.
        found: (clip, action) of every match, in order.
        peak_mb: most memory that was held at once by what the run made.
    """

    name: str
    seconds: float
    pairs_per_s: float
    found: list[tuple[int, int]]
    peak_mb: float


def made_up(pairs: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clips and actions of so many videos that each clip with each action of its video makes ``pairs``.

    Clips are cuts of 5 to 30 s; an action starts up to 8 s from a clip's start and takes 1 to 20 s.
    Times are those of the video; ``offset_s`` moves it to its place on one axis.
    """
    rng = np.random.default_rng(seed)
    videos = max(1, pairs // ITEMS**2)
    lengths = rng.integers(int(CUT_S[0] * TICKS), int(CUT_S[1] * TICKS), (videos, ITEMS)) / TICKS
    ends = np.cumsum(lengths, axis=1)
    starts = ends - lengths
    spoken = starts + rng.integers(-8 * TICKS, 8 * TICKS, starts.shape) / TICKS
    until = spoken + rng.integers(TICKS, 20 * TICKS, starts.shape) / TICKS
    number = np.repeat(np.arange(videos), ITEMS)

    def table(start_s: np.ndarray, end_s: np.ndarray) -> pd.DataFrame:
        columns = {"video": number, "start_s": start_s.ravel(), "end_s": end_s.ravel()}
        return pd.DataFrame(columns | {"offset_s": number * SPACING_S})

    return table(starts, ends), table(spoken, until)


def speed(pairs: int, repeats: int, seed: int) -> list[Run]:
    """Three ways to match the same videos, in turn."""
    clips, actions = made_up(pairs, seed)
    ways: dict[str, Callable[[pd.DataFrame, pd.DataFrame], list[tuple[int, int]]]] = {
        f"{len(clips):,} clips and as many actions on one axis": on_one_axis,
        f"video by video, {ITEMS} by {ITEMS}": video_by_video,
        "plain loop over pandas rows": plain_loop,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[tuple[int, int]]] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way(clips, actions)
            seconds[name].append(time.perf_counter() - started)
    considered = clips["video"].nunique() * ITEMS**2
    runs = []
    for name, way in ways.items():
        tracemalloc.start()
        way(clips, actions)
        peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        middle = median(seconds[name])
        run = Run(
            name=name, seconds=middle, pairs_per_s=considered / middle, found=found[name], peak_mb=peak_mb
        )
        runs.append(run)
    return runs


def on_one_axis(clips: pd.DataFrame, actions: pd.DataFrame) -> list[tuple[int, int]]:
    """All videos in one call, each moved to a place of its own."""
    clip_start, clip_end = (time_s + clips["offset_s"].to_numpy() for time_s in _times(clips))
    action_start, action_end = (time_s + actions["offset_s"].to_numpy() for time_s in _times(actions))
    found = find_pairs(clip_start, clip_end, action_start, action_end, FORMULA)
    return list(zip(found.clips.tolist(), found.actions.tolist(), strict=True))


def video_by_video(clips: pd.DataFrame, actions: pd.DataFrame) -> list[tuple[int, int]]:
    """One call a video, as the stage does it."""
    (clip_start, clip_end), (action_start, action_end) = _times(clips), _times(actions)
    pairs: list[tuple[int, int]] = []
    for begin in range(0, len(clips), ITEMS):
        own = slice(begin, begin + ITEMS)
        found = find_pairs(clip_start[own], clip_end[own], action_start[own], action_end[own], FORMULA)
        pairs.extend(zip((begin + found.clips).tolist(), (begin + found.actions).tolist(), strict=True))
    return pairs


def plain_loop(clips: pd.DataFrame, actions: pd.DataFrame) -> list[tuple[int, int]]:
    """The paper's formula as it reads, row by row."""
    spoken = {video: list(rows.itertuples()) for video, rows in actions.groupby("video")}
    pairs: list[tuple[int, int]] = []
    for clip in clips.itertuples():
        for action in spoken[clip.video]:
            shared = max(0.0, min(clip.end_s, action.end_s) - max(clip.start_s, action.start_s))
            iou = shared / (max(clip.end_s, action.end_s) - min(clip.start_s, action.start_s))
            near = abs(clip.start_s - action.start_s) < 5 and clip.end_s > action.end_s and iou > 0.25
            if near or iou > 0.5:
                pairs.append((clip.Index, action.Index))
    return pairs


if __name__ == "__main__":
    main()
