"""The one door for language and vision-language calls.

Every captioning and refining question goes through :class:`LanguageClient` to an OpenAI-compatible
endpoint, hosted or started by the job itself. An answer is stored under the hash of its full request
before it is used, so an answered request is never paid for twice. An answer that is not what the schema
asks for is shown to the model once more, with what is wrong with it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from models.chat import TOO_LONG, Completion, Declined, DeclinedError
from models.endpoint import Endpoint
from models.errors import BudgetError, EndpointError, StoreError
from models.failover import Failover
from models.files import json_digest
from models.ledger import Ledger
from models.pacing import Pace
from models.redaction import without
from models.structured import json_object, mismatch

__all__ = ["Answer", "AnswerStore", "Endpoint", "LanguageClient", "Problem", "Question", "request_key"]

MAX_SHOWN_AGAIN = 8000
"""Characters of a wrong answer that the model sees again."""


class AnswerStore(Protocol):
    """Store of JSON text by key. A stored value never changes."""

    def get(self, key: str) -> str | None:
        """Return the value, or None."""

    def put(self, key: str, value: str) -> None:
        """Store a value; it survives a kill once this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request to a model.

    Attributes:
        instructions: the task, in words of this program alone.
        material: untrusted text to work on, never an instruction.
        schema: JSON schema of the answer, an object.
        examples: (material, answer) pairs shown before.
        images: JPEG files, shown before the material.
        follow_ups: (the model's earlier answer, what is wrong with it) pairs shown after the material.
        max_tokens: bound on the answer.
    """

    instructions: str
    material: str
    schema: dict[str, Any]
    examples: Sequence[tuple[str, dict[str, Any]]] = ()
    images: Sequence[bytes] = field(default=(), repr=False)
    follow_ups: Sequence[tuple[str, str]] = ()
    max_tokens: int = 512

    def messages(self) -> list[dict[str, Any]]:
        """Build the conversation in OpenAI's form."""
        content: list[dict[str, Any]] = [
            {
                "type": "image_url",
                "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()},
            }
            for jpeg in self.images
        ]
        content.append({"type": "text", "text": self.material})
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.instructions}]
        for material, answer in self.examples:
            messages.append({"role": "user", "content": material})
            messages.append({"role": "assistant", "content": json.dumps(answer)})
        messages.append({"role": "user", "content": content if self.images else self.material})
        for answered, complaint in self.follow_ups:
            messages.append({"role": "assistant", "content": answered})
            messages.append({"role": "user", "content": complaint})
        return messages


class Problem(StrEnum):
    """Reasons why there is no usable answer."""

    EMPTY = "empty"
    INVALID_JSON = "invalid_json"
    WRONG_SCHEMA = "wrong_schema"
    REFUSED = "refused"
    CUT_OFF = "cut_off"
    TOO_LONG = "too_long"
    BAD_REQUEST = "bad_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """JSON object that fits the schema, or the reason why there is none.

    Attributes:
        content: the object. With the problem ``WRONG_SCHEMA`` it is one that breaks the schema somewhere,
            for those who can use the rest; with any other problem it is None.
        model: the one that answered; empty where none did.
        input_tokens: as the server counts them, over all requests of the question.
        output_tokens: likewise.
    """

    content: dict[str, Any] | None
    problem: Problem | None = None
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class LanguageClient:
    """Client of an endpoint: sends many questions at once and remembers the answers.

    Args:
        endpoint: with its other addresses.
        answers: looked into before anything is asked.
        ledger: takes down every request; its budget bounds them.
        stage: whose requests these are, for the ledger.
    """

    def __init__(
        self, endpoint: Endpoint, answers: AnswerStore, *, ledger: Ledger | None = None, stage: str = ""
    ) -> None:
        self.endpoint = endpoint
        self._answers = answers
        self._ledger = ledger
        self._stage = stage
        # What is learned of an address in one call holds for the next.
        self._paces = [
            [Pace(place, place.concurrency) for place in places] for places in endpoint.by_model()
        ]

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the answers, in the order of the questions.

        Raises:
            EndpointError: it refuses the key, the model or the form of the request; not asked again.
            BudgetError: the budget allows no other request.
            TransientError: the endpoint could not be reached, or stayed too busy, after all tries.
                What was answered until then is stored.
        """
        return asyncio.run(self._ask_all(questions)) if questions else []

    async def _ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        errors: list[Exception] = []
        waiting = iter(enumerate(questions))
        async with Failover(self.endpoint, self._paces, self._ledger, self._stage) as failover:
            call = _Call(self.endpoint, self._answers, failover)

            async def work() -> None:
                for position, question in waiting:
                    try:
                        answers[position] = await call.answer(question)
                    except (EndpointError, BudgetError, StoreError) as error:
                        errors.insert(0, error)
                        return
                    except Exception as error:
                        errors.append(error)
                    if any(isinstance(error, EndpointError | BudgetError | StoreError) for error in errors):
                        return

            width = sum(pace.place.concurrency for group in self._paces[:1] for pace in group)
            # Those on their way are let finish, so that a failure loses no answer that was paid for.
            await asyncio.gather(*(work() for _ in range(min(width, len(questions)))))
        if self._ledger is not None and call.remembered:
            self._ledger.remembered(self._stage, self.endpoint.model, call.remembered)
        if errors:
            raise errors[0]
        return [answers[position] for position in range(len(questions))]


class _Call:
    """Questions of one call of :meth:`LanguageClient.ask`.

    Attributes:
        remembered: answers that were in the store already.
    """

    def __init__(self, endpoint: Endpoint, answers: AnswerStore, failover: Failover) -> None:
        self._endpoint = endpoint
        self._answers = answers
        self._failover = failover
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.remembered = 0

    async def answer(self, question: Question) -> Answer:
        """Return the answer, after one attempt to have it repaired if it does not fit the schema."""
        try:
            stored = await self._stored(question)
        except DeclinedError as error:
            return Answer(content=None, problem=_DECLINED[error.why])
        first, complaint = _read(stored, question)
        if complaint is None:
            return first
        shown = (stored["text"][:MAX_SHOWN_AGAIN], complaint)
        again = replace(question, follow_ups=(*question.follow_ups, shown))
        try:
            second, _ = _read(await self._stored(again), again)
        except DeclinedError:
            return first
        better = first if second.problem else second
        return replace(
            better,
            input_tokens=first.input_tokens + second.input_tokens,
            output_tokens=first.output_tokens + second.output_tokens,
        )

    async def _stored(self, question: Question) -> dict[str, Any]:
        """Return the answer from the store or from the endpoint; it is stored in any case."""
        messages = question.messages()

        def form(place: Endpoint) -> dict[str, Any]:
            return place.form(messages, question.schema, question.max_tokens)

        key = request_key(form(self._endpoint))

        def keep(completion: Completion, place: Endpoint) -> None:
            self._answers.put(key, _packed(completion, place))

        # The same question twice in one call is asked once.
        async with self._asking[key]:
            stored = self._answers.get(key)
            if stored is None:
                await self._failover.ask(form, keep)
                stored = self._answers.get(key)
            else:
                self.remembered += 1
        assert stored is not None
        found: dict[str, Any] = json.loads(stored)
        return found


_DECLINED = {Declined.REFUSED: Problem.REFUSED, Declined.BAD_REQUEST: Problem.BAD_REQUEST}


def request_key(request: dict[str, Any]) -> str:
    """Hash a full request; the server's address is no part of it."""
    return f"answer-{json_digest(request, ascii_only=False)}"


def _packed(completion: Completion, place: Endpoint) -> str:
    usage = completion.usage
    # A server can put what it was sent into its answer, which ends in published tables.
    query = [value for _, value in parse_qsl(urlsplit(place.base_url).query)]
    secrets = [os.environ.get(place.api_key_env, ""), *query]
    return json.dumps(
        {
            "text": without(completion.text, secrets),
            "finish": without(completion.finish, secrets),
            "refusal": without(completion.refusal, secrets),
            "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None,
            "model": place.model,
        }
    )


def _read(stored: dict[str, Any], question: Question) -> tuple[Answer, str | None]:
    """Parse a stored answer; return also a complaint that the model can act on."""
    usage = stored.get("usage") or {}
    answer = Answer(
        content=None,
        model=stored.get("model", ""),
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
    )
    for problem, holds in (
        (Problem.REFUSED, bool(stored["refusal"]) or stored["finish"] == "content_filter"),
        (Problem.TOO_LONG, stored["finish"] == TOO_LONG),
        (Problem.CUT_OFF, stored["finish"] == "length"),
        (Problem.EMPTY, not stored["text"].strip()),
    ):
        if holds:
            return replace(answer, problem=problem), None
    try:
        content = json_object(stored["text"])
    except ValueError as error:
        complaint = f"That is not one JSON object: {error}. Answer again, with the JSON object alone."
        return replace(answer, problem=Problem.INVALID_JSON), complaint
    wrong = mismatch(content, question.schema)
    if wrong is None:
        return replace(answer, content=content), None
    complaint = f"That does not follow the JSON schema: {wrong}. Answer again, with the whole JSON object."
    return replace(answer, content=content, problem=Problem.WRONG_SCHEMA), complaint
