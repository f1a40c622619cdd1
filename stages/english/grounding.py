"""Check a language model's actions against the spoken words.

Words agree when they are spelled nearly alike, so that a corrected mis-hearing or another tense still
counts. Amounts and negations must all be there, and no others: one of them turns the action into another,
whatever share of the words it is. Text that passes was spoken, whatever the model was told.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

from stages.english.amounts import Reading, read

LEAD_INS = re.compile(
    r"^(?:(?:um+|uh+|er+|hm+|so|okay|ok|now|well|and|then|alright|all right|right|next|"
    r"first of all|first|finally|lastly|you know|basically|like)\b[\s,.]+)+",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
SAME_WORD = 0.7
"""Likeness of spelling, as difflib measures it, from which two words are one: sliced and slice."""
# A rewrite may add these; any other word, a preposition included, would say something new.
ADDED_FREELY = frozenset("a an and is it that the them then this".split())
# A rewrite may leave these out: they carry grammar and talk, not content.
DROPPED_FREELY = frozenset(
    "a an and are as at be been before but by can do does for from get go going gonna had has have i "
    "if in into is it its just let like me my of off on onto or our out over so some that the their "
    "them then there these they this to up us want was we well were what when while will with would "
    "you your now here okay really very all until too also he she need needs should make made i'm "
    "we're you're it's i've let's that's gotta got take want start think actually little bit kind "
    "sort thing things".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingLimits:
    """Bounds on the difference between an action's words and the spoken ones.

    Attributes:
        max_invented: share of an action's content words that need not have been spoken in its lines.
        max_lost: share of the lines' content words that an action may leave out.
    """

    max_invented: float
    max_lost: float


def grounded(texts: Sequence[str], spoken: str, limits: GroundingLimits) -> bool:
    """Return whether actions together say what was spoken: nothing invented, nothing lost.

    Each must keep to the spoken words by itself; amounts, negations and content may be spread over
    them, and each amount must be in one of them.

    Args:
        texts: the actions made of the same lines; usually one.
        spoken: those lines.
    """
    said = read(LEAD_INS.sub("", spoken))
    wrote = [read(text) for text in texts]
    amounts: Counter[tuple[Fraction | str, str]] = sum((each.decisive for each in wrote), Counter())
    content = [word for word in said.words if word not in DROPPED_FREELY]
    if amounts != read(spoken).decisive or not content or _leave_present(texts, said):
        return False
    lost = unlike(content, [word for each in wrote for word in each.words])
    return len(lost) <= limits.max_lost * len(content) and all(
        _invents_little(each, said, limits.max_invented) for each in wrote
    )


def _invents_little(wrote: Reading, said: Reading, limit: float) -> bool:
    news = [word for word in wrote.words if word not in ADDED_FREELY]
    return bool(news) and len(unlike(news, said.words)) <= limit * len(news)


def _leave_present(texts: Sequence[str], said: Reading) -> bool:
    """Return whether an action begins with another form of a verb whose plain form was spoken."""
    verbs = [words[0] for text in texts if (words := read(text).words)]
    return any(
        verb not in said.words
        and verb.endswith(("ed", "ing"))
        and any(len(word) > 2 and verb.startswith(word) for word in said.words)
        for verb in verbs
    )


def unlike(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the words without a near spelling among the others; numbers must be equal."""
    return [
        word
        for word in words
        if word not in others
        and (_DIGIT.search(word) or not get_close_matches(word, others, n=1, cutoff=SAME_WORD))
    ]


def same_action(text: str, other: str) -> bool:
    """Return whether two actions differ only in articles, case, plurals and the form of amounts."""
    return _core(text) == _core(other)


@functools.lru_cache(maxsize=256)  # An action is compared with all that were said shortly before it.
def _core(text: str) -> tuple[Counter[tuple[Fraction | str, str]], list[str]]:
    reading = read(text)
    return reading.decisive, [word.removesuffix("s") for word in reading.words if word not in ADDED_FREELY]
