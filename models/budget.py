"""Cost of requests, and the bounds on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.settings import NonNegative, Section, WholeNumber


class Amounts:
    """Base of dataclasses of numbers that are added and scaled field by field."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        return self._with(lambda name: getattr(self, name) + getattr(other, name))

    def __sub__(self, other: Self) -> Self:
        return self._with(lambda name: getattr(self, name) - getattr(other, name))

    def __mul__(self, times: float) -> Self:
        return self._with(lambda name: getattr(self, name) * times)

    def _with(self, value: Callable[[str], float]) -> Self:
        names: tuple[str, ...] = self.__slots__
        return type(self)(**{name: value(name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(Amounts):
    """Cost of one request, or of many."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and money that one request used."""

    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0


class Budget(Section):
    """Bounds on a whole account, kept by all workers together; None is no bound.

    Attributes:
        max_usd: of what the prices of the endpoints come to.
        max_tokens: read and written together.
        max_requests: sent, whatever became of them.
    """

    max_usd: NonNegative | None = None
    max_tokens: WholeNumber | None = None
    max_requests: WholeNumber | None = None

    def exceeded(self, cost: Cost) -> str | None:
        """Return the bound that a cost exceeds, in words; None if it is within all."""
        for name, bound, value in (
            ("max_usd", self.max_usd, cost.usd),
            ("max_tokens", self.max_tokens, cost.tokens),
            ("max_requests", self.max_requests, cost.requests),
        ):
            if bound is not None and value > bound:
                return f"budget.{name}, which is {bound:g}"
        return None


IMAGE_TOKENS = 8500
"""For a frame within 512 x 512 pixels. GPT-4o mini charges so much, a tile of 5,667 over 2,833; no other
that we know of does. LLaVA-NeXT's largest grid is 2,880."""
MESSAGE_TOKENS = 16


def most_tokens(request: Mapping[str, Any]) -> int:
    """Return an upper bound on the tokens that a chat request is charged for, read and written.

    A token is at least one byte. The bound on pictures holds for frames of ordinary size; it is what a
    reservation is made of, and the account holds what the server says.
    """
    texts = [json.dumps(request["response_format"])]
    images = 0
    for message in request["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts += [part["text"] for part in parts if part["type"] == "text"]
        images += sum(part["type"] == "image_url" for part in parts)
    written: int = request["max_tokens"]
    return (
        sum(len(text.encode()) for text in texts)
        + MESSAGE_TOKENS * len(request["messages"])
        + IMAGE_TOKENS * images
        + written
    )
