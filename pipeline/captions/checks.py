"""Figures of captions that need no model and no reference.

The rules are those that captions are written by (:mod:`stages.english.caption_rules`): so of a dataset of
`curate` they tell what the second attempt left, and of others how they compare.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from pipeline.captions.dataset import CaptionedClip, Captions
from pipeline.evaluation.figures import Better, Figure, measured
from pipeline.evaluation.repetition import REPEATED_TEXT, text_repetition
from stages.english.caption_rules import (
    WORD,
    CaptionLimits,
    Rule,
    complaints,
    content_words,
    sentences_of,
    tidy,
)

LIMITS = CaptionLimits()
BROKEN = {
    Rule.LENGTH: f"longer than {LIMITS.max_words} words",
    Rule.SENTENCES: f"more than {LIMITS.max_sentences} sentences",
    Rule.REPETITION: "repeats itself",
    Rule.FRAME_TALK: "speaks of frames or pictures",
    Rule.CONVERSATION: "assumes a conversation",
    Rule.REFUSAL: "refuses to describe",
}
QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”')


def check_figures(captions: Captions, *, seed: int) -> list[Figure]:
    """Length, style, repetition, agreement with the screen and with speech, over all captions."""
    of, clips = f"captions {captions.name}", captions.clips
    videos = [clip.video_id for clip in clips]

    def mean(name: str, values: Sequence[float | None], better: Better, note: str = "") -> Figure:
        count = sum(each is not None for each in values)
        said = f"{count} captions" + (f"; {note}" if note else "")
        return measured(of, name, values, videos, better=better, note=said, seed=seed)

    broken = [{complaint.rule for complaint in complaints(clip.caption, LIMITS)} for clip in clips]
    plain = [_plain(clip.caption) for clip in clips]
    times = Counter(plain)
    return [
        mean("words", [len(clip.caption.split()) for clip in clips], ""),
        mean("sentences", [len(sentences_of(tidy(clip.caption))) for clip in clips], ""),
        *(
            mean(name, [float(rule in rules) for rules in broken], "lower", "share")
            for rule, name in BROKEN.items()
        ),
        mean("same words as another clip's", [float(times[text] > 1) for text in plain], "lower", "share"),
        _repeated(of, captions, seed),
        mean(
            "quoted words read on the screen",
            [screen_agreement(clip) for clip in clips],
            "higher",
            "share, of captions that quote",
        ),
        mean(
            "words of the action mentioned",
            [speech_agreement(clip) for clip in clips],
            "",
            "share, of clips with an action",
        ),
    ]


def screen_agreement(clip: CaptionedClip) -> float | None:
    """Share of the words in quotation marks that were read on the screen; None without any.

    It takes the recogniser's word: what it misread or missed counts against the caption.
    """
    quoted = [word for match in QUOTED.finditer(clip.caption) for word in _words("".join(match.groups("")))]
    if not quoted:
        return None
    read = set(_words(" ".join(clip.screen_text)))
    return sum(word in read for word in quoted) / len(quoted)


def speech_agreement(clip: CaptionedClip) -> float | None:
    """Share of the content words of the clip's action that its caption has too; None without an action.

    A caption that tells what is seen needs not repeat what is said, so neither end is good by itself.
    """
    said = content_words(clip.action)
    return len(said & content_words(clip.caption)) / len(said) if said else None


def _repeated(of: str, captions: Captions, seed: int) -> Figure:
    by_video = groupby(captions.clips, key=lambda clip: clip.video_id)
    told = {video_id: [clip.caption for clip in clips] for video_id, clips in by_video}
    return measured(
        of,
        "repeats an earlier clip's",
        [text_repetition(texts) for texts in told.values()],
        list(told),
        better="lower",
        note=f"share of a video's later clips, overlap of words from {REPEATED_TEXT}",
        seed=seed,
    )


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _plain(text: str) -> str:
    return " ".join(_words(text))
