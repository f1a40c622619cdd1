"""The second pass: captions of one video made to agree, one question each.

Each caption was written by a model that saw one clip alone: the same bowl may be glass in one and
steel in the next, and all of them may begin in a bright kitchen. A text model gets the caption with
those of its neighbours and rewrites it. It sees no pictures, so a
rewritten caption that adds or loses too much is refused, and the first caption stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.language import LanguageClient, Question
from stages import prompts
from stages.caption.answers import Check, ask_for_texts, caption_question
from stages.english.caption_rules import CaptionLimits, Complaint, Rule, content_words, copied, tells_again
from stages.records import Caption

PROMPT = "caption_merge"
MAX_NEW = 0.2
"""Share of words that neither the captions nor the speech have: names change, facts may not."""
MAX_LOST = 0.5
"""Share of a caption's own words that may go, those aside that the caption before has too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Context of a clip: captions of its neighbours and speech during it, or nothing."""

    before: str
    after: str
    said: str


def merge_captions(
    client: LanguageClient,
    captions: Sequence[Caption],
    around: Mapping[str, Surroundings],
    limits: CaptionLimits,
) -> list[Caption]:
    """Rewrite the captions; one whose rewriting fails stays as it is.

    Args:
        around: by clip id; a clip that is not in it, or that has no caption, is left as it is.
    """
    asked = [caption for caption in captions if caption.text and caption.clip_id in around]
    written = ask_for_texts(
        client,
        [_question(caption, around[caption.clip_id], limits) for caption in asked],
        [_check(caption, around[caption.clip_id]) for caption in asked],
        limits,
    )
    merged = {}
    for caption, new in zip(asked, written, strict=True):
        spent = replace(
            caption,
            input_tokens=caption.input_tokens + new.input_tokens,
            output_tokens=caption.output_tokens + new.output_tokens,
        )
        if new.text:
            prompt = f"{caption.prompt}, {prompts.label(PROMPT)}"
            spent = replace(spent, text=new.text, model=new.model or caption.model, prompt=prompt)
        merged[caption.clip_id] = spent
    return [merged.get(caption.clip_id, caption) for caption in captions]


def _question(caption: Caption, around: Surroundings, limits: CaptionLimits) -> Question:
    facts: dict[str, str | float] = {
        "before": around.before,
        "this": caption.text,
        "after": around.after,
        "said": around.said,
    }
    return caption_question(PROMPT, {name: text for name, text in facts.items() if text}, limits)


def _check(caption: Caption, around: Surroundings) -> Check:
    """Check the further rules of a rewritten caption."""

    def check(text: str) -> list[Complaint]:
        wrote, own = content_words(text), content_words(caption.text)
        before = content_words(around.before)
        known = own | before | content_words(around.after) | content_words(around.said)
        due = own - before
        found = copied(text, around.said) + tells_again(text, around.before)
        if len(wrote - known) > MAX_NEW * len(wrote):
            found.append(Complaint(Rule.INVENTED, "it adds something that the caption did not say"))
        if len(due - wrote) > MAX_LOST * len(due):
            found.append(Complaint(Rule.LOST, "it leaves out too much of the caption"))
        return found

    return check
