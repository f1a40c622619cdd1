"""Describe clips in words.

With an endpoint for vision, a model sees frames of the clip. Without one, an embedded captioner puts
together what small models can tell - what the speaker says, what the pictures are tagged with, what
is written on the screen, how much moves - and a small language model makes a sentence of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from models.image_tags import ImageTagger
from models.language import Answer, Question
from stages import prompts
from stages.base import Pool, Stage, Workspace
from stages.clip import drop_clip, frames_in
from stages.match import best_matches
from stages.records import Caption, Clip, Reason, Video
from stages.refine import WORD, unlike
from stages.scan import read_frames, read_pictures

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"caption": {"type": "string"}},
    "required": ["caption"],
    "additionalProperties": False,
}
READABLE = re.compile(r"[^\W\d_]{3}")
"""Text worth telling holds a word; single signs are mostly patterns read as letters."""
FRAME_TALK = re.compile(
    r"\b(?:"
    r"(?:in|into|inside|out of|enters?|leaves?) (?:the )?frame|"
    r"(?:this|each|every|first|second|third|last|next|final|previous|following|video|still) frames?|"
    r"(?:the|these|those|all|both|across|between|first \w+|last \w+|\d+) frames|"
    r"frames? (?:#?\d+|one|two|three|four|five|by frame|"
    r"shows?|depicts?|captures?|displays?|features?|contains?|reveals?|illustrates?|begins?|ends?)|"
    r"these (?:images|pictures)"
    r")(?!\w)",
    re.IGNORECASE,
)
"""Talk of the pictures that the model was given; a wooden frame is a thing like others."""
CALM, FAST = 0.02, 0.1
"""Motion below which a shot is called calm, and from which it is called fast."""
EMBEDDED_FRAMES = 3
TAGS = 3
MIN_TAG_PROBABILITY = 0.3
EXAMPLES: Sequence[tuple[str, dict[str, Any]]] = (
    (
        "Action: Mince the garlic.\nObjects: cleaver, cutting board",
        {"caption": "A cook minces the garlic on a cutting board, with a cleaver in view."},
    ),
    (
        "Action: Let the dough rest.\nObjects: mixing bowl",
        {"caption": "The dough is left to rest, with a mixing bowl in view."},
    ),
)
FREE_WORDS = frozenset("a an and as at by cook cooks from in into is are of on onto out person the then "
                       "their to view visible which with while being been left person's hand hands "
                       "it its them off over up down until shown seen".split())  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSettings:
    """How clips are described.

    Attributes:
        frames: pictures of a clip that a vision model sees, spread evenly.
        max_words: a longer caption is cut at the end of a sentence.
        only_matched: whether clips that matching drops are left out; the kept rows are the same.
        threads: of the embedded image tagger.
    """

    frames: int
    max_words: int
    only_matched: bool
    threads: int


class WriteCaptions(Stage):
    """Captions clips; one that gets no usable caption is dropped."""

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 3
    pool: ClassVar[Pool] = "language"
    reads = (
        "content_id", "evidence", "kept_clips", "kept_actions", "matches", "watermarks", "drops",
    )  # fmt: skip
    writes = ("captions",)
    needs_frames = True

    def __init__(self, settings: CaptionSettings, *, text_model: str, vision_model: str | None) -> None:
        self.settings = settings
        self.text_model = text_model
        self.vision_model = vision_model
        self._tagger: ImageTagger | None = None

    def measures_with(self) -> object:
        prompt = prompts.digest("caption" if self.vision_model else "embedded_caption")
        return [asdict(self.settings), self.vision_model or self.text_model, prompt]

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._client = workspace.client(self.name, sees=self.vision_model is not None)
        if workspace.vision is None:
            self._tagger = ImageTagger(threads=self.settings.threads)

    def close(self) -> None:
        self._tagger = None

    def measure(self, video: Video) -> Video:
        clips = video.kept_clips
        if not self.settings.only_matched:
            unmatched = {drop.item_id for drop in video.drops if drop.reason is Reason.NO_MATCH}
            clips = [clip for clip in video.clips if clip in clips or clip.clip_id in unmatched]
        clips = [clip for clip in clips if self._times(video, clip)]
        write = self._see if self.vision_model else self._assemble
        captions = write(video, clips)
        return replace(video, captions=[caption for caption in captions if caption.text])

    def judge(self, video: Video) -> Video:
        captioned = {caption.clip_id for caption in video.captions}
        video = video.drop(
            *(
                drop_clip(clip, self.name, Reason.NO_CAPTION, "the model gave no usable caption")
                for clip in video.kept_clips
                if clip.clip_id not in captioned
            )
        )
        if not video.kept_clips:
            video = video.reject(self.name, Reason.NO_CAPTION, "no clip has a caption")
        return video

    def _times(self, video: Video, clip: Clip) -> list[float]:
        assert video.evidence is not None
        times = video.evidence.frame_times_s[frames_in(video.evidence, clip)]
        return spread(times, self.settings.frames if self.vision_model else EMBEDDED_FRAMES)

    def _see(self, video: Video, clips: list[Clip]) -> list[Caption]:
        """Captions by a vision model."""
        assert self.vision_model is not None
        times = [self._times(video, clip) for clip in clips]
        questions = [
            Question(
                instructions=prompts.text("caption"),
                material=f"The clip lasts {clip.duration_s:.1f} seconds.",
                images=read_frames(self.workspace.frames_path(video), shown),
                schema=SCHEMA,
            )
            for clip, shown in zip(clips, times, strict=True)
        ]
        return [
            Caption(
                clip_id=clip.clip_id,
                text=shortened(_text_of(answer), self.settings.max_words),
                model=self.vision_model,
                frame_times_s=shown,
            )
            for clip, shown, answer in zip(clips, times, self._client.ask(questions), strict=True)
        ]

    def _assemble(self, video: Video, clips: list[Clip]) -> list[Caption]:
        """Captions from tags, screen text, speech and motion."""
        assert self._tagger is not None
        path = self.workspace.frames_path(video)
        notes: list[Notes] = []
        times = [self._times(video, clip) for clip in clips]
        for clip, shown in zip(clips, times, strict=True):
            pictures = read_pictures(path, shown)
            tags = [
                name
                for name, probability in self._tagger.tag(pictures, top=TAGS)
                if probability >= MIN_TAG_PROBABILITY
            ]
            notes.append(_notes(video, clip, tags))
        # Without an action there is nothing to make a sentence of.
        answers = iter(self._client.ask([_note_question(note) for note in notes if note.action]))
        name = f"embedded:{self._tagger.name}+{self.text_model}"
        return [
            Caption(
                clip_id=clip.clip_id,
                text=shortened(
                    (_believable(next(answers), note) if note.action else note.plainly()) + note.rest(),
                    self.settings.max_words,
                ),
                model=name,
                frame_times_s=shown,
            )
            for clip, shown, note in zip(clips, times, notes, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What small models can tell about a clip."""

    action: str
    objects: list[str]
    screen_text: list[str]
    motion: str

    def material(self) -> str:
        """The part that a language model makes a sentence of."""
        objects = f"\nObjects: {', '.join(self.objects)}" if self.objects else ""
        return f"Action: {self.action}{objects}"

    def plainly(self) -> str:
        """That part as a sentence, without a language model."""
        objects = f"{' and '.join(self.objects)} in view" if self.objects else ""
        if not self.action:
            return f"{objects[:1].upper()}{objects[1:]}." if objects else "Nothing is recognised."
        return self.action.rstrip(".!?") + (f", with {objects}." if objects else ".")

    def rest(self) -> str:
        """What needs no model to be said."""
        written = f' The screen reads "{" / ".join(self.screen_text)}".' if self.screen_text else ""
        return f"{written} The shot is {self.motion}."


def _notes(video: Video, clip: Clip, tags: list[str]) -> Notes:
    best = best_matches(video.matches).get(clip.clip_id)
    texts = {action.action_id: action.text for action in video.kept_actions}
    mark = next((mark for mark in video.watermarks if mark.clip_id == clip.clip_id), None)
    return Notes(
        action=texts[best.action_id] if best else "",
        objects=tags,
        screen_text=[text for text in mark.screen_text if READABLE.search(text)][:3] if mark else [],
        motion="calm" if clip.motion < CALM else "lively" if clip.motion < FAST else "fast",
    )


def _note_question(note: Notes) -> Question:
    return Question(
        instructions=prompts.text("embedded_caption"),
        material=note.material(),
        examples=EXAMPLES,
        schema=SCHEMA,
        max_tokens=120,
    )


def _believable(answer: Answer, note: Notes) -> str:
    """The model's sentence if it says what the notes say and no more, else the notes themselves."""
    text = _text_of(answer)
    wrote = [word for word in WORD.findall(text.lower()) if word not in FREE_WORDS]
    noted = [word for word in WORD.findall(note.material().lower()) if word not in FREE_WORDS]
    told = [word for word in WORD.findall(note.action.lower()) if word not in FREE_WORDS]
    faithful = not unlike(wrote, noted) and not unlike(told, wrote)
    return text if wrote and faithful else note.plainly()


def _text_of(answer: Answer) -> str:
    text = answer.content.get("caption") if answer.content else None
    if not isinstance(text, str) or FRAME_TALK.search(text):
        return ""
    return " ".join(text.split())


def spread(times: list[float], count: int) -> list[float]:
    """At most ``count`` of the times, evenly placed, never the very edges when there is a choice."""
    if len(times) <= count:
        return times
    return [times[int((number + 0.5) * len(times) / count)] for number in range(count)]


def shortened(text: str, max_words: int) -> str:
    """Whole sentences of a text, as many as fit; the first one is cut if it alone is too long."""
    kept: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        if kept and len(" ".join([*kept, sentence]).split()) > max_words:
            break
        kept.append(sentence)
    return " ".join(" ".join(kept).split()[:max_words])
