"""Goal of a video, as a question: "How to make onion soup?".

Looked for in what the file says of itself, in its name, in what the speaker announces, and in the things
that the steps name most; the first that names something is taken. A language model that was asked is
believed where its words stand in that same material.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from models.language import Answer, Question
from stages import prompts
from stages.english.caption_rules import GRAMMAR, WORD, content_words, tidy
from stages.english.verbs import BASE_OF, NOUNS_TOO
from stages.records import Action, Sentence, Transcript, Video
from stages.view import path_of

MAX_WORDS = 12
OPENING_S = 60.0
"""How long a speaker may take to say what the video is about, and to sum it up at the end."""
SAME_WORD = 0.8
"""Likeness of spelling, as difflib measures it, of a word that a model put right."""
LINES_ASKED, STEPS_ASKED = 30, 30
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
NO_TITLE = re.compile(
    r"^(?:img|vid|dsc|mov|gopr|pxl|video|clip|screen|untitled|no title|unknown|movie|sequence|timeline|"
    r"project|final|output|export|test|sample|recording|new|my|of|capture|record|dji|whats ?app|"
    r"\d|[\W_])*$",
    re.IGNORECASE,
)
"""Names that cameras and editors give. No two parts match the same, or a long title would take forever."""
PARTS = re.compile(r"\s+[-–—•~]+\s+|\s*[|•]\s*|\s+#")
BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
HOW_TO = re.compile(r"\bhow to (?=\w)(.+)", re.IGNORECASE)
PRAISE = frozenset(
    "amazing authentic awesome beautiful best classic delicious easiest easy ever famous favorite "
    "favourite great healthy homemade nice perfect quick really simple simplest super tasty very "
    "yummy".split()
)
FORMAT = frozenset("episode full guide hd official recipe recipes tutorial video vlog".split())
DETERMINERS = frozenset("a an another her his my our some that the their these this those your".split())
NAMES_NOTHING = frozenset(
    "anything bit couple dish few it lot one ones recipe something stuff them thing things video videos "
    "what you me us sure do everything".split()
)
VERB = r"(?P<verb>[a-z-]+)\s+(?P<what>.+)"
SHOWS = re.compile(rf"\bhow (?:to|i|we|you|you can|you'd|to properly|to easily) {VERB}")
NOW = re.compile(
    r"\b(?:today|tonight|in this (?:video|episode|recipe|tutorial|lesson|one)|this week|welcome)\b"
)
DOES = re.compile(
    r"(?:\b(?:i'm|we're|i am|we are|i'll|we'll|i will|we will|let's|let us|gonna|going to|want to|wanna|"
    r"you'll|you're|be|we|i)\s+)"
    rf"{VERB}"
)
IS_CALLED = re.compile(
    r"\b(?:today's (?:video|recipe|dish|project|meal) (?:is|will be)|"
    r"(?:recipe|tutorial|lesson) (?:for|on)) (?P<what>.+)"
)
SUMMED_UP = re.compile(rf"\bthat(?:'s| is|s) (?:basically |pretty much )?how (?:to|i|we|you) {VERB}")
WHAT_ENDS = re.compile(
    r"[,.!?;:]|\b(?:today|tonight|right now|with me|with you|for you|for dinner|for lunch|for breakfast|"
    r"in this|on this|on my|on our|at home|from scratch|so|because|which|that|who|when|while|but|if|guys|"
    r"everyone|everybody|okay|and (?:then|i|i'm|we|we're|you|it|it's|this|that|let|let's|how))\b"
)
VERBS_OF_MAKING = {"do": "make", "doing": "make", "having": "make"}
VOWEL = re.compile(r"[aeiouy\u00e0-\uffff]")
"""Of Latin writing; any letter of another one will do."""
THING = re.compile(
    r"\b(?:the|an?|some) ((?:[a-z-]+ ){0,2}?[a-z-]+)(?= (?:" + "|".join(sorted(GRAMMAR)) + r")\b|[,.;!]|$)"
)
NOT_THE_GOAL = frozenset(
    "batch board bottom bowl dish edge edges half heat hole hour knife lid liquid minute minutes mixture "
    "oil oven pan part pepper piece pieces plate pot rest salt side sides spoon surface time tool top tray "
    "water".split()
)
"""Where and with what it is done, and what is in everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """Goal of a video and its source.

    Attributes:
        text: "How to ...?", or empty.
        source: ``container``, ``file_name``, ``speech``, ``steps``, ``llm``; empty where nothing was found.
    """

    text: str
    source: str


def title_of(video: Video) -> Title:
    """Find the goal by rules."""
    assert video.facts is not None
    found = (
        ("container", goal(video.facts.title)),
        ("file_name", goal(file_words(video.uri))),
        ("speech", spoken_goal(video.transcript) if video.transcript else ""),
        ("steps", goal_of_steps(video.kept_actions)),
    )
    return next(
        (Title(text=text, source=source) for source, text in found if text), Title(text="", source="")
    )


def goal(text: str) -> str:
    """Turn a title into a goal; empty if it names nothing."""
    if NO_TITLE.match(text):
        return ""
    parts = [part for part in PARTS.split(BRACKETS.sub(" ", tidy(text))) if not NO_TITLE.match(part)]
    whole = next((part for part in parts if HOW_TO.search(part)), parts[0] if parts else "")
    asked = HOW_TO.search(whole)
    words = [word.lower() for word in re.findall(r"[^\W_][\w'’&,-]*", asked[1] if asked else whole)]
    while len(words) > 1 and words[-1].isdigit():
        del words[-1]
    if asked:
        return _as_goal(words)
    words = [word for word in words if word not in FORMAT]
    while words and words[0] in PRAISE:
        del words[0]
    base = BASE_OF.get(words[0]) if len(words) > 1 else None
    if base and (words[0].endswith("ing") or (words[0] == base and base not in NOUNS_TOO)):
        return _as_goal([base, *words[1:]])
    return _as_goal(["make", *words]) if words else ""


def _as_goal(words: Sequence[str]) -> str:
    return f"How to {' '.join(words[:MAX_WORDS]).rstrip(',')}?"


def file_words(uri: str) -> str:
    """Return the words of a file's name; empty if most of it is a number or a key."""
    stem = Path(path_of(uri).name).stem.encode("utf-8", "replace").decode()
    spaced = re.sub(r"[_+.]+|(?<=\w)-+(?=\w)|(?<=[a-z])(?=[A-Z][a-z])", " ", stem)
    signs = [sign for sign in WORD.findall(spaced) if not sign.isdigit()]
    keys = sum(map(_is_key, signs))
    return spaced if 2 * keys < len(signs) else ""


def _is_key(sign: str) -> bool:
    """Return whether a token is no word: it has digits, inner capitals or no vowel."""
    cased = sign.isupper() or sign[1:] == sign[1:].lower()
    return not sign.isalpha() or not cased or not VOWEL.search(sign.lower())


def spoken_goal(transcript: Transcript) -> str:
    """Return the goal that the speaker announces at the beginning or sums up at the end."""
    if not transcript.sentences:
        return ""
    end_s = transcript.sentences[-1].end_s
    opening = [sentence for sentence in transcript.sentences if sentence.start_s < OPENING_S]
    closing = [sentence for sentence in transcript.sentences if sentence.end_s > end_s - OPENING_S]
    announced = (_announced(_plain(sentence)) for sentence in opening)
    summed_up = (_named(SUMMED_UP.search(_plain(sentence))) for sentence in reversed(closing))
    return next((text for texts in (announced, summed_up) for text in texts if text), "")


def _plain(sentence: Sentence) -> str:
    return tidy(sentence.english or sentence.text).lower().replace("’", "'")


def _announced(text: str) -> str:
    patterns = (IS_CALLED, SHOWS, DOES) if NOW.search(text) else (IS_CALLED, SHOWS)
    return next((found for pattern in patterns for found in _all_named(pattern, text) if found), "")


def _all_named(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    # Each beginning counts: "today we're going to be making" has the verb at its third.
    at = 0
    while found := pattern.search(text, at):
        yield _named(found)
        at = found.start() + 1


def _named(found: re.Match[str] | None) -> str:
    """Return the verb and its object as a goal; empty if they name nothing."""
    if found is None:
        return ""
    said = found.groupdict()
    verb = (
        "make" if "verb" not in said else VERBS_OF_MAKING.get(said["verb"], BASE_OF.get(said["verb"], ""))
    )
    what = WHAT_ENDS.split(said["what"], maxsplit=1)[0]
    words = [word.strip("-") for word in re.findall(r"[^\W_][\w'-]*", what)]
    while words and words[0] in DETERMINERS | PRAISE:
        del words[0]
    while words and words[-1] in GRAMMAR | FORMAT | DETERMINERS:
        del words[-1]
    if not verb or not words or words[0] in NAMES_NOTHING or words[0] in GRAMMAR:
        return ""
    return _as_goal([verb, *words[: MAX_WORDS - 4]])


def goal_of_steps(actions: Sequence[Action]) -> str:
    """Return the one or two things that most steps name, at least two of them; empty if there is none."""
    named: Counter[str] = Counter()
    for action in actions:
        things = (phrase.split()[-1] for phrase in THING.findall(action.text.lower()))
        named.update(list(dict.fromkeys(thing for thing in things if thing not in NOT_THE_GOAL)))
    best = [thing for thing, count in named.most_common(2) if count > 1]
    return f"How to prepare {' and '.join(best)}?" if best else ""


def title_question(video: Video) -> Question:
    """Ask for the goal; untrusted text goes in as data."""
    return Question(
        instructions=prompts.text("title"),
        material=prompts.as_data(_material(video), indent=1),
        schema=SCHEMA,
        max_tokens=64,
    )


def believed(answer: Answer, video: Video) -> Title | None:
    """Return the model's title if it is a goal whose words stand in the material; else None."""
    text = answer.content.get("title") if answer.content else None
    if not isinstance(text, str):
        return None
    text = tidy(text).rstrip(".!? ")
    asked = HOW_TO.match(text)
    if asked is None or len(text.split()) > MAX_WORDS + 2:
        return None
    known = content_words(json.dumps(_material(video), ensure_ascii=False).replace("\\n", " "))
    known |= content_words("make cook prepare bake build fix repair create do")
    told = content_words(asked[1])
    strange = [word for word in told - known if not get_close_matches(word, known, n=1, cutoff=SAME_WORD)]
    if strange or not told:
        return None
    return Title(text=f"How to {asked[1]}?", source="llm")


def _material(video: Video) -> dict[str, Any]:
    assert video.facts is not None
    sentences = video.transcript.sentences if video.transcript else []
    return {
        "title in the file": tidy(video.facts.title),
        "file name": file_words(video.uri),
        "first lines of speech": [tidy(each.english or each.text) for each in sentences[:LINES_ASKED]],
        "steps": [tidy(action.text) for action in video.kept_actions[:STEPS_ASKED]],
    }
