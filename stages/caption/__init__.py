"""Captions of clips."""

from stages.caption.answers import Written, ask_for_texts, caption_question
from stages.caption.keyframes import Choice, choose, pictured, spread
from stages.caption.stage import PROMPT, CaptionSettings, WriteCaptions

__all__ = [
    "PROMPT",
    "CaptionSettings",
    "Choice",
    "WriteCaptions",
    "Written",
    "ask_for_texts",
    "caption_question",
    "choose",
    "pictured",
    "spread",
]
