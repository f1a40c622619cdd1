"""Captions without a model that sees.

The action that belongs to the clip, the objects that an image tagger recognises beside it, and the words on
the screen are put together by rules. ``caption_model`` names the tagger, so that a reader knows what such a
caption rests on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.caption.keyframes import choose
from stages.english.caption_rules import WORD, CaptionLimits, shortened
from stages.english.grounding import unlike
from stages.frames import read_pictures
from stages.match import best_matches
from stages.records import Caption, Clip, Video

READABLE = re.compile(r"[^\W\d_]{3}")
"""Screen text must hold a word; single characters are mostly patterns read as letters."""
FRAMES, TAGS = 3, 3
"""Frames of a clip that are looked at, evenly spaced, and the most likely tags of all together."""
MIN_TAG_PROBABILITY = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Facts about a clip from small models.

    Attributes:
        action: the action that belongs to the clip; empty if there is none.
        objects: recognised in its frames and not named by the action.
        screen_text: lines read in its frames.
    """

    action: str
    objects: list[str]
    screen_text: list[str]

    def sentences(self) -> str:
        """Put the facts together."""
        objects = f"{' and '.join(self.objects)} in view" if self.objects else ""
        if self.action:
            first = self.action.rstrip(".!?") + (f", with {objects}." if objects else ".")
        elif objects:
            first = f"{objects[:1].upper()}{objects[1:]}."
        else:
            first = "Nothing is recognised."
        written = f' The screen reads "{" / ".join(self.screen_text)}".' if self.screen_text else ""
        return first + written


class NotesCaptioner:
    """Captions from tags, screen text and actions."""

    def __init__(self, *, threads: int) -> None:
        # Torch takes seconds and 200 MB, so a process that tags no picture is spared it.
        from models.image_tags import ImageTagger

        self._tagger = ImageTagger(threads=threads)

    def write(
        self, video: Video, clips: Sequence[Clip], frames: Path, limits: CaptionLimits
    ) -> list[Caption]:
        """Return a caption for each clip that has packed frames; none is without a text."""
        assert video.evidence is not None
        captions = []
        for clip in clips:
            times = choose(video.evidence, clip, FRAMES, "even")
            notes = _notes(video, clip, self._tags(frames, times))
            captions.append(
                Caption(
                    clip_id=clip.clip_id,
                    text=shortened(notes.sentences(), limits),
                    model=f"embedded:{self._tagger.name}",
                    frame_times_s=times,
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
        objects=[tag for tag in tags if unlike(WORD.findall(tag.lower()), named)],
        screen_text=[text for text in mark.screen_text if READABLE.search(text)][:3] if mark else [],
    )
