"""Order a video's clips into a narrative."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from stages.base import Pool, Stage
from stages.match import best_matches
from stages.probe import path_of
from stages.records import Narrative, Reason, Step, Video

CAMERA_NAME = re.compile(r"^(img|vid|dsc|mov|gopr|pxl|video|clip|screen)?[\W_\d]*$", re.IGNORECASE)


class Narrate(Stage):
    """Makes the steps: each kept clip, in order, with its action of highest IoU."""

    name: ClassVar[str] = "narrate"
    pool: ClassVar[Pool] = "language"
    reads = ("uri", "facts", "kept_clips", "kept_actions", "matches", "captions")
    writes = ("narrative",)

    def __init__(self, *, min_steps: int) -> None:
        self.min_steps = min_steps

    def measure(self, video: Video) -> Video:
        actions = {action.action_id: action for action in video.kept_actions}
        captions = {caption.clip_id: caption.text for caption in video.captions}
        best = best_matches(video.matches)
        steps = []
        for index, clip in enumerate(video.kept_clips):
            pair_of_clip = best.get(clip.clip_id)
            action = actions[pair_of_clip.action_id] if pair_of_clip else None
            steps.append(
                Step(
                    step_index=index,
                    clip_id=clip.clip_id,
                    action_id=action.action_id if action else None,
                    start_s=clip.start_s,
                    end_s=clip.end_s,
                    action=action.text if action else "",
                    caption=captions.get(clip.clip_id, ""),
                )
            )
        return replace(video, narrative=Narrative(title=title(video), steps=steps))

    def judge(self, video: Video) -> Video:
        assert video.narrative is not None
        found = len(video.narrative.steps)
        if found < self.min_steps:
            detail = f"{found} steps; narrate.min_steps is {self.min_steps}"
            return video.reject(self.name, Reason.TOO_FEW_STEPS, detail)
        return video


def title(video: Video) -> str:
    """What the video shows how to do: its own title, or one from the file's name."""
    assert video.facts is not None
    own = video.facts.title
    if own:
        return own
    stem = path_of(video.uri).name
    stem = Path(stem).stem.encode("utf-8", "replace").decode()
    if CAMERA_NAME.match(stem):
        return ""
    words = re.sub(r"[\W_]+", " ", stem).strip()
    return words if words.lower().startswith("how to") else f"How to make {words.lower()}?"
