"""Place of an action in the speech: the words that say it, and when they were spoken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean

from stages.english.amounts import UNITS, is_amount
from stages.english.clauses import tokens, two_orders
from stages.english.grounding import DROPPED_FREELY, unlike
from stages.records import Interval, Sentence, Word


def in_english(sentence: Sentence) -> str:
    """Return the sentence that actions are made from: the English version if there is one."""
    return sentence.english or sentence.text


def one_each(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Cut sentences that tell several things to do, each part with the time of its own words.

    Where the words' times are not known, the parts keep the sentence's.
    """
    return list(chain.from_iterable(_parts(sentence) for sentence in sentences))


def _parts(sentence: Sentence) -> list[Sentence]:
    parts: list[Sentence] = []
    while (cut := two_orders(in_english(sentence))) is not None:
        first, rest = (part.strip(" ,") for part in cut)
        part, sentence = _divided(sentence, first, rest)
        parts.append(part)
    return [*parts, sentence]


def _divided(sentence: Sentence, first: str, rest: str) -> tuple[Sentence, Sentence]:
    if sentence.english:
        return replace(sentence, english=first), replace(sentence, english=rest)
    if len(sentence.words) != len(sentence.text.split()):
        return replace(sentence, text=first), replace(sentence, text=rest)
    before, after = sentence.words[: len(first.split())], sentence.words[-len(rest.split()) :]
    return _of_words(sentence, first, before), _of_words(sentence, rest, after)


def _of_words(sentence: Sentence, text: str, words: list[Word]) -> Sentence:
    where = _span(words)
    return replace(
        sentence,
        start_s=where.start_s,
        end_s=where.end_s,
        text=text,
        words=words,
        confidence=_confidence(words),
    )


def said_by(text: str, sentences: Sequence[Sentence]) -> tuple[Interval, float]:
    """Return when an action's words were spoken, and the recogniser's confidence in them.

    From the first to the last content word that the action has too, with the small words around them that
    it has as well: "okay so now" before it is left out, "it over" after "flip" is not. Without words'
    times, the sentences' own.

    Args:
        text: the action.
        sentences: those that say it, in order of time; at least one.
    """
    words = list(chain.from_iterable(sentence.words for sentence in sentences))
    wrote = tokens(text)
    units = {UNITS[word] for word in wrote if word in UNITS}
    told = [tokens(spoken.text) for spoken in words]
    hits = [
        at
        for at, spoken in enumerate(told)
        if any(is_amount(word) or UNITS.get(word) in units or _says(word, wrote) for word in spoken)
    ]
    if not hits or not all(sentence.words and not sentence.english for sentence in sentences):
        where = Interval(start_s=sentences[0].start_s, end_s=max(each.end_s for each in sentences))
        return where, round(fmean(sentence.confidence for sentence in sentences), 4)
    first, last = hits[0], hits[-1]
    while first > 0 and told[first - 1] and set(told[first - 1]) <= set(wrote):
        first -= 1
    while last + 1 < len(told) and told[last + 1] and set(told[last + 1]) <= set(wrote):
        last += 1
    return _span(words[first : last + 1]), _confidence(words[first : last + 1])


def _says(word: str, wrote: Sequence[str]) -> bool:
    return word not in DROPPED_FREELY and not unlike([word], wrote)


def _span(words: Sequence[Word]) -> Interval:
    return Interval(start_s=words[0].start_s, end_s=max(word.end_s for word in words))


def _confidence(words: Sequence[Word]) -> float:
    return round(fmean(word.confidence for word in words), 4)
