"""Tell instructions from greetings, advertising, chatter and bare amounts.

Lexical on purpose: it knows no topic, costs a fraction of a millisecond a line and can be read. It drops
only what it recognises; a line that it cannot place is kept, since a lost step costs more than a remark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stages.english.amounts import UNITS, is_amount
from stages.english.clauses import ADJECTIVES, Says, clauses, says, tokens
from stages.english.phrases import ANNOUNCED, CHATTER, GREETING, HELLO, INTERJECTIONS, SPONSOR
from stages.english.verbs import BASE_OF, BASES, NOUNS_TOO, PARTICIPLES
from stages.reasons import Reason

MAX_CHARACTERS = 2000
"""Nobody says so much in one line; what is longer is not looked into."""

_ABOUT = frozenset(
    """
    about a an and another around approximately roughly maybe just some only probably like say
    nearly almost exactly plus for at to or of so up over under by between good nice heaping level
    large small medium um uh er like so and then well okay oh big little whole more least most until in more
    """.split()
)
_VAGUE = frozenset(
    "bit bunch couple dash drizzle drop few handful knob pinch sliver splash sprinkle touch".split()
)
_NO_PHRASE = frozenset(
    """
    i we you they he she it is are was were be will can should go goes going went then that's it's them this
    that these
    """.split()
)
_PLACED = frozenset("in into off on onto out over together up".split())
_ASKED = re.compile(
    r"^(?:how|what|why|who|where|isn't|aren't|ain't|are you|can you (?:see|believe)|guess)\b"
)
_TODAY = re.compile(
    r"\b(?:today|tonight|in this (?:video|episode|tutorial|one)) (?:i|we|i'm|we're|i'll|we'll|you'll)\b"
)
_STOP = re.compile(r"(?<=[.!?;:…])\s")
# Bare verbs that follow in the same breath hang on these: how to fry, bake; they would churn and bake.
_GOVERNS = re.compile(r"\bhow to [a-z]+$|\b(?:they would|they'd) [a-z]|^people [a-z]")
# What comes before a list of what is needed.
_LISTED = re.compile(
    r"^(?:(?:so|and|now|okay|um|uh|well|then|basically) )*(?:for (?:this|the|my|our|your)? ?[a-z]+ )?(?:"
    r"(?:(?:what|all|everything) )?(?:you|we|i)(?:'ll|'re|'ve|'d| will| are| would)? (?:also |"
    r"just |only |gonna |going to |be |probably )*(?:need(?:ing)?|have|got|have got)(?: is| are)?|"
    r"that(?:'s|'ll be| is)|it's|(?:here|there)(?:'s| is| are|(?: we| i)?(?:'ve| have)(?: got)?)"
    r") (?=\S)"
)
_INGREDIENTS = re.compile(
    r"^(?:(?:so|and|now|okay) )*(?:(?:here|these|those|there)(?:'s| are| is) )?(?:all |the |"
    r"my |our |your |of )*"
    r"(?:ingredients?|measurements|quantities|amounts)(?: list| (?:are|is) (?:on|listed|below|as|at|these)|"
    r" (?:that )?(?:you|we|i)(?:'ll| will)? (?:need|use|used|be using)(?! to)|$)"
)
_YIELDS = re.compile(
    r"^(?:and |so )*(?:it |this |that |(?:this|the|my) (?:recipe|batch) )?(?:serves|feeds|"
    r"yields|(?<= )makes) "
    r"(?:about |around |up to |roughly |approximately |enough for )*(?:a |an )?(\w+)\b"
)
_HEAT = re.compile(
    r"^(?:(?:on|over|about|around|at|a|like|so|um|just) )*(?:(?:very|medium|high|low|gentle|"
    r"moderate|full)[ -]?(?:to )?)+"
    r"(?:heat|flame|speed|setting|temperature)$"
)


def why_not(text: str) -> Reason | None:
    """Return why a text says nothing that is done; None if it may.

    Args:
        text: English, as it was spoken or written.

    Returns:
        GREETING (to viewers, and what asks them to watch, like, subscribe and share), SPONSOR,
        BARE_AMOUNT (an amount or a time without anything done), CHATTER, or None.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    said = _of_clauses(text)
    if not said:
        return Reason.CHATTER
    whole = " ".join(" ".join(piece for piece, _ in said).split())
    greets = bool(HELLO.search(whole) or GREETING.search(whole))
    advertises = any(reason is Reason.SPONSOR for _, reason in said)
    if bare_amount(whole):
        return Reason.BARE_AMOUNT
    for piece, reason in said:
        # "Chop less, cook more" is a slogan beside an advertisement; "today we're changing the brakes"
        # beside "hello" is an announcement.
        slogan = advertises and len(tokens(piece)) < 3
        if reason is None and not slogan and not (greets and _TODAY.search(piece)):
            return None
    found = [reason for _, reason in said]
    if SPONSOR.search(whole):
        return Reason.SPONSOR
    if needed(whole):
        return Reason.BARE_AMOUNT
    if greets or Reason.GREETING in found:
        return Reason.GREETING
    if _asked(text) or Reason.CHATTER in found:
        return Reason.CHATTER
    things = all(_no_verb(tokens(piece)) for piece, reason in said if reason is Says.UNCLEAR)
    return Reason.BARE_AMOUNT if Reason.BARE_AMOUNT in found and things else None


def _of_clauses(text: str) -> list[tuple[str, Reason | Says | None]]:
    """Classify each clause; its neighbours in the same breath may decide."""
    found: list[tuple[str, Reason | Says | None]] = []
    for sentence in _STOP.split(text):
        governed = listed = False
        for piece in clauses(sentence):
            reason = _of_clause(piece)
            if governed and reason is None and tokens(piece)[0] in BASES:
                reason = Reason.CHATTER
            else:
                governed = _GOVERNS.search(piece) is not None
            if reason is None and listed and _is_thing(piece):
                reason = Reason.BARE_AMOUNT
            listed = reason is Reason.BARE_AMOUNT or (listed and reason is Says.UNCLEAR)
            found.append((piece, reason))
    return found


def _of_clause(clause: str) -> Reason | Says | None:
    """Return None if something is done; UNCLEAR if unknown; otherwise why not."""
    if SPONSOR.search(clause):
        return Reason.SPONSOR
    if GREETING.search(clause):
        return Reason.GREETING
    if ANNOUNCED.search(clause):
        return Reason.CHATTER if clause.startswith(("that ", "that's ")) else Reason.GREETING
    if set(tokens(clause)) <= INTERJECTIONS or CHATTER.search(clause):
        return Reason.CHATTER
    if bare_amount(clause) or needed(clause):
        return Reason.BARE_AMOUNT
    said = says(HELLO.sub("", clause).strip())
    if said is Says.DOING:
        return None
    return Reason.CHATTER if said is Says.STATE or _ASKED.search(clause) else Says.UNCLEAR


def _asked(text: str) -> bool:
    return text.rstrip().endswith("?")


def needed(text: str) -> bool:
    """Return whether a text only lists ingredients, or says how much results: it serves four."""
    if _INGREDIENTS.search(text) or _HEAT.search(text):
        return True
    yields = _YIELDS.search(text)
    if yields and (is_amount(yields[1]) or yields[1] in ("dozen", "couple")):
        return True
    lead = _LISTED.search(text)
    if not lead:
        return False
    things = text[lead.end() :]
    if bare_amount(things):
        return True
    words = tokens(things)
    counted = any(is_amount(word) or word in UNITS for word in words)
    several = len(clauses(things)) > 2 or "and" in words
    return (counted or several) and "some a an the".split().count(words[0]) > 0 and _no_verb(words)


def bare_amount(text: str) -> bool:
    """Return whether a text is only amounts, times or temperatures, with at most things: one egg."""
    words = tokens(text)
    start = next((at for at, word in enumerate(words) if word not in _ABOUT), len(words))
    article = start > 0 and words[start - 1] in ("a", "an", "another")
    rest = words[start:]
    if not rest or not (is_amount(rest[0]) or (article and (rest[0] in UNITS or rest[0] in _VAGUE))):
        return False
    if rest[0] == "one" and rest[1:2] and rest[1] in ("of", "thing", "way", "day", "time", "more"):
        return False
    # What has no verb that is known may have another: so many words for each amount, no more.
    return len(words) <= 3 + 6 * max(1, sum(map(is_amount, rest))) and _no_verb(rest[1:])


def _is_thing(piece: str) -> bool:
    """Return whether a piece of a list is a thing with its property: brown sugar."""
    words = tokens(piece)
    return (
        len(words) == 2
        and words[0] in ADJECTIVES
        and not words[1].endswith("ly")
        and (words[1] not in BASE_OF and words[1] not in ("it", "them", "up", "down", "off", "well", "out"))
    )


def _no_verb(words: Sequence[str]) -> bool:
    """Return whether the words hold no verb, except as the name of a thing: warm water."""
    if _NO_PHRASE & set(words):
        return False
    for at, word in enumerate(words):
        following = "".join(words[at + 1 : at + 2])
        base = BASE_OF.get(word)
        if base is None or word in UNITS:
            continue
        if word in PARTICIPLES:
            # "Chopped onions", but "two cups of milk poured in".
            if word not in BASES and following in _PLACED:
                return False
            continue
        if base not in NOUNS_TOO | ADJECTIVES or following in ("the", "your", "my", "it", "them"):
            return False
    return True
