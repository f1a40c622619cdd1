"""Videos that cost nothing: what the stages would measure is made up, so that only the engine works.

The chain, its keys in the memo and its judgements are the real ones; of each stage only the costly part is
replaced. What it writes is as large as that of a narrated video, so that records weigh what they weigh.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from pathlib import Path

from pipeline.curation.runners import Site
from stages.base import Stage, Workspace
from stages.match import MatchActions
from stages.records import (
    Action,
    Caption,
    Clip,
    Evidence,
    Facts,
    Interval,
    Narrative,
    Sentence,
    Step,
    Transcript,
    Video,
    Watermark,
    Word,
)

VERBS = ("chop", "fry", "boil", "season", "stir")
FOODS = ("onions", "carrots", "beans", "noodles")
CLIPS = len(VERBS) * len(FOODS)
"""Clips of each video, every one with an action of its own."""
CLIP_S = 8.0
LINKS = 50_000
"""Links to a file, fewer than file systems allow."""
WORDS = "add the chopped onion to the hot oil and stir until it is golden brown".split()


HEAD = b"\0\0\0\x18ftypisom"
"""First bytes of an MP4 file."""


def write_files(folder: Path, number: int, kind: str, head: bytes = HEAD) -> None:
    """Write small files, each with a content of its own, which no reader of videos can open."""
    for at in range(number):
        place = folder / f"{at // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{at:07d}.mp4").write_bytes(head + f"{kind} {at}: not a film\n".encode())


def write_links(folder: Path, number: int, *, of: Path | None = None) -> None:
    """Write files that are links to a few others, which takes a fraction of the time.

    Args:
        of: a folder with the others; a few new ones if None.
    """
    if of is None:
        of = folder / "linked"
        write_files(of, number // LINKS + 1, "linked")
    originals = sorted(path for path in of.rglob("*") if path.is_file())
    for at in range(number):
        place = folder / f"links{at // 1000:04d}"
        if at % 1000 == 0:
            place.mkdir(parents=True)
        (place / f"{at:07d}.mp4").hardlink_to(originals[at % len(originals)])


class FreeSite(Site):
    """Site whose workers measure nothing; see :class:`pipeline.curation.runners.Site`."""

    def stages(self) -> list[Stage]:
        """Return the stages that run, each with a free measurement in place of its own."""
        return free(Site.stages(self))


def free(stages: Sequence[Stage]) -> list[Stage]:
    """Replace the costly part of some stages in place, and return them.

    Matching, which is arithmetic, stays as it is: what comes after it is found again only by its results.
    """
    for stage in stages:
        if stage.packer is not None:
            stage.packer.has_packed = _true  # type: ignore[method-assign]
        if not isinstance(stage, MatchActions):
            stage.measure = _Free(stage.writes)  # type: ignore[method-assign]
        stage.open = _nothing  # type: ignore[method-assign]
        stage.close = _nothing  # type: ignore[method-assign]
    return list(stages)


class _Free:
    """Measurement of a stage that writes these fields."""

    def __init__(self, writes: tuple[str, ...]) -> None:
        self._writes = writes

    def __call__(self, video: Video) -> Video:
        return video.with_results(**{name: made_up()[name] for name in self._writes})


def _true(video: Video) -> bool:
    return True


def _nothing(workspace: Workspace | None = None) -> None:
    pass


def _sentence(start_s: float, end_s: float, said: Sequence[str]) -> Sentence:
    words = [Word(start_s=start_s, end_s=end_s, text=word, confidence=0.9) for word in said]
    return Sentence(start_s=start_s, end_s=end_s, text=" ".join(said), confidence=0.9, words=words)


@functools.cache
def made_up() -> dict[str, object]:
    """Return the fields of a video that stages fill, by name; the same for all, made once a process."""
    dice = random.Random(0)
    length_s = CLIPS * CLIP_S
    spans = [Interval(start_s=at * CLIP_S, end_s=(at + 1) * CLIP_S) for at in range(CLIPS)]
    spoken = [(span.start_s + dice.random(), span.end_s - dice.random()) for span in spans]
    words = [f"{verb} the {food} in a large pan".split() for verb in VERBS for food in FOODS]
    clips = [
        Clip(
            clip_id=f"v-c{at:04d}", clip_index=at, start_s=span.start_s, end_s=span.end_s,
            num_shots=1, sharpness=0.5, exposure=0.5, motion=0.05,
        )
        for at, span in enumerate(spans)
    ]  # fmt: skip
    actions = [
        Action(
            action_id=f"v-a{at:04d}", start_s=start_s, end_s=end_s, text=" ".join(said),
            asr_text=f"now {' '.join(said)}", confidence=dice.random(), source="asr",
        )
        for at, ((start_s, end_s), said) in enumerate(zip(spoken, words, strict=True))
    ]  # fmt: skip
    ids = [(clip.clip_id, action.action_id) for clip, action in zip(clips, actions, strict=True)]
    measured = [dice.random() for _ in range(round(length_s))]
    return {
        "facts": Facts(
            container="mp4", video_codec="h264", audio_codec="aac", duration_s=length_s, width_px=640,
            height_px=360, fps=25.0, rotation_deg=0, title="How to make soup",
        ),
        "evidence": Evidence(
            shots=spans, frame_times_s=[float(at) for at in range(len(measured))], sharpness=measured,
            exposure=measured, motion=measured, num_frames=25 * len(measured), announced_s=length_s,
            reached_s=length_s,
        ),
        "transcript": Transcript(
            language="en", model="none",
            sentences=[_sentence(*span, said) for span, said in zip(spoken, words, strict=True)],
        ),
        "clips": clips,
        "watermarks": [Watermark(clip_id=clip.clip_id, findings=[], screen_text=[]) for clip in clips],
        "actions": actions,
        "objections": [],
        "captions": [
            Caption(
                clip_id=clip.clip_id, text=" ".join(dice.choices(WORDS, k=40)), model="none",
                frame_times_s=[clip.start_s + at for at in range(5)],
            )
            for clip in clips
        ],
        "narrative": Narrative(
            title="How to make soup",
            steps=[
                Step(
                    step_index=at, clip_id=clip, action_id=action, action="stir", caption="stirring",
                    start_s=at * CLIP_S, end_s=(at + 1) * CLIP_S,
                )
                for at, (clip, action) in enumerate(ids)
            ],
        ),
    }  # fmt: skip
