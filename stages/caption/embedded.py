"""Describe clips without a model that sees.

Small models tell what they can - what the speaker says, what the pictures are tagged with, what is
written on the screen, how much moves - and a small language model makes a sentence of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.image_tags import ImageTagger
from models.language import Answer, LanguageClient, Question
from stages import prompts
from stages.caption.answers import SCHEMA, text_of
from stages.caption.keyframes import choose
from stages.english.caption_rules import FRAME_TALK, WORD, Limits, shortened
from stages.english.grounding import unlike
from stages.frames import read_pictures
from stages.match import best_matches
from stages.records import Caption, Clip, Video

PROMPT = "embedded_caption"
READABLE = re.compile(r"[^\W\d_]{3}")
"""Text worth telling holds a word; single signs are mostly patterns read as letters."""
CALM, FAST = 0.02, 0.1
"""Motion below which a shot is called calm, and from which it is called fast."""
FRAMES = 3
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


class NotesCaptioner:
    """Captions from tags, screen text, speech and motion."""

    def __init__(self, client: LanguageClient, *, text_model: str, threads: int) -> None:
        self._client = client
        self._text_model = text_model
        self._tagger = ImageTagger(threads=threads)

    def write(self, video: Video, clips: Sequence[Clip], frames: Path, limits: Limits) -> list[Caption]:
        """A caption for each clip that has packed frames; none is without a text."""
        assert video.evidence is not None
        times = [choose(video.evidence, clip, FRAMES, "even") for clip in clips]
        notes = [
            _notes(video, clip, self._tags(frames, shown)) for clip, shown in zip(clips, times, strict=True)
        ]
        # Without an action there is nothing to make a sentence of.
        told = [index for index, note in enumerate(notes) if note.action]
        answers = dict(
            zip(told, self._client.ask([_question(notes[index]) for index in told]), strict=True)
        )
        captions = []
        for index, (clip, shown, note) in enumerate(zip(clips, times, notes, strict=True)):
            answer = answers.get(index, Answer(content=None))
            sentence = _believable(answer, note) if note.action else note.plainly()
            captions.append(
                Caption(
                    clip_id=clip.clip_id,
                    text=shortened(sentence + note.rest(), limits),
                    model=f"embedded:{self._tagger.name}+{answer.model or self._text_model}",
                    frame_times_s=shown,
                    prompt=prompts.label(PROMPT) if index in answers else "",
                    input_tokens=answer.input_tokens,
                    output_tokens=answer.output_tokens,
                )
            )
        return captions

    def _tags(self, frames: Path, times_s: list[float]) -> list[str]:
        tags = self._tagger.tag(read_pictures(frames, times_s), top=TAGS)
        return [name for name, probability in tags if probability >= MIN_TAG_PROBABILITY]


def _notes(video: Video, clip: Clip, tags: list[str]) -> Notes:
    best = best_matches(video.matches).get(clip.clip_id)
    texts = {action.action_id: action.text for action in video.kept_actions}
    mark = next((mark for mark in video.watermarks if mark.clip_id == clip.clip_id), None)
    action = texts[best.action_id] if best else ""
    named = WORD.findall(action.lower())
    return Notes(
        action=action,
        # What the action names is in view anyway.
        objects=[tag for tag in tags if unlike(WORD.findall(tag.lower()), named)],
        screen_text=[text for text in mark.screen_text if READABLE.search(text)][:3] if mark else [],
        motion="calm" if clip.motion < CALM else "lively" if clip.motion < FAST else "fast",
    )


def _question(note: Notes) -> Question:
    return Question(
        instructions=prompts.text(PROMPT),
        material=note.material(),
        examples=EXAMPLES,
        schema=SCHEMA,
        max_tokens=120,
    )


def _believable(answer: Answer, note: Notes) -> str:
    """The model's sentence if it says what the notes say and no more, else the notes themselves."""
    text = text_of(answer)
    wrote = [word for word in WORD.findall(text.lower()) if word not in FREE_WORDS]
    noted = [word for word in WORD.findall(note.material().lower()) if word not in FREE_WORDS]
    told = [word for word in WORD.findall(note.action.lower()) if word not in FREE_WORDS]
    faithful = not unlike(wrote, noted) and not unlike(told, wrote) and not FRAME_TALK.search(text)
    return text if wrote and faithful else note.plainly()
