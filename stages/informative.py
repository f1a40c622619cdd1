"""Whether what is said tells somebody to do something, or is greeting, advertising, chatter, an amount.

Lexical on purpose: it knows no topic, costs a fraction of a millisecond a line and can be read. It drops
only what it recognises; a line that it cannot place is kept, since a lost step costs more than a remark.
"""

from __future__ import annotations

import re

from stages.amounts import UNITS, is_amount
from stages.clauses import Says, clauses, says, tokens
from stages.records import Reason
from stages.verbs import BASE_OF, NOUNS_TOO, PARTICIPLES

MAX_CHARACTERS = 2000
"""Nobody says so much in one line; what is longer is not looked into."""


def _phrases(lines: str) -> re.Pattern[str]:
    """Any of the patterns, one or more a line; a line goes on after a backslash."""
    joined = re.sub(r"\\\n\s*", "", lines)
    return re.compile("|".join(filter(None, map(str.strip, joined.splitlines()))))


_SPONSOR = _phrases(r"""
    \bsponsor|\baffiliate|\bpatreon\b|\betsy\b|\bmerch\b|\bwww\b|\bdot com\b|[a-z]\.com\b
    \b(?:promo|discount|coupon|referral) code\b|\b(?:use|enter|type in|with) (?:my |the |our )?code\b
    \b(?:\d+|five|ten|fifteen|twenty|thirty|forty|fifty) (?:percent|%) off\b|\d% off\b
    \bpartner(?:ed|ing|ship)? with\b|\bpaid promotion\b|\bbrought to you by\b
    \b(?:sent|send|gifted) (?:me|us) (?:this|these|the|a|an|some)\b
    \b(?:free|exclusive) (?:trial|shipping|delivery|gift|sample)
    \b(?:box|month|order|week|bottle) (?:for )?free\b
    \bon amazon\b|\bfor sale\b|\bin stores\b|\bcheckout\b|\b(?:order|buy) (?:now|yours|today)\b|\
        \bsign up\b
    \bweb ?sites?\b|\b(?:pre-?order|giveaway|newsletter)
    \b(?:my|our|the) (?:cookbook|new book|app|online (?:store|shop|course))\b(?! to\b)
    \b(?:visit|(?:head )?over (?:to|at)|go to|check out|find \w+ (?:at|on)) (?:my|our|their) (?:store|\
        shop|site)\b
    \blinks? (?:is |are |will be |right |down |just )*(?:in|below|down|to|for)\b
    \bclick (?:on )?(?:the|that|this|my|our) links?\b|\bdescription (?:box|below)|\bin the description\b
""")
_GREETING = _phrases(r"""
    \bsubscrib(?:e|ed|er|ers|ing)\b|\bthumbs?[ -]?up\b|\bbig thumbs?\b|\bgive (?:a |up a |it a )?thumbs?\b
    \b(?:like|notification|subscription) (?:button|bell)\b|\bthe bell(?: icon| button)?$
    \bring (?:the|that) (?:\w+ )?bell\b|\b(?:my|our|this|youtube|your) channels?\b
    \b(?:to|on|support|from) the channel\b|\b(?:thanks|thank you|thank y'all)\b
    \b(?:hit|smash|press|click) (?:the |that )?(?:like|follow)\b
    \b(?:give|drop|leave) (?:this video |it |us |me )?a like\b|\b(?:rate|like) comment\b
    \b(?:in|down in|to) the comments?\b|\bcomments? (?:below|section|down)\b
    \b(?:leave|drop|post|write) (?:me |us )?(?:a|your|any|some) (?:comments?|questions?)\b
    \bfollow (?:me|us)\b|\b(?:facebook|instagram|twitter|tiktok|pinterest|snapchat|youtube)\b
    \bsocials\b|\bsocial media\b|\bshare (?:it|this|the|our|my) ?(?:video|recipe)?s?(?: with|$)
    \b(?:see|catch|meet) (?:you|ya|y'all)(?: guys| all| again)*$
    \b(?:see|catch|meet) (?:you|ya|y'all)(?: guys| all| again)* (?:next|soon|later|then|tomorrow|again)\b
    \b(?:see|catch|meet) (?:you|ya|y'all)(?: guys| all| again)* in (?:the|(?:my|our|another) next)\b
    \b(?:until|till) (?:next time|then$)|\bwelcome (?:back|to|everyone|everybody|friends|guys)\b|\
        ^welcome\b
    \bmy name(?: is|'s)\b|\b(?:bye|goodbye|bye-bye|good night|see ya|peace out|take care)\b
    \bhave (?:a|an) (?:great|good|nice|wonderful|lovely|blessed|fantastic|beautiful|awesome) (?:day|one|\
        rest)\b
    \bhave (?:a|an) (?:great|good|nice|wonderful|lovely|blessed|awesome) (?:night|week|weekend|evening|\
        time)\b
    \bgood (?:morning|evening|afternoon|day|to see you)\b|\bhow are you\b|\bhow's it going\b|\bwhat's up\b
    \bmerry christmas\b|\bhappy (?:holidays|new year|thanksgiving|easter|birthday|[a-z]+ing)\b
    \b(?:watch|watching|enjoy|enjoyed|like|liked|share|upload|post|film|\
        see) (?:[a-z']+ ){1,3}(?:videos?|vlogs?)\b
    \b(?:watch|enjoy|enjoyed|like|share|check out) (?:[a-z']+ ){1,3}(?:videos?|episodes?|tutorials?)\b
    \b(?:next|previous|other|another|future) (?:videos?|vlogs?|episodes?|tutorials?)\b
""")
_HELLO = re.compile(r"^(?:(?:well|so|okay|alright|oh) )*(?:hi|hey|hello|howdy|greetings|yo|namaste|hola)\b")
_ANNOUNCED = _phrases(r"""
    \b(?:show|teach|tell|learn|explain)(?:ing)?(?: (?:you|ya|y'all|to|guys|everyone|all|us|\
        people))* (?:how|why|what|where|when)\b
    \b(?:show|teach|tell|shar|learn)(?:e|ed|ing)?(?: (?:you|y'all|with|guys|everyone|us|people))* (?:my|\
        the way|one way)\b
    \bhow (?:to|i|we|you|it's) [a-z]+\b|\btalk(?:ing)? (?:to you )?about\b
    \b(?:today|in this (?:video|episode|tutorial|lesson|recipe|one)|in today's|this week|\
        on today's)\b.{0,40}?\b(?:mak|do|cook|bak|build|fix|repair|creat|prepar|replac|install|knit|\
        crochet|sew|go|talk|look|try)(?:e|ing|t?ting)?\b(?! (?:up|sure|the (?:first|next)))
    \b(?:mak(?:e|ing)|do|doing|cook(?:ing)?|bak(?:e|ing)|build(?:ing)?) .{0,40}\b(?:today|\
        for you(?: guys)?|with you(?: guys)?|in this video)$
""")
_CHATTER = _phrases(r"""
    \b(?:take|have|taking|having) (?:a )?(?:closer |quick |good |little )*look\b(?! under)
    \b(?:get|getting) (?:a (?:little |bit )*)?(?:started|going|closer|into it|to it|right into|excited|\
        ready)\b
    \bgive (?:it|this|that|these|them|her) a (?:try|go|shot|chance|taste)\b
    \btake (?:a|some|my|the|more)? ?(?:picture|photo|pic|selfie|shot|video|break|sip|bite|guess)s?\b
    \bmak(?:e|es|ing) (?:some |more |no |any |a lot of |such )*(?:sense|money|videos?|friends|me|you|\
        people)\b
    \bmak(?:e|es|ing) a (?:\w+ )?(?:video|difference)\b
    \b(?:save|saves|saving|spend|cost|waste|earn) (?:you |me |some |a lot of |so much |your |\
        lots of )*(?:money|time)\b
    \b(?:bear|stick|stay|hang) (?:with me|tuned|around|in there)\b|\bkeep (?:watching|in mind|in touch|\
        track)\b
    \btake (?:my|your|a|the)? ?(?:word|time|note|advantage|effort)\b|\btime to eat\b|\b(?:run|\
        take) the risk\b
    \bused to (?:make|do|cook|have|be|eat|go|watch|work|use|play|bake)\b
    \b(?:growing up|when i was|years ago|yesterday|last (?:week|year|month|night|summer|time)|\
        back in the day)\b
    \b(?:every|each) (?:sunday|saturday|monday|week|weekend|year|christmas|summer|single day|day of)\b
    \b(?:i've|we've|i have|we have) been (?:doing|making|cooking|using|working|playing|wanting|trying)\b
    \b(?:let me|let us) (?:know|tell|explain|see|think)\b|\bmoving (?:on$|right along)|\bto be honest\b
    \b(?:i|we) (?:got|bought|picked up|found|ordered) (?:this|these|it|them|mine|that|\
        those) .{0,30}?(?:from|at|on|off)\b
    \b(?:goes|go|going) (?:to show|on and on|without saying)\b|\b(?:my|a) favou?rite\b
""")
_INTERJECTIONS = frozenset(
    """
    ah aha all alright amazing appetit bon awesome beautiful boom cheers cool correct crazy delicious
    done easy enjoy exactly excellent fantastic fine good gorgeous gosh great ha haha hm hmm huh
    incredible indeed lovely man mhm mm mmm music nice no nope ok okay oh ooh oops ouch perfect please
    playing pretty right really so sorry super sure sweet tada that there ta-da totally true uh uh-huh
    um very voila voilà well whoa woah wonderful wow yay yeah yep yes yum yummy you're worries problem
    go here you we applause laughter luck job way my god simple
    """.split()
)
_ABOUT = frozenset(
    """
    about a an and another around approximately roughly maybe just some only probably like say
    nearly almost exactly plus for at to or of so up over under by between good nice heaping level
    large small medium big little whole more least most until in more
    """.split()
)
_VAGUE = frozenset(
    "bit bunch couple dash drizzle drop few handful knob pinch sliver splash sprinkle touch".split()
)
_NO_PHRASE = frozenset(
    """
    i we you they he she it is are was were be will can should go goes then that's it's them this
    that these
    """.split()
)
_ASKED = re.compile(
    r"^(?:how|what|why|who|where|isn't|aren't|ain't|are you|did|does|is it|can you (?:see|believe)|"
    r"have you|guess)\b"
)


def why_not(text: str) -> Reason | None:
    """Why a line or an action's text says nothing that is done; None where it may.

    Args:
        text: English, as it was spoken or written.

    Returns:
        GREETING (to viewers, and what asks them to watch, like, subscribe and share), SPONSOR,
        BARE_AMOUNT (an amount or a time without anything done), CHATTER, or None.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    pieces = clauses(text)
    whole = " ".join(" ".join(pieces).split())
    if not pieces:
        return Reason.CHATTER
    found = [_of_clause(piece) for piece in pieces]
    if None in found:
        return None
    if _SPONSOR.search(whole):
        return Reason.SPONSOR
    if _GREETING.search(whole) or _HELLO.search(whole):
        return Reason.GREETING
    if bare_amount(whole):
        return Reason.BARE_AMOUNT
    known = [reason for reason in found if reason is not Says.UNCLEAR]
    if _asked(text) or Reason.CHATTER in known:
        return Reason.CHATTER
    return None


def _of_clause(clause: str) -> Reason | Says | None:
    """None where something is done; UNCLEAR where nothing is known of it; else why not."""
    if _SPONSOR.search(clause):
        return Reason.SPONSOR
    if _GREETING.search(clause):
        return Reason.GREETING
    if set(tokens(clause)) <= _INTERJECTIONS or _ANNOUNCED.search(clause) or _CHATTER.search(clause):
        return Reason.CHATTER
    if bare_amount(clause):
        return Reason.BARE_AMOUNT
    said = says(_HELLO.sub("", clause).strip())
    if said is Says.DOING:
        return None
    return Reason.CHATTER if said is Says.STATE or _ASKED.search(clause) else Says.UNCLEAR


def _asked(text: str) -> bool:
    return text.rstrip().endswith("?")


def bare_amount(text: str) -> bool:
    """Whether a text is an amount, a time or a temperature with at most a thing: two cups of flour."""
    words = tokens(text)
    start = next((at for at, word in enumerate(words) if word not in _ABOUT), len(words))
    article = start > 0 and words[start - 1] in ("a", "an", "another")
    rest = words[start:]
    if not rest or not (is_amount(rest[0]) or (article and (rest[0] in UNITS or rest[0] in _VAGUE))):
        return False
    if len(words) > 9 or _NO_PHRASE & set(words):
        return False
    # "Half the onion", "five minutes", "one large onion"; no verb may follow but as the thing's name.
    free = NOUNS_TOO | PARTICIPLES | UNITS.keys()
    return all(word in free or BASE_OF.get(word, "salt") in NOUNS_TOO for word in rest[1:])
