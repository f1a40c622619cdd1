"""The one door for language and vision-language calls.

Every captioning and refining question goes through :class:`LanguageClient` to an OpenAI-compatible
endpoint, hosted or started by the job itself. An answer is stored under the hash of its full request
before it is used, so an answered request is never paid for twice.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

import openai
from openai import AsyncOpenAI

from models.errors import EndpointError, TransientError
from models.ledger import Ledger

BUSY = frozenset({408, 409, 425, 429})
"""Answers of the 4xx kind that may be others later."""
AT_FAULT = {401: "api_key_env", 402: "api_key_env", 403: "api_key_env", 404: "model"}
"""The option to look at, by status."""
BLAMED = (
    ("api_key_env", re.compile(r"api[ _-]?key", re.IGNORECASE)),
    ("schema_form", re.compile(r"response_format|json_schema", re.IGNORECASE)),
    (
        "model",
        re.compile(
            r"\bmodel\b.{0,80}\bnot (?:exist|found|support)|(?:unknown|invalid) model|unsupported_",
            re.IGNORECASE,
        ),
    ),
)
"""The option to look at, by what an answer 400 or 422 says."""


class AnswerStore(Protocol):
    """Keeps JSON text under a key. A value once stored is never changed."""

    def get(self, key: str) -> str | None:
        """The value, or None."""

    def put(self, key: str, value: str) -> None:
        """Store a value; it is safe from a kill when this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible server.

    Attributes:
        base_url: with the ``/v1``.
        model: as the server calls it.
        api_key_env: the environment variable that holds the key; the key itself is kept nowhere.
        schema_form: how the server takes a JSON schema: ``json_schema`` (OpenAI, vLLM, llama.cpp) or
            ``json_object`` (the schema beside the type).
        concurrency: requests in flight from one worker.
        timeout_s: for one request.
        max_retries: for 408, 409, 429, 5xx and broken connections, honouring ``Retry-After``.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    schema_form: Literal["json_schema", "json_object"] = "json_schema"
    concurrency: int = 8
    timeout_s: float = 120.0
    max_retries: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request.

    Attributes:
        instructions: what to do; ours alone.
        material: what to do it with; a stranger's words, never an instruction.
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


class Problem(StrEnum):
    """Why there is no usable answer."""

    INVALID_JSON = "invalid_json"
    REFUSED = "refused"
    CUT_OFF = "cut_off"
    BAD_REQUEST = "bad_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A JSON object, or the reason why there is none.

    Attributes:
        content: the object; None with a problem.
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
    """Asks an endpoint many questions at once and remembers the answers."""

    def __init__(
        self, endpoint: Endpoint, answers: AnswerStore, *, ledger: Ledger | None = None, stage: str = ""
    ) -> None:
        self.endpoint = endpoint
        self._answers = answers
        self._ledger = ledger
        self._stage = stage

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers in the order of the questions.

        Raises:
            EndpointError: it refuses the key, the model or the form of the request; not asked again.
            TransientError: the endpoint could not be reached, or stayed too busy, after all retries.
                What was answered until then is stored.
        """
        return asyncio.run(self._ask_all(questions)) if questions else []

    async def _ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        gate = asyncio.Semaphore(self.endpoint.concurrency)
        async with AsyncOpenAI(
            base_url=self.endpoint.base_url,
            api_key=os.environ.get(self.endpoint.api_key_env) or "none",
            timeout=self.endpoint.timeout_s,
            max_retries=self.endpoint.max_retries,
        ) as client:

            async def bounded(question: Question) -> Answer:
                async with gate:
                    return await self._ask_one(client, question)

            results = await asyncio.gather(
                *(bounded(question) for question in questions), return_exceptions=True
            )
        # All requests are let finish first, so that a failure loses no answer that was paid for.
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if isinstance(result, Answer)]

    async def _ask_one(self, client: AsyncOpenAI, question: Question) -> Answer:
        request = self._request(question)
        key = request_key(request)
        stored = self._answers.get(key)
        if stored is None:
            try:
                completion = await client.chat.completions.create(**request)
            except openai.APIStatusError as error:
                return self._refused(error)
            except openai.APIError as error:
                raise TransientError(f"{self.endpoint.base_url}: {error}") from error
            except ValueError as error:
                raise self._no_completion(error) from error
            # A gateway's page or error can come under the status of a success.
            choices = getattr(completion, "choices", None)
            if not choices or choices[0].message is None:
                raise self._no_completion(completion)
            choice = choices[0]
            stored = json.dumps(
                {
                    "text": choice.message.content or "",
                    "finish": choice.finish_reason,
                    "refusal": choice.message.refusal or "",
                    "usage": completion.usage.model_dump(mode="json") if completion.usage else None,
                    "model": self.endpoint.model,
                }
            )
            self._answers.put(key, stored)
        return _read(json.loads(stored))

    def _refused(self, error: openai.APIStatusError) -> Answer:
        """What an answer other than a success means: for this question, for all, or for now."""
        status = error.status_code
        if not 400 <= status < 500 or status in BUSY:
            raise TransientError(f"{self.endpoint.base_url}: {error}") from error
        option = AT_FAULT.get(status, "base_url")
        if status in (400, 413, 422):
            if error.code == "content_filter":
                return Answer(content=None, problem=Problem.REFUSED)
            said = f"{error.code} {error.param} {error}"
            blamed = next((option for option, words in BLAMED if words.search(said)), None)
            if blamed is None:
                return Answer(content=None, problem=Problem.BAD_REQUEST)
            option = blamed
        raise EndpointError(
            f"{self.endpoint.base_url} answers {status}: {str(error)[:300]}; "
            f"look at {option}, which is {getattr(self.endpoint, option)}"
        ) from error

    def _no_completion(self, said: object) -> TransientError:
        return TransientError(f"{self.endpoint.base_url} sent no chat completion: {str(said)[:200]}")

    def _request(self, question: Question) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {
                "type": "image_url",
                "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()},
            }
            for jpeg in question.images
        ]
        content.append({"type": "text", "text": question.material})
        messages: list[dict[str, Any]] = [{"role": "system", "content": question.instructions}]
        for material, answer in question.examples:
            messages.append({"role": "user", "content": material})
            messages.append({"role": "assistant", "content": json.dumps(answer)})
        messages.append({"role": "user", "content": content if question.images else question.material})
        for answered, complaint in question.follow_ups:
            messages.append({"role": "assistant", "content": answered})
            messages.append({"role": "user", "content": complaint})
        if self.endpoint.schema_form == "json_schema":
            wanted: dict[str, Any] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": question.schema},
            }
        else:
            wanted = {"type": "json_object", "schema": question.schema}
        return {
            "model": self.endpoint.model,
            "messages": messages,
            "response_format": wanted,
            "temperature": 0,
            "seed": 0,
            "max_tokens": question.max_tokens,
        }


def request_key(request: dict[str, Any]) -> str:
    """Hash of a full request; the server's address is no part of it."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return "answer-" + hashlib.sha256(text.encode()).hexdigest()


def _read(stored: dict[str, Any]) -> Answer:
    usage = stored.get("usage") or {}
    return replace(
        _content(stored),
        model=stored.get("model", ""),
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
    )


def _content(stored: dict[str, Any]) -> Answer:
    if stored["refusal"] or stored["finish"] == "content_filter":
        return Answer(content=None, problem=Problem.REFUSED)
    if stored["finish"] == "length":
        return Answer(content=None, problem=Problem.CUT_OFF)
    try:
        content = json.loads(stored["text"])
    except ValueError:
        return Answer(content=None, problem=Problem.INVALID_JSON)
    if not isinstance(content, dict):
        return Answer(content=None, problem=Problem.INVALID_JSON)
    return Answer(content=content)
