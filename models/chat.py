"""One request to an OpenAI-compatible endpoint, and what its outcome means.

An outcome is a completion or one of three errors: this try failed and another may not; this question is
declined; the endpoint refuses us altogether. Nothing that a server sends is trusted: not its status, not
its types, not its length.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import httpx2

from models.errors import EndpointError
from models.pacing import retry_after_s

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MAX_BODY_BYTES = 1_000_000
"""No bounded answer comes near; what is longer is not taken into memory."""
TOO_LONG = "too_long"
MOST_COUNTED = 10**9
"""Tokens of one request; a server that counts more is mistaken, and tables could not hold the number."""
BUSY = frozenset({408, 409, 425, 429})
"""Answers of the 4xx kind that may be others later."""
SLOW_DOWN = frozenset({408, 429, 503, 504})
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
MODERATED = re.compile(
    r"content[ _-]?(?:filter|policy|management|exists risk|violat)|moderation|flagged|guardrail|"
    r"data_?inspection|inappropriate content|usage guidelines|considered high risk|responsible_?ai|"
    r"safety (?:system|violation)|safety_check",
    re.IGNORECASE,
)
"""How providers say that they do not like what one request is about. OpenRouter and xAI do so with 403,
Azure, DeepSeek, Moonshot and DashScope with 400."""


class Declined(StrEnum):
    """Reasons why a question gets no answer, however often it is sent."""

    REFUSED = "refused"
    BAD_REQUEST = "bad_request"


class DeclinedError(Exception):
    """Refusal of one question; others may be answered."""

    def __init__(self, why: Declined, status: int) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


class FailedTryError(Exception):
    """Try that brought no answer; another one may.

    Attributes:
        outcome: for the ledger: ``busy``, ``server_error``, ``timeout``, ``broken``, ``unreachable`` or
            ``no_completion``.
        status: of HTTP, None without one.
        wait_s: how long the server asks to be left alone, where it says so.
        may_cost: whether the server may have answered, and charged, all the same.
    """

    def __init__(
        self,
        outcome: str,
        message: str,
        *,
        status: int | None = None,
        wait_s: float | None = None,
        may_cost: bool = False,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.status = status
        self.wait_s = wait_s
        self.may_cost = may_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Answer of a model.

    Attributes:
        finish: why it stopped: ``stop``, ``length``, ``content_filter``, another word of the server, or
            ``TOO_LONG`` for an answer of more than ``MAX_BODY_BYTES``, which is not kept.
        refusal: its reason not to answer, where there is one.
        usage: (tokens read, tokens written); None where the server does not say.
    """

    text: str
    finish: str
    refusal: str
    usage: tuple[int, int] | None


async def complete(
    client: AsyncOpenAI, request: Mapping[str, Any], *, timeout_s: float, options: Mapping[str, str]
) -> Completion:
    """Send a request and wait for the whole answer.

    Args:
        client: with the base URL and the key, and without tries of its own.
        options: values of ``base_url``, ``model``, ``api_key_env`` and ``schema_form``, to be named.

    Raises:
        FailedTryError: another try may bring an answer.
        DeclinedError: this question gets none.
        models.errors.EndpointError: no question does; the message names the option to look at.
    """
    import openai

    body = bytearray()
    try:
        async with (
            asyncio.timeout(timeout_s),
            # The body is read here and not by the package, which would take any length into memory.
            client.chat.completions.with_streaming_response.create(**request) as answer,
        ):
            response = answer.http_response
            async for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    return Completion(text="", finish=TOO_LONG, refusal="", usage=None)
    except TimeoutError as error:
        message = f"timed out after {timeout_s:g} s"
        raise FailedTryError("timeout", message, may_cost=True) from error
    except openai.APIStatusError as error:
        response, body = error.response, bytearray(error.response.content[:MAX_BODY_BYTES])
    except (openai.APIConnectionError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
            raise _refusal(str(cause), "base_url", options) from error
        # A server that could not be reached has received nothing.
        reached = not isinstance(cause, httpx2.ConnectError)
        message = f"{type(cause).__name__}: {cause}"
        raise FailedTryError("broken" if reached else "unreachable", message, may_cost=reached) from error
    return _understood(response, bytes(body), options)


def _understood(response: httpx2.Response, body: bytes, options: Mapping[str, str]) -> Completion:
    status = response.status_code
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    error = _error_of(said)
    if response.is_success:
        completion = _completion(said)
        if completion is not None:
            return completion
        shown = body[:200].decode(errors="replace")
        # OpenRouter and others tell under the status of a success what went wrong behind them.
        inner = error.get("code")
        if isinstance(inner, int) and 400 <= inner < 600:
            status = inner
        else:
            # Half of an answer may have been charged; a gateway's page was not written by a model.
            may_cost = said is None and not body.lstrip().startswith(b"<")
            message = f"sent no chat completion: {shown}"
            raise FailedTryError("no_completion", message, status=status, may_cost=may_cost)
    message = str(error.get("message") or body[:2000].decode(errors="replace"))
    words = " ".join(
        [message[:2000], *(str(error.get(key)) for key in ("code", "type", "param", "metadata"))]
    )
    message = message[:300]
    out_of_credit = error.get("code") == "insufficient_quota"
    if not 400 <= status < 500 or (status in BUSY and not out_of_credit):
        raise FailedTryError(
            "busy" if status in SLOW_DOWN else "server_error",
            f"answers {status}: {message}",
            status=status,
            wait_s=retry_after_s(response.headers, datetime.now(UTC)),
        )
    if status in (400, 403, 413, 422, 451):
        if MODERATED.search(words):
            raise DeclinedError(Declined.REFUSED, status)
        blamed = next((option for option, pattern in BLAMED if pattern.search(words)), None)
        if blamed is None and status != 403:
            raise DeclinedError(Declined.BAD_REQUEST, status)
        option = blamed or AT_FAULT[status]
    else:
        option = "api_key_env" if out_of_credit else AT_FAULT.get(status, "base_url")
    raise _refusal(f"answers {status}: {message}", option, options)


def _refusal(said: str, option: str, options: Mapping[str, str]) -> EndpointError:
    return EndpointError(f"{options['base_url']} {said}; look at {option}, which is {options[option]}")


def _error_of(said: object) -> dict[str, Any]:
    """Return the error in an answer; empty if there is none in any known form."""
    if not isinstance(said, dict):
        return {}
    error = said.get("error", said.get("detail"))
    if isinstance(error, dict):
        return error
    # xAI: a code and an error side by side, both text.
    return {"code": said.get("code"), "message": error if isinstance(error, str) else None}


def _completion(said: object) -> Completion | None:
    """Return the first choice; None if the answer is no chat completion."""
    try:
        choice = said["choices"][0]  # type: ignore[index]
        message = choice["message"]
        text, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError):
        return None
    if not all(value is None or isinstance(value, str) for value in (text, refusal, finish)):
        return None
    assert isinstance(said, dict)
    return Completion(
        text=_clean(text), finish=_clean(finish), refusal=_clean(refusal), usage=_usage(said.get("usage"))
    )


def _clean(text: str | None) -> str:
    """Replace halves of surrogate pairs, which JSON can carry and encoders refuse."""
    return (text or "").encode("utf-8", "replace").decode()


def _usage(said: object) -> tuple[int, int] | None:
    if not isinstance(said, dict):
        return None
    counts = [said.get(name) for name in ("prompt_tokens", "completion_tokens")]
    good = [count for count in counts if isinstance(count, int) and 0 <= count <= MOST_COUNTED]
    return (good[0], good[1]) if len(good) == 2 else None
