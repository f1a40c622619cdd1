"""Order a video's clips into a narrative, and say how whole it is."""

from __future__ import annotations

from typing import ClassVar

from models.settings import Count, Section, Share
from stages import prompts
from stages.base import Pool, Stage, Workspace
from stages.english.caption_rules import content_words
from stages.match import best_matches
from stages.narrate.title import Title, believed, title_of, title_question
from stages.reasons import Reason
from stages.records import Narrative, Step, Video


class NarrateSettings(Section):
    """Bounds on a narrative. ``min_integrity``: share of the video's actions that its steps must hold."""

    min_steps: Count = 2
    min_integrity: Share = 0.0


class Narrate(Stage):
    """Narrative of a video: each kept clip in order with its action of highest IoU, and the goal.

    Args:
        model: asked for the title, one question a video; None leaves it to rules.
    """

    name: ClassVar[str] = "narrate"
    version: ClassVar[int] = 2
    pool: ClassVar[Pool] = "language"
    reads = ("uri", "facts", "transcript", "kept_clips", "kept_actions", "matches", "captions")
    writes = ("narrative",)
    rules = ("english", "narrate/title.py")
    settings: NarrateSettings

    def __init__(self, settings: NarrateSettings, *, model: str | None) -> None:
        self.settings = settings
        self.model = model

    def measures_with(self) -> object:
        return [self.model, prompts.digest("title") if self.model else None]

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        if self.model is not None:
            self._client = workspace.client(self.name)

    def measure(self, video: Video) -> Video:
        steps = steps_of(video)
        title = self._title(video) if steps else title_of(video)
        narrative = Narrative(
            title=title.text, title_source=title.source, steps=steps, integrity=integrity(video)
        )
        return video.with_results(narrative=narrative)

    def _title(self, video: Video) -> Title:
        by_rules = title_of(video)
        if self.model is None:
            return by_rules
        (answer,) = self._client.ask([title_question(video)])
        return believed(answer, video) or by_rules

    def judge(self, video: Video) -> Video:
        assert video.narrative is not None
        found, share = len(video.narrative.steps), video.narrative.integrity
        if found < self.settings.min_steps:
            detail = f"{found} steps; narrate.min_steps is {self.settings.min_steps}"
            return video.reject(self.name, Reason.TOO_FEW_STEPS, detail)
        if share < self.settings.min_integrity:
            detail = f"integrity {share:.3f}; narrate.min_integrity is {self.settings.min_integrity}"
            return video.reject(self.name, Reason.LOW_COVERAGE, detail)
        return video


def steps_of(video: Video) -> list[Step]:
    """Build one step for each kept clip, in order."""
    actions = {action.action_id: action for action in video.kept_actions}
    captions = {caption.clip_id: caption.text for caption in video.captions}
    best = best_matches(video.matches)
    steps: list[Step] = []
    told: dict[frozenset[str], int] = {}
    end_s = 0.0
    for index, clip in enumerate(video.kept_clips):
        pair = best.get(clip.clip_id)
        action = actions[pair.action_id] if pair else None
        says = frozenset(content_words(action.text)) if action else frozenset()
        step = Step(
            step_index=index,
            clip_id=clip.clip_id,
            action_id=action.action_id if action else None,
            start_s=clip.start_s,
            end_s=clip.end_s,
            action=action.text if action else "",
            caption=captions.get(clip.clip_id, ""),
            gap_s=round(max(0.0, clip.start_s - end_s), 6),
            repeats=told.get(says) if says else None,
        )
        steps.append(step)
        told.setdefault(says, index)
        end_s = clip.end_s
    return steps


def integrity(video: Video) -> float:
    """Return the share of kept actions that belong to a kept clip, in [0, 1]; 1 if there are none."""
    clips = {clip.clip_id for clip in video.kept_clips}
    told = {pair.action_id for pair in video.matches if pair.clip_id in clips}
    actions = video.kept_actions
    whole = sum(action.action_id in told for action in actions) / len(actions) if actions else 1.0
    return round(whole, 6)
