"""Typical content of a video that was not looked into yet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from stages.records import (
    Action,
    Caption,
    Clip,
    Evidence,
    Interval,
    Match,
    Sentence,
    Transcript,
    Video,
)  # fmt: skip

WORDS = "Now we add the chopped onion to the hot oil and stir."
"""A sentence of common length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Assumed content of a video that was not looked into yet.

    Attributes:
        clip_s: length of a clip; CookGen's are 9.5 s on average (HowTo100M half).
        words_a_second: of speech, silence included.
        kept: share of the clips that stay until captions.
    """

    clip_s: float
    words_a_second: float
    kept: float


LIKELY = Guess(clip_s=9.5, words_a_second=1.8, kept=0.6)
HIGH = Guess(clip_s=5.0, words_a_second=3.3, kept=1.0)
"""The most that is likely: the shortest clips of the default, quick speech without a pause."""


def typical(video: Video, known: Collection[str], guess: Guess, *, grid_fps: float) -> Video:
    """A video with what is not known of it filled in as it may be.

    Args:
        video: with facts.
        known: fields that were found out; they stay as they are.
        guess: what to take the others from.
        grid_fps: packed frames a second.
    """
    assert video.facts is not None
    duration_s = video.facts.duration_s
    said = _sentences(duration_s, guess) if video.facts.has_audio else []
    all_clips = _clips(duration_s, guess.clip_s, video.video_id)
    clips = (
        video.kept_clips if "clips" in known else all_clips[: max(1, round(guess.kept * len(all_clips)))]
    )
    sentences = video.transcript.sentences if video.transcript and "transcript" in known else said
    actions = [
        Action(
            action_id=f"{video.video_id}-a{index:04d}", start_s=clip.start_s, end_s=clip.end_s,
            text=WORDS, asr_text=WORDS, confidence=1.0, source="llm",
        )
        for index, clip in enumerate(clips)
    ]  # fmt: skip
    full = replace(
        video,
        evidence=_evidence(duration_s, grid_fps),
        transcript=Transcript(language="en" if said else "", sentences=sentences, model="typical"),
        clips=clips,
        watermarks=[],
        actions=actions,
        matches=[
            Match(clip_id=clip.clip_id, action_id=action.action_id, iou=1.0, start_diff_s=0.0, rule="iou")
            for clip, action in zip(clips, actions, strict=True)
        ],
        captions=[
            Caption(clip_id=clip.clip_id, text=f"{WORDS} " * 4, model="typical", frame_times_s=[])
            for clip in clips
        ],
    )
    found: dict[str, Any] = {name: getattr(video, name) for name in known}
    return replace(full, **found)


def _clips(duration_s: float, clip_s: float, video_id: str) -> list[Clip]:
    """Equal clips of about a length."""
    count = max(1, round(duration_s / clip_s))
    return [
        Clip(
            clip_id=f"{video_id}-c{index:04d}", clip_index=index, num_shots=1,
            start_s=duration_s * index / count, end_s=duration_s * (index + 1) / count,
            sharpness=0.5, exposure=0.5, motion=0.05,
        )
        for index in range(count)
    ]  # fmt: skip


def _sentences(duration_s: float, guess: Guess) -> list[Sentence]:
    count = max(1, round(duration_s * guess.words_a_second / len(WORDS.split())))
    return [
        Sentence(
            start_s=duration_s * index / count, end_s=duration_s * (index + 1) / count,
            text=WORDS, confidence=1.0,
        )
        for index in range(count)
    ]  # fmt: skip


def _evidence(duration_s: float, grid_fps: float) -> Evidence:
    times = [index / grid_fps for index in range(max(1, int(duration_s * grid_fps)))]
    return Evidence(
        shots=[Interval(start_s=0.0, end_s=duration_s)], frame_times_s=times, sharpness=[0.5] * len(times),
        exposure=[0.5] * len(times), motion=[0.05] * len(times), num_frames=len(times),
    )  # fmt: skip
