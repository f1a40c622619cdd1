"""Keep what has to do with a topic: whole videos before captions are bought, then clips.

An endpoint is asked one question a video and one for some clips, and answers with scores and roles; what
it does not answer as asked is judged by the embedded rules: likeness of sentences to the topic, and what
is said, written and moving in a clip. Without a topic neither stage runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import StringConstraints

from models.language import Answer, Question
from models.sentences import SentenceEncoder
from models.settings import Count, Section, Share
from stages import prompts
from stages.base import Pool, Stage, Workspace
from stages.clip import drop_clip
from stages.english.caption_rules import tidy
from stages.english.informative import why_not
from stages.narrate import title_of
from stages.reasons import Reason
from stages.records import Relevance, Video
from stages.relevance.clip_roles import CONTENT, ROLES, ClipNotes, notes_of, roles_of, said
from stages.relevance.topic import CLIP_CURVE, VIDEO_CURVE, Topic

BEST = 10
"""An endpoint gives scores from 0 to this."""
CLIPS_AT_ONCE = 8
LINES_ASKED, ACTIONS_ASKED = 40, 40
WHY_WORDS = 30
SCORES = {"type": "integer", "enum": list(range(BEST + 1))}


class RelevanceMeasuring(Section):
    """Settings that videos and clips are scored against.

    Attributes:
        topic: a sentence or a few words, in English; None keeps everything, and neither stage runs.
        threads: of the sentence encoder.
    """

    topic: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    threads: Count = 1


class RelevanceSettings(RelevanceMeasuring):
    """Keeps what has to do with the topic.

    Attributes:
        drop_roles: parts of a video that are dropped whatever their score.
    """

    min_video_score: Share = 0.5
    min_clip_score: Share = 0.15
    drop_roles: tuple[Literal["intro", "talking", "sponsor", "end_card"], ...] = (
        "intro",
        "talking",
        "sponsor",
        "end_card",
    )


class _ByTopic(Stage):
    """Common part of both stages.

    Args:
        model: asked for scores and roles; None leaves them to the sentence encoder and to rules.
    """

    measuring = RelevanceMeasuring
    settings: RelevanceSettings
    pool: ClassVar[Pool] = "language"
    writes = ("relevance",)
    rules = ("english", "relevance", "narrate/title.py")
    prompt: ClassVar[str]

    def __init__(self, settings: RelevanceSettings, *, model: str | None) -> None:
        assert settings.topic is not None
        self.settings = settings
        self.model = model
        self._topic = settings.topic

    def measures_with(self) -> object:
        digest = prompts.digest(self.prompt) if self.model else None
        return [super().measures_with(), self.model, digest]

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        if self.model is not None:
            self._client = workspace.client(self.name)

    @cached_property
    def topic(self) -> Topic:
        """Load the topic when first needed: an endpoint's answers mostly do without."""
        return Topic(self._topic, SentenceEncoder(threads=self.settings.threads))

    def _question(self, material: Any, schema: dict[str, Any], max_tokens: int) -> Question:
        # The topic is the user's own; all untrusted text is material.
        return Question(
            instructions=f"{prompts.text(self.prompt)}\n\nThe topic: {self._topic}",
            material=prompts.as_data(material, indent=1),
            schema=schema,
            max_tokens=max_tokens,
        )


class JudgeVideo(_ByTopic):
    """Filter of videos that have too little to do with the topic."""

    name: ClassVar[str] = "relevance"
    version: ClassVar[int] = 2
    reads = ("uri", "facts", "transcript", "kept_actions")
    prompt = "relevance_video"

    def measure(self, video: Video) -> Video:
        found = self._asked(video) if self.model else None
        return video.with_results(relevance=[found or self._by_likeness(video)])

    def judge(self, video: Video) -> Video:
        whole = next(each for each in video.relevance if each.clip_id is None)
        least = self.settings.min_video_score
        if whole.score >= least:
            return video
        detail = f"score {whole.score:.3f}; relevance.min_video_score is {least}; {whole.detail}"
        return video.reject(self.name, Reason.OFF_TOPIC, detail)

    def _asked(self, video: Video) -> Relevance | None:
        sentences = video.transcript.sentences if video.transcript else []
        material = {
            "title": title_of(video).text,
            "said": [tidy(said(line)) for line in sentences[:LINES_ASKED]],
            "actions": [tidy(action.text) for action in video.kept_actions[:ACTIONS_ASKED]],
        }
        schema = _object({"score": SCORES, "because": {"type": "string"}})
        (answer,) = self._client.ask([self._question(material, schema, 128)])
        content = answer.content or {}
        points = _points(content.get("score"))
        if points is None:
            return None
        because = content.get("because")
        why = " ".join(tidy(because).split()[:WHY_WORDS]) if isinstance(because, str) else ""
        return Relevance(clip_id=None, score=points, role=CONTENT, detail=f"{self.model}: {why}")

    def _by_likeness(self, video: Video) -> Relevance:
        texts = video_texts(video)
        if not texts:
            return Relevance(
                clip_id=None, score=0.5, role=CONTENT, detail="there is nothing to judge it by"
            )
        margin = float(self.topic.margins(texts).mean())
        detail = f"likeness to the topic above that to others: {margin:.3f}, of {len(texts)} texts"
        return Relevance(clip_id=None, score=VIDEO_CURVE.score(margin), role=CONTENT, detail=detail)


class JudgeClips(_ByTopic):
    """Filter of clips that are off the topic or no part of the work.

    Args:
        min_score: for a clip to stay.
        drop_roles: roles that are dropped whatever the score.
    """

    name: ClassVar[str] = "clip_roles"
    version: ClassVar[int] = 2
    reads = (
        "facts", "transcript", "kept_clips", "kept_actions", "matches", "captions", "watermarks",
        "relevance",
    )  # fmt: skip
    prompt = "relevance_clips"

    def measure(self, video: Video) -> Video:
        notes = notes_of(video)
        found = self._asked(notes) if self.model else {}
        if len(found) < len(notes):
            found = self._by_rules(video, notes) | found
        whole = [each for each in video.relevance if each.clip_id is None]
        return video.with_results(relevance=[*whole, *(found[note.clip.clip_id] for note in notes)])

    def judge(self, video: Video) -> Video:
        found = {each.clip_id: each for each in video.relevance}
        for clip in video.kept_clips:
            each = found[clip.clip_id]
            if each.role in self.settings.drop_roles:
                video = video.drop(drop_clip(clip, self.name, Reason(each.role), each.detail))
            elif each.score < self.settings.min_clip_score:
                least = self.settings.min_clip_score
                detail = f"score {each.score:.3f}; relevance.min_clip_score is {least}"
                drop = drop_clip(clip, self.name, Reason.OFF_TOPIC, f"{detail}; {each.detail}")
                video = video.drop(drop)
        if not video.kept_clips:
            video = video.reject(
                self.name, Reason.OFF_TOPIC, "no clip is on the topic and part of the work"
            )
        return video

    def _asked(self, notes: Sequence[ClipNotes]) -> dict[str, Relevance]:
        """Return the endpoint's judgements of the clips, by id; unusable ones are left out."""
        batches = [notes[start : start + CLIPS_AT_ONCE] for start in range(0, len(notes), CLIPS_AT_ONCE)]
        answers = self._client.ask([self._about(batch) for batch in batches])
        return {
            clip_id: found
            for batch, answer in zip(batches, answers, strict=True)
            for clip_id, found in self._read(batch, answer).items()
        }

    def _about(self, batch: Sequence[ClipNotes]) -> Question:
        numbers = list(range(1, len(batch) + 1))
        clip = {
            "clip": {"type": "integer", "enum": numbers},
            "score": SCORES,
            "role": {"type": "string", "enum": list(ROLES)},
        }
        schema = _object({"clips": {"type": "array", "items": _object(clip), "maxItems": len(batch)}})
        material = [note.as_material(number) for number, note in zip(numbers, batch, strict=True)]
        return self._question(material, schema, 64 + 32 * len(batch))

    def _read(self, batch: Sequence[ClipNotes], answer: Answer) -> dict[str, Relevance]:
        items = answer.content.get("clips") if answer.content else None
        found: dict[str, Relevance] = {}
        for item in items if isinstance(items, list) else []:
            if not isinstance(item, dict):
                continue
            number, points, role = item.get("clip"), _points(item.get("score")), item.get("role")
            if type(number) is not int or not 1 <= number <= len(batch):
                continue
            if points is not None and isinstance(role, str) and role in ROLES:
                clip_id = batch[number - 1].clip.clip_id
                detail = f"{self.model} says so"
                found[clip_id] = Relevance(clip_id=clip_id, score=points, role=role, detail=detail)
        return found

    def _by_rules(self, video: Video, notes: Sequence[ClipNotes]) -> dict[str, Relevance]:
        """Judge roles by rules and similarity by the clip's own texts, or else by the video's score."""
        whole = next((each.score for each in video.relevance if each.clip_id is None), 0.5)
        found: dict[str, Relevance] = {}
        for note, (role, why) in zip(notes, roles_of(notes), strict=True):
            texts = note.texts()
            points = CLIP_CURVE.score(float(self.topic.margins(texts).mean())) if texts else whole
            clip_id = note.clip.clip_id
            found[clip_id] = Relevance(clip_id=clip_id, score=points, role=role, detail=why)
        return found


def video_texts(video: Video) -> list[str]:
    """Return a video's subject in sentences: its title and actions, or its speech if it has none."""
    actions = [action.text for action in video.kept_actions if why_not(action.text) is None]
    sentences = video.transcript.sentences if video.transcript else []
    spoken = [said(line) for line in sentences if why_not(said(line)) is None]
    title = title_of(video).text
    return ([title] if title else []) + (actions or spoken)[:ACTIONS_ASKED]


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _points(given: object) -> float | None:
    """Return an endpoint's score in [0, 1]; None if it is none."""
    return given / BEST if type(given) is int and 0 <= given <= BEST else None
