"""Spoken clauses: where one ends, and whether it says that something is done.

There is no grammar behind this, only closed word lists and the order of words, so it costs little and
says why. Where it cannot tell it says so, and nothing is dropped for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from stages.english.verbs import BASE_OF, BASES, NOUNS_TOO, PARTICIPLES

TOKEN = re.compile(r"\d+(?:[.,/]\d+)*|[¼-¾⅐-⅞]|[^\W\d_]+(?:['-][^\W\d_]+)*")
_ENDS = re.compile(r"[.!?;:…]+(?:\s|$)|[,—–]|\b(?:and|but|then|so|because|or)\b")
# What may stand before the verb that says what is done.
_FRAMES = re.compile(
    r"^(?:"
    r"(?:make|be) (?:absolutely |very |really )?(?:sure|careful|certain)(?: that| to| not to)?|"
    r"(?:don't|do not|never|not) forget to|(?:always )?remember(?: that)? to|"
    r"(?:all|what|the thing) (?:that )?(?:i|we|you)(?:'ll|'d|'re|'m)? (?:[a-z']+ ){0,5}?"
    r"(?:do|doing|does)(?: here| now| then| next)? is|"
    r"(?:the )?(?:next|first|second|third|last|final|only|other) (?:thing|step|part)\b.{0,40}? (?:is|was)|"
    r"(?:i|we|you)(?:'ll|'d)? (?:like|love|prefer|want|need|have|try|get|got|ought|tend|decided|plan) to|"
    r"(?:it )?(?:wants|needs|has|ought|helps?) to|"
    r"(?:start|starting|begin|beginning|finish|end)(?: off| out| up)? (?:by|with)(?= [a-z]+ing\b)|"
    r"(?:start|begin|keep|continue|keep on|finish)(?= (?!evening|morning)[a-z]+ing\b)|"
    r"(?:go|going|went) (?:ahead|in|back|around|on|over)(?: in| here)? (?:and|to)|"
    r"(?:go ahead|come back|come in|it's time|time|the idea is|the trick is|try|begin|start|continue) to|"
    r"(?:go ahead|go|come|try) and|go ahead|let(?:'s| us| me)|be sure you|"
    r"the (?:way|trick|key|secret|idea|goal)\b.{0,30}? is (?:to|that you|you|i|we|i'll)|"
    # Somebody who helps is at work; what they like or always do is chatter.
    r"(?:my|our) (?:wife|husband|son|daughter|mom|mum|dad|brother|sister|friend|partner|"
    r"kids?)(?:'s| is| are)"
    r"(?= (?:now |just )?[a-z]+ing\b)"
    r")\b ?"
)
_SKIPPED = frozenset(
    """
    a actually again ahead all almost already also always am and are around as at away basically be
    been before being both but by can carefully could deep did do does doing don't didn't doesn't
    down each either everybody everyone first five from gently go going gonna gotta guys had has
    have having he he'll he's her here his how i i'd i'll i'm i've immediately instead it's is it
    it'll just kind later let like lastly literally maybe might must my never next not now nice of
    off okay ok on once one only or our out over please pretty probably quick quickly quite really
    right second should she she's simply slightly slowly so some sometimes somewhere sort still that
    then there these they they'll they're they've third this those though through to today together
    too twice um uh up us usually very wanna want was we we'd we'll we're we've well were what when
    which while who will with won't would y'all yet you you'd you'll you're you've your alright
    finally oh hm
    """.split()
)
_LEAD = frozenset(
    """
    again also always and can could first going gonna guys here i i'll i'm just next now okay
    please really she
    he should then they to we we'll we're will you you'd you'll you're
    """.split()
)
_SUBORDINATE = frozenset(
    """
    about above across after against along around as at before behind below beneath beside between by
    despite during for from if in inside instead into like near on once onto outside over since through
    till to toward towards under unless until upon using when whenever where whether while with within
    without
    """.split()
)
_BEFORE_NOUN = frozenset(
    """
    a an another any both each every half her his its my no our some that the their these this those
    your
    """.split()
)
_OBJECT = _BEFORE_NOUN | frozenset("it them one two three four five six another".split())
_BE = frozenset(
    """
    am are be been being is was were isn't aren't wasn't weren't i'm it's that's they're we're
    you're he's she's there's here's what's who's gets got
    """.split()
)
_HAVE = frozenset("have has had i've we've you've".split())
_IS_OR_HAS = _BE | frozenset("did find go had has have i've took you've we've they've".split())
# Verbs of seeing, thinking, feeling, owning and talking; nouns that come before "the".
STATES = frozenset(
    """
    accept admit afford amaze apologise apologize argue arrive buy buying buys complain deal decide
    deserves guarantee happens impress inspire intend invest invite lie listen offer
    offers paid pay paying pays pray pretend purchase purchased recommends regret rely represent
    require requires sell selling sells sold spend spending spent surprise vary worth
    agree appreciate appreciated appear appears assume assumed ask asked asks be became become becomes
    believe believed belong belongs bet bother brought call called calls came can't care cares come
    comes coming consider contain contains cost costs couldn't deserve die died doubt dream eat eaten
    eating eats ate enjoy depend depends enjoyed enjoying enjoys exist explain explained explaining
    expect expected feel feeling feels felt fell finding finds forget forgot forgotten found gave
    getting given gives goes gone grew grow guess guessed happen happened happens hate hated hates hear
    heard hears help helped helping helps hope hoped hoping hopes hurt hurts ignore imagine keeps kinda
    knew know knowing known knows laugh lasts learn learned learning learnt liked likes live lived lives
    look looked looking looks lose lost love loved loves loving matter matters mean meaning means meant
    mention mentioned mind miss missed move need needed needing needs noticed notice owe own owned owns
    post posted posting prefer preferred prefers promise promised realise realize realized recommend
    recommended remember remembered reminds said saw say saying says see seeing seem seemed seems seen
    shout show showed showing shown shows smell smelled smelling smells sound sounded sounds speak
    speaking spoke stand struggle subscribe subscribed suggest suppose supposed sure swear talk talked
    talking talks tastes tasted taught teach teaching tell telling tells thank thanks think thinking
    thinks thought told trust try trying tried turned understand understood understands used visit
    visited waited wanted wanting wants watch watched watching welcome went wish wished wonder wondered
    wondering worked works worry wrote yields
    """.split()
) - frozenset("brought move saw turned".split())
# They say that something is done only with a thing that it is done to.
_WEAK = frozenset(
    """
    charge check clear color copy cover double draw drive finish fit get hand keep leave light make
    move play run store take test turn use wait
    """.split()
)
# The same, where the thing comes right after them: "work the dough", but "work at home".
_WEAKER = frozenset("even find give taste work write".split())
# Closed classes that no list of verbs needs: what they stand before is not done to anything.
_WILL = frozenset("gonna will i'll we'll you'll".split())
_NO_VERBS = frozenset(
    """
    although besides bonjour cause ciao enough except few hola however least less many maybe more most
    much past per plus several such than though via what whereas
    """.split()
)
ADJECTIVES = frozenset("brown clean close cool dry empty open separate slim smooth warm wet".split())
_GOES = re.compile(
    r"\b(?:go|goes|going|went|gone) (?:right |straight |back |all |on )?"
    r"(?:in|into|inside|onto|over|around|under|through|on (?:top|the))\b(?! (?:it|depth|detail))|"
    r"^(?:and |then |now |here |next )*(?:in|on|off|out|down|back|up) (?:go|goes|went|come|comes|came)\b|"
    r"^(?:and |then |now |so )*there (?:go|goes) (?:the|our|my|your|some|in|on)\b|"
    r"\b(?:let|letting) (?:\w+ ){1,3}?go (?:for|until|till|another|a (?:few|couple))\b"
)
_GIVEN = re.compile(r"\bgiv(?:e|es|ing) (?:\w+ ){0,3}?an?(?:other)? ((?:\w+ ){0,2}\w+)")
_JOINS = re.compile(r",? and then |,? and |, then | then ")
_NOT_CUT = frozenset("not never no without if unless either".split())
_CONDITION = re.compile(
    r"(?:\W*(?:and|so|okay|ok|now|well|then)\b\W*)*(?:when|while|once|after|before|until|as|to)\b"
)
# Work that is mentioned in passing: "the bolts that I already took out".
_ASIDE = re.compile(
    r"\b(?:i|we|you)(?:'ve)? (?:have )?already (\w+)|\bthat (?:i'm|we're|i am|we are) (\w+ing)\b"
)
# What is done, or done with, is what is spoken of: cooking low and slow is better.
_GERUND = re.compile(
    r"^(?:and |but |so |now )*(?!making sure|during|nothing|everything|thing|string|bring|"
    r"wing|spring)[a-z]{3,}ing "
    r"(?:(?!until|till|while|once|when|so|that|which|who|if|where)[a-z'-]+ ){0,5}?"
    r"(?<!it )(?<!they )(?<!this )(?:is|was|takes|makes|means|helps|requires|gives|brings|"
    r"always|never|really)\b"
)
# What a thing does of itself: it takes ten minutes, it keeps well, this makes a good gift.
_OF_ITSELF = re.compile(
    r"^(?:and |but |so |now |then )*(?:it|that|this|which) (?:also |just |only |really |still |always )*"
    r"(?:(?:will|would|can|could|may|might) (?:also |just |only |really |still )*)?"
    r"(?:(?:leave|run|make|take|keep|work|save|last|sell)s?|took|cost)\b(?! (?:it|"
    r"them) (?:off|out|down|apart)\b)"
)
_QUESTION = re.compile(
    r"^(?:and |but |so |now |well |okay )*(?:"
    r"(?:is|was|are|were|does|did) (?:it|this|that|these|those|there|they|he|she|you|your|the|"
    r"anyone|anybody)|"
    r"do (?:you|they|we|i)|have you|has (?:it|anyone)|should (?:i|we|you|it)|(?:would|will|"
    r"can) (?:it|they|i)|"
    r"(?:why|who)|what (?:do|does|did|if|about|kind|would|else|happens)|how (?:do|does|did|many|much|come|"
    r"cool|good|great|easy|often|about that))\b"
)
_PLACED = frozenset("at for from in into on onto over through to until under with".split())
_LET = re.compile(r"\b(?:let|letting) (?:it|them|this|that|(?:the|your|our) \w+) ((?:\w+ ){0,2}\w+)")


class Says(Enum):
    """Reading of a clause, as far as its words tell."""

    DOING = "doing"
    STATE = "state"
    UNCLEAR = "unclear"


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return TOKEN.findall(text.lower().replace("’", "'"))


def clauses(text: str) -> list[str]:
    """Pieces between stops, commas and conjunctions, in lower case, without empty ones."""
    lowered = " ".join(text.lower().replace("’", "'").split())
    return [piece.strip() for piece in _ENDS.split(lowered) if TOKEN.search(piece)]


def says(clause: str) -> Says:
    """Classify a clause: an instruction or a report of work, a state, or unclear.

    Args:
        clause: as :func:`clauses` gives them.
    """
    if any(pattern.search(clause) for pattern in (_QUESTION, _OF_ITSELF, _GERUND)):
        return Says.STATE
    words = TOKEN.findall(_without_frames(clause))
    aside = _ASIDE.search(clause)
    if aside and (aside[1] in PARTICIPLES - STATES or BASE_OF.get(aside[2], "make") not in _WEAK):
        return Says.DOING
    given = _GIVEN.search(clause) or _LET.search(clause)
    if _GOES.search(clause) or (given and not BASES.isdisjoint(given[1].split())):
        return Says.DOING
    if not words:
        return Says.UNCLEAR
    if words[0] in _SUBORDINATE and _anywhere(words[1:]):
        return Says.DOING
    start = next((at for at, word in enumerate(words) if word not in _SKIPPED and not _adverb(word)), None)
    if start is None:
        return Says.STATE if _IS_OR_HAS.intersection(words) else Says.UNCLEAR
    before, head, after = words[:start], words[start], words[start + 1 :]
    if _does(head, before, after):
        return Says.DOING
    return _statement(words, start)


def _without_frames(clause: str) -> str:
    words = clause
    while True:
        shorter = _FRAMES.sub("", _without_lead(words), count=1)
        if shorter == words or not shorter:
            return words
        words = shorter


def _without_lead(clause: str) -> str:
    """Without subjects, helping verbs and adverbs that come before a frame."""
    words = clause.split(" ")
    at = 0
    while at < len(words) - 1 and words[at] in _LEAD:
        at += 1
    rest = " ".join(words[at:])
    return rest if at and _FRAMES.match(rest) else clause


def _does(head: str, before: Sequence[str], after: Sequence[str]) -> bool:
    """Tell whether the first word that can be a verb is one of doing, used as one."""
    following = after[0] if after else ""
    if head in STATES or following in _BE or following in STATES or (head, following) == ("cast", "iron"):
        return False
    helper = next((word for word in reversed(before) if not _adverb(word)), "")
    if helper in _BEFORE_NOUN or (helper in ("it's", "that's") and head.endswith("ing")):
        return False
    if helper in _BE and not head.endswith("ing") and head not in PARTICIPLES:
        # It is clean, that was close.
        return False
    if helper in _HAVE and (head not in PARTICIPLES or head == "got"):
        # "We've got carrots" does nothing to them; "we've got them roasting" does.
        return head == "got" and any(word.endswith("ing") and word in BASE_OF for word in after)
    if not before and not after and head in PARTICIPLES - BASES:
        # "Fresh or frozen."
        return False
    base = BASE_OF.get(head)
    if base is None:
        # A verb that is not listed: what comes before "the onions" or "it" at the start is one.
        return following in _OBJECT and head not in _BE | _SUBORDINATE | _NO_VERBS and not head[0].isdigit()
    if base in _WEAKER:
        # "Find the edge" is an order, "you can find the recipe" is none.
        return following in _OBJECT and not (base == "find" and before)
    if base in _WEAK:
        return bool(after)
    return bool(after) or base not in NOUNS_TOO | ADJECTIVES


def _statement(words: Sequence[str], start: int) -> Says:
    """Classify a clause whose subject is a thing: passive, reported, or a state."""
    for at in range(1, len(words)):
        word, previous = words[at], words[at - 1]
        if word in PARTICIPLES and _helped(words[:at]):
            return Says.DOING
        told = (
            word.endswith("s") and word in BASE_OF and word not in BASES and BASE_OF[word] not in NOUNS_TOO
        )
        if (
            told
            and word not in STATES
            and previous not in _BEFORE_NOUN
            and at > start
            and BASE_OF[word] not in _WEAK
        ):
            # "The chef whisks the eggs", but "steel heats evenly".
            return Says.STATE if _how(words[at + 1 :]) else Says.DOING
    if any(word in _IS_OR_HAS or word in STATES for word in words):
        return Says.STATE
    return Says.UNCLEAR


def _how(after: Sequence[str]) -> bool:
    """Return whether a clause says how rather than what."""
    return bool(after) and (_adverb(after[0]) or after[0] in ("like", "really", "so", "very", "well"))


def _helped(words: Sequence[str]) -> bool:
    """Tell whether a form of ``be`` comes right before, adverbs aside."""
    for word in reversed(words):
        if word in ("is", "are", "was", "were", "be", "been", "gets", "being", "get"):
            return True
        if not (_adverb(word) or word in ("then", "just", "also", "now", "not", "all", "both")):
            return False
    return False


def _anywhere(words: Sequence[str]) -> bool:
    """Return whether an instruction follows an opening like ``when it is hot``."""
    for at, word in enumerate(words):
        base = BASE_OF.get(word)
        previous = words[at - 1] if at else ""
        if (
            base is None
            or word in STATES
            or previous in _BEFORE_NOUN
            or (word == "got" and previous in _HAVE)
        ):
            continue
        if previous in _WILL:
            return True
        following = words[at + 1] if at + 1 < len(words) else ""
        if base not in _WEAK and (base not in NOUNS_TOO or following in _OBJECT):
            return True
        if base in _WEAK and following in _OBJECT:
            return True
    return False


def _adverb(word: str) -> bool:
    return (
        word.endswith("ly")
        and len(word) > 4
        and word not in BASE_OF
        and word not in ("family", "jelly", "belly")
    )


def two_orders(text: str) -> tuple[str, str] | None:
    """Cut a line with two instructions where that is safe: chop it and fry it.

    Both parts must have a plain verb of their own and what it is done to: "peel and chop the onion" is
    one action, and so is what hangs on a condition or a negation.

    Returns:
        what comes before the first such cut, and what comes after it; None where there is none.
    """
    lowered = text.lower().replace("’", "'")
    for cut in _JOINS.finditer(lowered):
        before, after = lowered[: cut.start()], lowered[cut.end() :]
        if _is_order(before) and _begins_with_order(after):
            return text[: cut.start()], text[cut.end() :]
    return None


def _is_order(text: str) -> bool:
    words = TOKEN.findall(_without_frames(text.strip()))
    start = next(
        (at for at, word in enumerate(words) if word not in _SKIPPED and not _adverb(word)), len(words)
    )
    verb, object_ = words[start : start + 1], words[start + 1 :]
    if not object_ or verb[0] not in BASES or _CONDITION.match(text):
        return False
    if any(word in _NOT_CUT or word.endswith("n't") for word in TOKEN.findall(text)):
        return False
    return _does(verb[0], words[:start], object_)


def _begins_with_order(text: str) -> bool:
    verb, following, *_ = [*TOKEN.findall(text)[:2], "", ""]
    if verb not in BASES:
        return False
    placed = following in _PLACED or _adverb(following)
    return following in _OBJECT - {"one"} or (placed and verb not in NOUNS_TOO)
