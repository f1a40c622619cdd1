"""Turn a transcript into short present-tense actions with times.

In the manner of HowToCaption: the transcript goes to a language model in blocks, each line with its
time, and comes back as actions, each with the time of the lines that say it. A time can only be named
by naming lines; within them an action is where its words are. The model's answer is checked against the
transcript; where it fails, the cleaned sentence stands in, marked ``asr``. Texts without anything to do
are then dropped, whether the model or the speaker worded them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from models.language import Answer, Question
from models.settings import Count, Section, Share
from stages import prompts
from stages.base import Pool, Stage, Workspace
from stages.english.grounding import LEAD_INS, GroundingLimits, grounded, same_action
from stages.english.informative import why_not
from stages.reasons import Kind, Reason
from stages.records import Action, Drop, Objection, Sentence, Transcript, Video
from stages.refine.spoken_times import in_english, one_each, said_by

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
PROMPT = "refine"
REPEAT_WITHIN_S = 2.0
"""The same action again after a longer pause is done again, not said again."""


class RefineMeasuring(Section):
    """Settings that make actions.

    Attributes:
        enabled: False takes the cleaned sentences as they are and asks no model.
        block_words: transcript words that a question carries, in whole lines, at least one line.
        max_words: longest action.
        max_invented, max_lost: see :class:`stages.english.grounding.GroundingLimits`.
    """

    enabled: bool = True
    block_words: Count = 200
    max_words: Annotated[int, Field(ge=2)] = 25
    max_invented: Share = 0.4
    max_lost: Share = 0.5

    @property
    def limits(self) -> GroundingLimits:
        """Return how far an action may be from the spoken words."""
        return GroundingLimits(max_invented=self.max_invented, max_lost=self.max_lost)


class RefineSettings(RefineMeasuring):
    """Transcript into actions.

    Attributes:
        informative: drop greetings, advertising, chatter and bare amounts; see
            :mod:`stages.english.informative`.
    """

    informative: bool = True


class Refine(Stage):
    """Actions from the transcript, checked against it.

    Args:
        model: name of the model, in memo keys; None takes the cleaned sentences.
        require_actions: reject a video without any action.
    """

    name: ClassVar[str] = "refine"
    version: ClassVar[int] = 5
    pool: ClassVar[Pool] = "language"
    reads = ("video_id", "transcript")
    writes = ("actions", "objections")
    rules = ("english", "refine/spoken_times.py")

    measuring = RefineMeasuring
    settings: RefineSettings

    def __init__(self, settings: RefineSettings, *, model: str | None, require_actions: bool) -> None:
        self.settings = settings
        self.model = model if settings.enabled else None
        self.require_actions = require_actions

    def measures_with(self) -> object:
        if self.model is None:
            return self.settings.max_words
        return [super().measures_with(), self.model, prompts.digest(PROMPT)]

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._client = workspace.client(self.name) if self.model is not None else None

    def measure(self, video: Video) -> Video:
        assert video.transcript is not None
        lines = one_each(video.transcript.sentences)
        if self._client is None:
            found = [fallback(line, self.settings) for line in lines]
        else:
            blocks = list(into_blocks(lines, self.settings.block_words))
            answers = self._client.ask([question(block) for block in blocks])
            found = [
                action
                for block, answer in zip(blocks, answers, strict=True)
                for action in actions_of(block, answer, self.settings)
            ]
        found.sort(key=lambda action: (action.start_s, action.end_s))
        named = [
            replace(action, action_id=f"{video.video_id}-a{index:04d}")
            for index, action in enumerate(found)
        ]
        # Rules of English take milliseconds for the texts of a video, far more than all judging.
        objections = list(objections_to(named, video.transcript))
        return video.with_results(actions=named, objections=objections)

    def judge(self, video: Video) -> Video:
        objections: dict[str, list[Objection]] = defaultdict(list)
        for objection in video.objections:
            objections[objection.action_id].append(objection)
        kept: set[str] = set()
        drops: list[Drop] = []
        for action in video.kept_actions:
            found = self._why_not(action, objections[action.action_id], kept)
            if found is None:
                kept.add(action.action_id)
                continue
            reason, detail = found
            drops.append(
                Drop(
                    kind=Kind.ACTION, stage=self.name, reason=reason, detail=detail,
                    item_id=action.action_id, start_s=action.start_s, end_s=action.end_s,
                )
            )  # fmt: skip
        video = video.drop(*drops)
        if self.require_actions and not kept:
            return video.reject(self.name, Reason.NO_ACTIONS, "nothing that is said is an action")
        return video

    def _why_not(
        self, action: Action, objections: Iterable[Objection], kept: Container[str]
    ) -> tuple[Reason, str] | None:
        """Return why an action is dropped; None if it is kept.

        Args:
            objections: to this action.
            kept: ids of the actions before it that are kept.
        """
        if not action.text:
            return Reason.NOT_AN_ACTION, f"no action in: {action.asr_text}"
        for objection in objections:
            if self.settings.informative if objection.repeats is None else objection.repeats in kept:
                return objection.reason, objection.detail
        return None


def objections_to(actions: Sequence[Action], transcript: Transcript) -> Iterator[Objection]:
    """Yield what speaks against actions: texts without anything to do, and repeats of recent ones.

    The same action comes twice where blocks meet, or where a speaker says it twice.

    Args:
        actions: in order of time; those without a text are skipped.
    """
    for at, action in enumerate(actions):
        if not action.text:
            continue
        for text in _english_of(action, transcript):
            reason = why_not(text)
            if reason is not None:
                yield Objection(
                    action_id=action.action_id, reason=reason, detail=f"nothing to do in: {text}"
                )
                break
        for other in reversed(actions[:at]):
            near = action.start_s - other.end_s <= REPEAT_WITHIN_S
            if near and same_action(action.text, other.text):
                yield Objection(
                    action_id=action.action_id,
                    reason=Reason.DUPLICATE_ACTION,
                    detail=f"says the same as {other.action_id}: {other.text}",
                    repeats=other.action_id,
                )


def _english_of(action: Action, transcript: Transcript) -> list[str]:
    """Return the English texts of an action: its own, and its words if English is spoken."""
    if transcript.language in ("", "en"):
        return [action.text, action.asr_text]
    said = (sentence for sentence in transcript.sentences if sentence.overlap_s(action) > 0)
    return [action.text] if any(sentence.english for sentence in said) else []


def into_blocks(lines: Iterable[Sentence], max_words: int) -> Iterable[list[Sentence]]:
    """Group lines until a block holds ``max_words`` words; a longer line is a block by itself."""
    block: list[Sentence] = []
    words = 0
    for line in lines:
        count = len(line.text.split())
        if block and words + count > max_words:
            yield block
            block, words = [], 0
        block.append(line)
        words += count
    if block:
        yield block


def question(block: list[Sentence]) -> Question:
    """Ask for the actions of one block; the answer's times are those of its lines."""
    return Question(
        instructions=prompts.text(PROMPT),
        material="\n".join(map(_as_data, block)),
        schema=_schema(block, timed=len(block) > 1),
        max_tokens=64 + 48 * len(block),
    )


def _as_data(line: Sentence) -> str:
    said = " ".join(in_english(line).split())
    return prompts.as_data({"start_s": round(line.start_s, 1), "end_s": round(line.end_s, 1), "said": said})


def _schema(block: list[Sentence], *, timed: bool) -> dict[str, Any]:
    """Build the schema; a line by itself needs no times."""
    properties: dict[str, Any] = {"text": {"type": "string"}}
    if timed:
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


def actions_of(block: list[Sentence], answer: Answer, settings: RefineMeasuring) -> list[Action]:
    """Return the actions of one block: the model's if they pass the checks, else the cleaned sentences.

    Lines that a usable answer passes over come back with an empty text: the model found no action
    in them.
    """
    items = answer.content.get("actions") if answer.content else None
    if not isinstance(items, list):
        return [fallback(line, settings) for line in block]
    written: dict[range, list[str]] = {}
    for item in items:
        # An answer that names no line may mean any of them, so no skipped line is lost for it.
        lines = _named_lines(block, item)
        written.setdefault(lines or range(len(block)), []).append(_text_of(item) if lines else "")
    good: list[Action] = []
    covered: set[int] = set()
    failed: set[int] = set()
    for lines, texts in written.items():
        said = [block[index] for index in lines]
        held = _held(texts, said, settings)
        if len(held) < len(texts):
            failed.update(lines)
        if held:
            covered.update(lines)
        # Said once, written twice: one of them.
        good += [_action(said, text, "llm") for text in dict.fromkeys(held)]
    for index, line in enumerate(block):
        if index in covered:
            continue
        stand_in = fallback(line, settings)
        good.append(stand_in if index in failed else replace(stand_in, text="", source="llm"))
    return good


def _named_lines(block: list[Sentence], item: object) -> range | None:
    """Return the numbers of the lines that an answer's times name; None if they name none."""
    if not isinstance(item, dict):
        return None
    if len(block) == 1:
        return range(1)
    start, end = item.get("start_s"), item.get("end_s")
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return None
    first = next((i for i, s in enumerate(block) if abs(s.start_s - start) < 0.1), None)
    if first is None:
        return None
    # Parts of one sentence may share its times; then all of them are meant.
    last = [i for i, s in enumerate(block) if abs(s.end_s - end) < 0.1 and i >= first]
    return range(first, last[-1] + 1) if last else None


def _text_of(item: dict[str, Any]) -> str:
    """Return the action's text as a sentence; empty if it is none."""
    text = item.get("text")
    return " ".join(text.split()) if isinstance(text, str) else ""


def _held(texts: list[str], said: list[Sentence], settings: RefineMeasuring) -> list[str]:
    """Return the texts whose words were said, each by itself or all of them together."""
    spoken = " ".join(map(in_english, said))
    well_formed = [text for text in texts if 2 <= len(WORD.findall(text)) <= settings.max_words]
    held = [text for text in well_formed if grounded([text], spoken, settings.limits)]
    together = len(well_formed) == len(texts) > 1 and grounded(well_formed, spoken, settings.limits)
    return [_as_sentence(LEAD_INS.sub("", text)) for text in (texts if together else held)]


def fallback(line: Sentence, settings: RefineMeasuring) -> Action:
    """Return the spoken line without its lead-in, at most ``max_words`` long."""
    spoken = in_english(line)
    words = LEAD_INS.sub("", spoken).split()[: settings.max_words]
    return _action([line], _as_sentence(" ".join(words) or spoken), "asr")


def _as_sentence(text: str) -> str:
    text = text.strip().rstrip(",;:")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _action(said: list[Sentence], text: str, source: str) -> Action:
    where, confidence = said_by(text, said)
    return Action(
        action_id="",
        start_s=where.start_s,
        end_s=where.end_s,
        text=text,
        asr_text=" ".join(line.text for line in said),
        confidence=confidence,
        source=source,
    )
