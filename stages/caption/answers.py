"""Texts from a model, checked against rules: one that breaks some is asked for once more."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.language import Answer, LanguageClient, Problem, Question
from stages import prompts
from stages.english.caption_rules import CaptionLimits, Complaint, Rule, complaints, shortened, tidy

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"caption": {"type": "string"}},
    "required": ["caption"],
    "additionalProperties": False,
}
REFUSED = Problem.REFUSED.value
TOKENS_A_WORD = 4
"""Enough for languages that a tokenizer cuts small."""

Check = Callable[[str], list[Complaint]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Result of one question.

    Attributes:
        text: keeps to all rules; empty with a problem.
        model: the one that wrote it.
        input_tokens: of all requests.
        output_tokens: of all requests.
        problem: why there is no text: ``refused``, another problem of the client, or a broken rule.
    """

    text: str
    model: str
    input_tokens: int
    output_tokens: int
    problem: str


def instructions(prompt: str, limits: CaptionLimits) -> str:
    """Fill the limits into a prompt."""
    return prompts.text(prompt).format(max_sentences=limits.max_sentences, max_words=limits.max_words)


def caption_question(
    prompt: str, facts: dict[str, str | float], limits: CaptionLimits, images: Sequence[bytes] = ()
) -> Question:
    """Ask for a caption; the facts are untrusted text and go in as data."""
    return Question(
        instructions=instructions(prompt, limits),
        material=prompts.as_data(facts),
        images=images,
        schema=SCHEMA,
        max_tokens=256 + TOKENS_A_WORD * limits.max_words,
    )


def ask_for_texts(
    client: LanguageClient, questions: Sequence[Question], checks: Sequence[Check], limits: CaptionLimits
) -> list[Written]:
    """Return a text for each question that keeps to the limits and passes the question's own check.

    An answer that does not is sent back once, with what is wrong with it. What is then only too long or
    says something twice is cut.

    Raises:
        models.errors.EndpointError, models.errors.TransientError: see ``LanguageClient.ask``.
    """
    first = client.ask(questions)
    sent_back = {
        index: replace(question, follow_ups=[(_sent_back(answer), _objection(wrong))])
        for index, (question, answer, check) in enumerate(zip(questions, first, checks, strict=True))
        if answer.content is not None and (wrong := _wrong(text_of(answer), check, limits))
        if wrong[0].rule is not Rule.REFUSAL
    }
    second = dict(zip(sent_back, client.ask(list(sent_back.values())), strict=True))
    return [
        _best([answer, *([second[index]] if index in second else [])], check, limits)
        for index, (answer, check) in enumerate(zip(first, checks, strict=True))
    ]


def text_of(answer: Answer) -> str:
    """Return the caption of an answer, tidied; empty if it has none."""
    text = answer.content.get("caption") if answer.content else None
    return tidy(text) if isinstance(text, str) else ""


def _wrong(text: str, check: Check, limits: CaptionLimits) -> list[Complaint]:
    return complaints(text, limits) or check(text)


def _sent_back(answer: Answer) -> str:
    return json.dumps({"caption": text_of(answer)}, ensure_ascii=False)


def _objection(wrong: Sequence[Complaint]) -> str:
    what = "; ".join(complaint.what for complaint in wrong)
    return f"This caption cannot be used: {what}. Write it again, and keep to all rules."


def _best(attempts: Sequence[Answer], check: Check, limits: CaptionLimits) -> Written:
    """Return the last attempt that is good, or good once cut; otherwise why the last one is not."""
    spent = Written(
        text="",
        model=attempts[-1].model,
        input_tokens=sum(answer.input_tokens for answer in attempts),
        output_tokens=sum(answer.output_tokens for answer in attempts),
        problem=_problem(attempts[-1], check, limits),
    )
    for answer in reversed(attempts):
        text = shortened(text_of(answer), limits)
        if not _wrong(text, check, limits):
            return replace(spent, text=text, model=answer.model, problem="")
    return spent


def _problem(answer: Answer, check: Check, limits: CaptionLimits) -> str:
    if answer.problem is not None:
        return answer.problem.value
    wrong = _wrong(shortened(text_of(answer), limits), check, limits)
    if not wrong:
        return ""
    worst = wrong[0]
    return REFUSED if worst.rule is Rule.REFUSAL else f"{worst.rule}: {worst.what}"
