"""By rules, what part of a video a clip is: the work, an intro, talk, a sponsor's message, an end card.

The rules read what is said during the clip, what is written in it and how much moves. They cannot see who
talks: chatter over a picture of the work counts as talk where no action belongs to the clip.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.english.caption_rules import tidy
from stages.english.informative import why_not
from stages.reasons import Reason
from stages.records import Clip, Sentence, Video

CONTENT = "content"
ROLES = (CONTENT, Reason.INTRO.value, Reason.TALKING.value, Reason.SPONSOR.value, Reason.END_CARD.value)
EDGE = 0.25
"""Share of a video, at its beginning and end, in which an intro and an end card may lie."""
STILL_MOTION, CARD_WORDS = 0.01, 4
"""Mean luma difference between frames below which a clip stands still, and words on the screen from which
it is heavy with text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipNotes:
    """Facts about a clip.

    Attributes:
        lines: sentences whose middle lies in it.
        actions: texts of the actions that belong to it.
        seen: the caption is of a model that saw the clip.
        written: lines on the screen.
        place: ``beginning`` of the video, ``end`` for the last clip if it lies there, or empty.
    """

    clip: Clip
    lines: list[Sentence]
    actions: list[str]
    caption: str
    seen: bool
    written: list[str]
    place: str

    def texts(self) -> list[str]:
        """Return the clip's subject, in sentences."""
        spoken = [said(line) for line in self.lines if why_not(said(line)) is None]
        caption = [self.caption] if self.caption else []
        # A caption that was composed from actions and tags adds nothing to the actions.
        return [*self.actions, *spoken, *(caption if self.seen else [])] or caption

    def as_material(self, number: int) -> dict[str, Any]:
        """Return the notes as JSON values, under a number."""
        return {
            "clip": number,
            "place": self.place or "within",
            "seconds": round(self.clip.duration_s, 1),
            "seen": tidy(self.caption),
            "said": [tidy(said(line)) for line in self.lines],
            "written on screen": [tidy(text) for text in self.written],
            "actions": [tidy(text) for text in self.actions],
        }


def notes_of(video: Video) -> list[ClipNotes]:
    """Collect the notes of each kept clip, in order."""
    assert video.facts is not None
    clips, length_s = video.kept_clips, video.facts.duration_s
    sentences = video.transcript.sentences if video.transcript else []
    captions = {caption.clip_id: caption for caption in video.captions}
    written = {mark.clip_id: mark.screen_text for mark in video.watermarks}
    actions = {action.action_id: action.text for action in video.kept_actions}
    notes = []
    for index, clip in enumerate(clips):
        early = clip.start_s <= EDGE * length_s
        last = index == len(clips) - 1 and clip.end_s >= (1 - EDGE) * length_s
        middles = ((line, (line.start_s + line.end_s) / 2) for line in sentences)
        pairs = (pair for pair in video.matches if pair.clip_id == clip.clip_id)
        caption = captions.get(clip.clip_id)
        note = ClipNotes(
            clip=clip,
            lines=[line for line, middle_s in middles if clip.start_s <= middle_s < clip.end_s],
            actions=[actions[pair.action_id] for pair in pairs if pair.action_id in actions],
            caption=caption.text if caption else "",
            seen=caption is not None and not caption.model.startswith("embedded:"),
            written=written.get(clip.clip_id, []),
            place="end" if last else "beginning" if early else "",
        )
        notes.append(note)
    return notes


def roles_of(notes: Sequence[ClipNotes]) -> list[tuple[str, str]]:
    """Return role and reason of each clip; an intro may take several of the first clips."""
    found: list[tuple[str, str]] = []
    opening = True
    for note in notes:
        role, why = _role_of(note, opening=opening and note.place == "beginning")
        opening = opening and role == Reason.INTRO
        found.append((role, why))
    return found


def _role_of(note: ClipNotes, *, opening: bool) -> tuple[str, str]:
    reasons = [why_not(said(line)) for line in note.lines]
    seconds = dict.fromkeys(reasons, 0.0)
    for line, reason in zip(note.lines, reasons, strict=True):
        seconds[reason] += line.duration_s
    told = json.dumps([tidy(said(line)) for line in note.lines[:2]], ensure_ascii=False)
    if 2 * seconds.get(Reason.SPONSOR, 0.0) >= sum(seconds.values()) > 0:
        return Reason.SPONSOR, f"a sponsor's message: {told}"
    if None in reasons or any(why_not(action) is None for action in note.actions):
        return CONTENT, "something is done"
    still = note.clip.motion < STILL_MOTION
    heavy = sum(len(text.split()) for text in note.written) >= CARD_WORDS
    if note.place == "end" and (still or heavy):
        return Reason.END_CARD, "the last clip, nothing is done, " + (
            "still" if still else "text on screen"
        )
    if not note.lines:
        if opening and still and heavy:
            return Reason.INTRO, "the first clip, nothing is done, still text on screen"
        return CONTENT, "nothing is said"
    if opening:
        return Reason.INTRO, f"at the beginning, nothing is done: {told}"
    return Reason.TALKING, f"nothing is done: {told}"


def said(line: Sentence) -> str:
    """Return a line in English if there is an English version of it."""
    return line.english or line.text
