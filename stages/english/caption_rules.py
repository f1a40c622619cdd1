"""Rules for captions, checked on the text alone.

Source: VideoAuteur, section 3: at most five sentences and 80 words, no word of frames, no action twice,
no conversation that is only assumed. The rules read English; in other languages only the lengths bite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"'”’)]))\s+(?=[^\sa-z])")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
FRAME_TALK = re.compile(
    r"\b(?:"
    r"(?:in|into|inside|out of|enters?|leaves?) (?:the )?frame|fill(?:s|ing)? the frame|"
    r"(?:left|right|top|bottom|edges?|cent(?:er|re)|sides?|corners?|rest|part) of the frame|"
    r"(?:this|each|every|first|second|third|last|next|final|previous|following|video|still) frames?|"
    r"(?:the|these|those|all|both|across|between|first \w+|last \w+|\d+) frames|"
    r"frames? (?:#?\d+|one|two|three|four|five|by frame|"
    r"shows?|depicts?|captures?|displays?|features?|contains?|reveals?|illustrates?|begins?|ends?)|"
    r"these (?:images|pictures|photos|screenshots)|"
    r"(?:in|across|throughout|between) the (?:images?|pictures|photos|screenshots?)|"
    r"(?:the|this|each|first|second|third|last|next|final) (?:image|picture|photo|screenshot)s? "
    r"(?:shows?|depicts?|captures?|displays?|features?)"
    r")(?!\w)",
    re.IGNORECASE,
)
"""Talk of the pictures that the model was given; a wooden frame is a thing like others."""
CONVERSATION = re.compile(
    r"(?<!text )(?<!label )(?<!sign )(?<!screen )(?<!title )(?<!caption )(?<!display )"
    r"\b(?:says|tells|asks|replies)\b|"
    r"\b(?:saying|telling|asking|replying|chatting|conversations?|dialogues?|"
    r"(?:explain|discuss|mention|narrat|convers|instruct)(?:s|es|e?d|ing)?)\b|"
    r"\b(?:talk|speak)(?:s|ing)? (?:about|with|(?:to|at) (?!(?:the |a )?(?:camera|lens|viewer|audience)))",
    re.IGNORECASE,
)
"""Speech cannot be seen. What is written somewhere may say a thing, and a face may talk to the camera."""
REFUSAL = re.compile(
    r"^\W*(?:i['’]?m (?:sorry|unable|not able)|i am (?:sorry|unable|not able)|sorry\b|"
    r"i (?:can['’]?t|cannot|won['’]?t|will not) |as an ai\b|unfortunately, i\b)",
    re.IGNORECASE,
)
GRAMMAR = frozenset(
    "a an and are as at be been by for from in into is it its of off on onto or out over the their them "
    "then there they this to up was which while who with before after until when once again".split()
)
DETERMINERS = frozenset("a an the some more his her its their this that these those".split())
NO_ACTION = frozenset(
    "across as being besides contains does during features following has holding holds includes including "
    "is plus red regarding showing shows this thus towards uses using was wearing wears".split()
)
"""Before an object they look like verbs by their ending, and tell nothing that is done."""
SAME_SENTENCE = 0.8
"""Shared content words over all of them, from which a sentence says the same as another."""
LONGEST_LOOP = 8
COPIED_WORDS = 8
"""So many words in the same order are no accident."""
LONGEST_TEXT = 10_000
"""Characters of an answer that are read at all."""
CHARACTERS_A_WORD = 12


class Rule(StrEnum):
    """Rule that a caption can break."""

    EMPTY = "empty"
    REFUSAL = "refusal"
    LENGTH = "length"
    SENTENCES = "sentences"
    FRAME_TALK = "frame_talk"
    REPETITION = "repetition"
    CONVERSATION = "conversation"
    COPIED = "copied"
    INVENTED = "invented"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionLimits:
    """The paper's lengths.

    Attributes:
        max_words: of a whole caption, as white space divides it.
        max_sentences: likewise.
    """

    max_words: int = 80
    max_sentences: int = 5


@dataclass(frozen=True, slots=True)
class Complaint:
    """One rule that a caption breaks, and how, as one may say it to its writer."""

    rule: Rule
    what: str


def complaints(text: str, limits: CaptionLimits) -> list[Complaint]:
    """Everything a caption does wrong, at most once a rule; empty for a good one."""
    text = tidy(text)
    if not WORD.search(text):
        return [Complaint(Rule.EMPTY, "there is no text")]
    if REFUSAL.search(text):
        return [Complaint(Rule.REFUSAL, "it refuses to describe the clip")]
    return list(_broken(text, limits))


def copied(text: str, said: str) -> list[Complaint]:
    """Tell whether a caption copies what is said instead of describing what is seen."""
    spoken = set(_runs(said))
    if any(run in spoken for run in _runs(text)):
        return [Complaint(Rule.COPIED, "it copies what is said word for word")]
    return []


def tells_again(text: str, earlier: str) -> list[Complaint]:
    """Tell whether a sentence says the same as one of an earlier text."""
    told = [content_words(sentence) for sentence in sentences_of(earlier)]
    for sentence in sentences_of(text):
        if any(_same(content_words(sentence), other) for other in told):
            return [Complaint(Rule.REPETITION, f'the previous caption already says that: "{sentence}"')]
    return []


def tidy(text: str) -> str:
    """One line of bounded length, single spaces, no control signs and no halves of surrogate pairs."""
    return " ".join(UNPRINTABLE.sub(" ", text[:LONGEST_TEXT]).split())


def sentences_of(text: str) -> list[str]:
    """The sentences of a tidy text; a small letter after a full stop begins none."""
    return SENTENCE_END.split(text) if text else []


def shortened(text: str, limits: CaptionLimits) -> str:
    """Whole sentences that say something new, as many as fit; the first is cut if it is too long."""
    kept: list[str] = []
    for sentence in sentences_of(tidy(text)):
        longer = [*kept, sentence]
        if kept and repetition(longer):
            continue
        if kept and (
            len(longer) > limits.max_sentences or len(" ".join(longer).split()) > limits.max_words
        ):
            break
        kept = longer
    return " ".join(" ".join(kept).split()[: limits.max_words])


def _broken(text: str, limits: CaptionLimits) -> Iterator[Complaint]:
    words = text.split()
    if len(words) > limits.max_words:
        yield Complaint(Rule.LENGTH, f"it has {len(words)} words; at most {limits.max_words} are allowed")
    elif len(text) > CHARACTERS_A_WORD * limits.max_words:
        yield Complaint(Rule.LENGTH, f"it has {len(text)} characters in {len(words)} words")
    sentences = sentences_of(text)
    if len(sentences) > limits.max_sentences:
        what = f"it has {len(sentences)} sentences; at most {limits.max_sentences} are allowed"
        yield Complaint(Rule.SENTENCES, what)
    if found := FRAME_TALK.search(text):
        yield Complaint(Rule.FRAME_TALK, f'it speaks of frames or pictures: "{found[0]}"')
    if again := repetition(sentences):
        yield Complaint(Rule.REPETITION, f'it repeats itself: "{again}"')
    if found := CONVERSATION.search(text):
        yield Complaint(Rule.CONVERSATION, f'it assumes what is said: "{found[0].strip()}"')


def repetition(sentences: list[str]) -> str | None:
    """The first words that say again what was said before; None if there are none.

    A whole sentence with mostly the words of another, the same words over and over, or an action (verb
    and object) that is told twice.
    """
    contents: list[set[str]] = []
    for sentence in sentences:
        content = content_words(sentence)
        if any(_same(content, other) for other in contents):
            return sentence
        contents.append(content)
    parts = [WORD.findall(sentence.lower()) for sentence in sentences]
    loops = (_loop(words) for words in parts)
    return next((loop for loop in loops if loop), None) or _action_twice(parts)


def content_words(sentence: str) -> set[str]:
    """Return the content words of a text, without endings of number and tense."""
    return {_stem(word) for word in WORD.findall(sentence.lower()) if word not in GRAMMAR}


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return zip(*(words[start:] for start in range(COPIED_WORDS)), strict=False)


def _same(one: set[str], two: set[str]) -> bool:
    return bool(one and two) and len(one & two) >= SAME_SENTENCE * len(one | two)


def _loop(words: list[str]) -> str | None:
    """Three or more words at once again, or fewer for the third time: half and half is one thing."""
    for index in range(len(words)):
        for size in range(1, LONGEST_LOOP + 1):
            run = words[index : index + size]
            content = set(run) - GRAMMAR
            times = 2 if size > 2 and len(content) > 1 else 3
            if content and words[index : index + times * size] == run * times:
                return " ".join(run * times)
    return None


def _action_twice(sentences: list[list[str]]) -> str | None:
    """A verb with its object, in whatever form, for the second time."""
    seen: set[tuple[str, str]] = set()
    for words in sentences:
        for index, (verb, determiner) in enumerate(pairwise(words)):
            if determiner not in DETERMINERS or verb in NO_ACTION or not verb.endswith(("s", "ed", "ing")):
                continue
            named = _phrase(words[index + 2 :])
            action = (_stem(verb), _stem(named[-1])) if named else None
            if action in seen:
                return " ".join([verb, determiner, *named])
            if action:
                seen.add(action)
    return None


def _phrase(words: list[str]) -> list[str]:
    """The words of an object, up to what can be no part of it: a slice of white bread."""
    for count, word in enumerate(words):
        if word != "of" and (word in GRAMMAR or word in DETERMINERS or word.endswith("ly")):
            return words[:count]
    return words


def _stem(word: str) -> str:
    """A word without the endings of number and tense, alike for all its forms rather than right."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e")
