"""Turn a transcript into short present-tense actions with times.

In the manner of HowToCaption: the transcript goes to a language model in blocks, each line with its
time, and comes back as actions, each with the time of the lines that say it. A time can only be named
by naming lines, so an interval is where its words are. What the model says is held against the
transcript before it is believed; where it fails, the cleaned sentence stands in, marked ``asr``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from statistics import fmean
from typing import Any, ClassVar

from models.language import Answer, Question
from stages import prompts
from stages.base import Pool, Stage, Workspace
from stages.records import Action, Drop, Interval, Kind, Reason, Sentence, Video

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
LEAD_INS = re.compile(
    r"^(?:(?:um+|uh+|er+|hm+|so|okay|ok|now|well|and|then|alright|all right|right|next|"
    r"first of all|first|finally|lastly|you know|basically|like)\b[\s,.]+)+",
    re.IGNORECASE,
)
NUMBER = re.compile(r"\d")
TOKEN = re.compile(
    r"\d{1,3}(?:,\d{3})+(?!\d)|\d{1,9}(?:\.\d{1,9}|/[1-9]\d{0,8})?|[¼-¾⅐-⅞]|[^\W\d_]+(?:'[^\W\d_]+)*|[^\w\s-]"
)
NUMBER_WORDS = {
    word: Fraction(number)
    for number, words in enumerate(
        "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve dozen|thirteen|fourteen|"
        "fifteen|sixteen|seventeen|eighteen|nineteen|twenty".split("|")
    )
    for word in words.split()
}
NUMBER_WORDS |= dict(zip("thirty forty fifty sixty seventy eighty ninety hundred thousand".split(),
                         map(Fraction, (30, 40, 50, 60, 70, 80, 90, 100, 1000)), strict=True))  # fmt: skip
# A verb of the same family says the same: cut in half, halve.
NUMBER_WORDS |= dict.fromkeys("half halve halved halves halving".split(), Fraction(1, 2))
NUMBER_WORDS |= dict.fromkeys("quarter quartered quartering quarters".split(), Fraction(1, 4))
POWERS = frozenset({"hundred", "thousand"})
HUNDRED_AND = re.compile(r"\b(hundred|thousand) and\b")
NEGATIONS = frozenset("cannot neither never no none nor not nothing without".split())
# Beside these, "one" stands for a thing and counts nothing.
BEFORE_PRONOUN = frozenset("a another any each every last next no other that the this which".split())
AFTER_PRONOUN = frozenset("another at by of".split())
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
EXAMPLES: Sequence[tuple[str, dict[str, Any]]] = (
    (
        "okay so now we're just gonna take our garlic and mince it up",
        {"actions": [{"text": "Mince the garlic."}]},
    ),
    (
        "Stirred eggs in the small bowl for two minutes.",
        {"actions": [{"text": "Stir the eggs in the small bowl for two minutes."}]},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineSettings:
    """How actions are made.

    Attributes:
        enabled: False takes the cleaned sentences as they are and asks no model.
        block_words: transcript words a question carries, in whole lines, at least one line. Large
            models do best with about 200; a very small one with a line at a time.
        max_words: longest action.
        max_invented: share of an action's content words that need not have been spoken in its lines.
        max_lost: share of the lines' content words that an action may leave out.
        prompt: name of the prompt; a very small model wants a short one.
    """

    enabled: bool
    block_words: int
    max_words: int
    max_invented: float
    max_lost: float
    prompt: str


class Refine(Stage):
    """Asks the language model for actions, and checks every one against the transcript."""

    name: ClassVar[str] = "refine"
    version: ClassVar[int] = 2
    pool: ClassVar[Pool] = "language"
    reads = ("video_id", "transcript")
    writes = ("actions",)

    def __init__(self, settings: RefineSettings, *, model: str, require_actions: bool) -> None:
        self.settings = settings
        self.model = model
        self.require_actions = require_actions

    def measures_with(self) -> object:
        return [asdict(self.settings), self.model, prompts.digest(self.settings.prompt)]

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._client = workspace.client(self.name)

    def measure(self, video: Video) -> Video:
        assert video.transcript is not None
        blocks = list(into_blocks(video.transcript.sentences, self.settings.block_words))
        if self.settings.enabled:
            answers = self._client.ask([question(block, self.settings.prompt) for block in blocks])
            found = [
                action
                for block, answer in zip(blocks, answers, strict=True)
                for action in actions_of(block, answer, self.settings)
            ]
        else:
            found = [fallback(sentence, self.settings) for block in blocks for sentence in block]
        found.sort(key=lambda action: (action.start_s, action.end_s))
        named = [
            replace(action, action_id=f"{video.video_id}-a{index:04d}")
            for index, action in enumerate(found)
        ]
        return replace(video, actions=named)

    def judge(self, video: Video) -> Video:
        video = video.drop(
            *(
                Drop(
                    kind=Kind.ACTION, stage=self.name, reason=Reason.NOT_AN_ACTION,
                    detail=f"no action in: {action.asr_text}", item_id=action.action_id,
                    start_s=action.start_s, end_s=action.end_s,
                )
                for action in video.kept_actions
                if not action.text
            )
        )  # fmt: skip
        if self.require_actions and not video.kept_actions:
            return video.reject(self.name, Reason.NO_ACTIONS, "nothing that is said is an action")
        return video


def into_blocks(sentences: Iterable[Sentence], max_words: int) -> Iterable[list[Sentence]]:
    """Group lines until a block holds ``max_words`` words; a longer line is a block by itself."""
    block: list[Sentence] = []
    words = 0
    for sentence in sentences:
        count = len(sentence.text.split())
        if block and words + count > max_words:
            yield block
            block, words = [], 0
        block.append(sentence)
        words += count
    if block:
        yield block


def question(block: list[Sentence], prompt: str) -> Question:
    """Ask for the actions of one block; the answer's times are those of its lines."""
    return Question(
        instructions=prompts.text(prompt),
        material=_lines(block),
        examples=EXAMPLES if len(block) == 1 else (),
        schema=_schema(block),
        max_tokens=64 + 48 * len(block),
    )


def _lines(block: list[Sentence]) -> str:
    # One line of speech is one line of material, whatever it contains.
    lines = [" ".join(sentence.text.split()) for sentence in block]
    if len(block) == 1:
        return lines[0]
    return "\n".join(
        f"[{sentence.start_s:.1f}-{sentence.end_s:.1f}] {line}"
        for sentence, line in zip(block, lines, strict=True)
    )


def _schema(block: list[Sentence]) -> dict[str, Any]:
    """A single line needs no times: its actions can be nowhere else."""
    properties: dict[str, Any] = {"text": {"type": "string"}}
    if len(block) > 1:
        for edge in ("start_s", "end_s"):
            times = sorted({round(getattr(sentence, edge), 1) for sentence in block})
            properties[edge] = {"type": "number", "enum": times}
    item = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"actions": {"type": "array", "items": item, "maxItems": 2 * len(block)}},
        "required": ["actions"],
        "additionalProperties": False,
    }


def actions_of(block: list[Sentence], answer: Answer, settings: RefineSettings) -> list[Action]:
    """The actions of one block: the model's where they hold, the cleaned sentences elsewhere.

    Lines that a usable answer passes over come back with an empty text: the model found no action
    in them.
    """
    items = answer.content.get("actions") if answer.content else None
    if not isinstance(items, list):
        return [fallback(sentence, settings) for sentence in block]
    good: list[Action] = []
    covered: set[int] = set()
    failed: set[int] = set()
    for item in items:
        lines = _named_lines(block, item)
        if not lines:
            # It names a time at which nothing was said: any line that is passed over may be meant.
            failed.update(range(len(block)))
            continue
        action = _checked(block, lines, item, settings)
        if action is None:
            failed.update(lines)
        elif not any((action.start_s, action.text) == (other.start_s, other.text) for other in good):
            good.append(action)
            covered.update(lines)
    for index, sentence in enumerate(block):
        if index in covered:
            continue
        stand_in = fallback(sentence, settings)
        good.append(stand_in if index in failed else replace(stand_in, text="", source="llm"))
    return good


def _named_lines(block: list[Sentence], item: object) -> list[int]:
    """Numbers of the lines that an answer's times name; empty where they name none."""
    if not isinstance(item, dict):
        return []
    if len(block) == 1:
        return [0]
    start, end = item.get("start_s"), item.get("end_s")
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return []
    first = next((i for i, s in enumerate(block) if abs(s.start_s - start) < 0.1), None)
    last = next((i for i, s in enumerate(block) if abs(s.end_s - end) < 0.1 and i >= (first or 0)), None)
    return [] if first is None or last is None else list(range(first, last + 1))


def _checked(
    block: list[Sentence], lines: list[int], item: dict[str, Any], settings: RefineSettings
) -> Action | None:
    """An action whose words were said where it says they were, or None."""
    text = item.get("text")
    if not isinstance(text, str):
        return None
    text = " ".join(text.split())
    said = [block[i] for i in lines]
    spoken = " ".join(sentence.text for sentence in said)
    if not 2 <= len(WORD.findall(text)) <= settings.max_words:
        return None
    if not grounded(text, spoken, settings) or leaves_present(text, spoken):
        return None
    return _action(said, _as_sentence(LEAD_INS.sub("", text)), "llm")


def grounded(text: str, spoken: str, settings: RefineSettings) -> bool:
    """Whether an action's content is what was spoken, neither invented nor lost.

    Words agree when they are spelled nearly alike, so that a corrected mis-hearing or another tense
    still counts. Amounts and negations must all be there, and no others: one of them turns the action
    into another, whatever share of the words it is.
    """
    if decisive(text) != decisive(spoken):
        return False
    wrote, heard = _words(text), _words(LEAD_INS.sub("", spoken))
    news = [word for word in wrote if word not in ADDED_FREELY and not _is_decisive(word)]
    content = [word for word in heard if word not in DROPPED_FREELY and not _is_decisive(word)]
    if not news or not content:
        return False
    invented, lost = unlike(news, heard), unlike(content, wrote)
    return len(invented) <= settings.max_invented * len(news) and len(lost) <= settings.max_lost * len(
        content
    )


def decisive(text: str) -> Counter[Fraction | str]:
    """How often a text names each amount, in digits or in words, and how often it negates.

    Wholes and fractions count apart, so that 1.5 is one and a half; every negation is ``not``.
    """
    found: Counter[Fraction | str] = Counter()
    amounts: list[Fraction] = []
    joined = False
    tokens = TOKEN.findall(HUNDRED_AND.sub(r"\1", text.lower().replace("’", "'")))
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        value = _value(before, token, after)
        if value is None:
            found["not"] += token in NEGATIONS or token.endswith("n't")
        elif joined and token in POWERS and amounts[-1] < value:
            amounts[-1] *= value
        elif joined and {before, token} <= NUMBER_WORDS.keys() and _completes(amounts[-1], value):
            amounts[-1] += value
        else:
            amounts.append(value)
        joined = value is not None
    for amount in amounts:
        found.update(part for part in (Fraction(amount // 1), amount % 1) if part or not amount)
    return +found


def _value(before: str, token: str, after: str) -> Fraction | None:
    """The number that a token is between its neighbours; None for other tokens."""
    if token == "one" and before not in NUMBER_WORDS:
        counts = after[:1].isalnum() and after not in AFTER_PRONOUN and before not in BEFORE_PRONOUN
        return Fraction(1) if counts else None
    if token in NUMBER_WORDS:
        return NUMBER_WORDS[token]
    if NUMBER.match(token):
        return Fraction(token.replace(",", ""))
    if len(token) == 1 and token.isnumeric():
        return Fraction(unicodedata.numeric(token)).limit_denominator(10)
    return None


def _is_decisive(word: str) -> bool:
    return word.isnumeric() or word in NUMBER_WORDS or word in NEGATIONS or word.endswith(("n't", "n’t"))


def _completes(amount: Fraction, value: Fraction) -> bool:
    """Whether the spoken parts of a number go together: twenty and five, two hundred and fifty."""
    if amount == 0 or value.denominator > 1:
        return False
    return (amount % 100 == 0 and 0 < value < 100) or (amount < 100 and amount % 10 == 0 and 0 < value < 10)


def leaves_present(text: str, spoken: str) -> bool:
    """Whether an action begins with a verb in another form than the plain one that was spoken."""
    verb, heard = _words(text)[0], _words(spoken)
    if verb in heard or not verb.endswith(("ed", "ing")):
        return False
    return any(len(word) > 2 and verb.startswith(word) for word in heard)


def unlike(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """The words that have nothing spelled nearly alike among the others; numbers, nothing equal."""
    return [
        word
        for word in words
        if word not in others
        and (NUMBER.search(word) or not get_close_matches(word, others, n=1, cutoff=SAME_WORD))
    ]


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def fallback(sentence: Sentence, settings: RefineSettings) -> Action:
    """The spoken sentence without its lead-in, at most ``max_words`` long."""
    words = LEAD_INS.sub("", sentence.text).split()[: settings.max_words]
    return _action([sentence], _as_sentence(" ".join(words) or sentence.text), "asr")


def _as_sentence(text: str) -> str:
    text = text.strip().rstrip(",;:")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _action(said: list[Sentence], text: str, source: str) -> Action:
    where = Interval(start_s=said[0].start_s, end_s=max(sentence.end_s for sentence in said))
    return Action(
        action_id="",
        start_s=where.start_s,
        end_s=where.end_s,
        text=text,
        asr_text=" ".join(sentence.text for sentence in said),
        confidence=round(fmean(sentence.confidence for sentence in said), 4),
        source=source,
    )
