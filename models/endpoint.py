"""Where language models answer, and in which form they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """OpenAI-compatible server.

    Attributes:
        base_url: with the ``/v1``.
        model: as the server calls it.
        api_key_env: the environment variable that holds the key; the key itself is kept nowhere.
        schema_form: how the server takes a JSON schema: ``json_schema`` (OpenAI, vLLM, llama.cpp) or
            ``json_object`` (the schema beside the type).
        concurrency: most requests in flight from one worker; fewer while the server is busy.
        timeout_s: for one request.
        deadline_s: for one question over all its tries, from the first on.
        max_retries: for 408, 409, 425, 429, 5xx, timeouts and broken connections.
        input_price: US dollars for a million tokens read.
        output_price: for a million tokens written.
        others: further addresses. Those of the same model share the load; those of another are asked
            when all of these fail. Of the first alone count ``deadline_s`` and ``max_retries``.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    schema_form: Literal["json_schema", "json_object"] = "json_schema"
    concurrency: int = 8
    timeout_s: float = 120.0
    deadline_s: float = 600.0
    max_retries: int = 4
    input_price: float = 0.0
    output_price: float = 0.0
    others: tuple[Endpoint, ...] = ()

    def by_model(self) -> list[list[Endpoint]]:
        """Return all addresses grouped by model, this one's model first."""
        groups: dict[str, list[Endpoint]] = {}
        for each in (self, *self.others):
            groups.setdefault(each.model, []).append(each)
        return list(groups.values())

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return the price of some tokens, in US dollars."""
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6

    def form(
        self, messages: list[dict[str, Any]], schema: dict[str, Any], max_tokens: int
    ) -> dict[str, Any]:
        """Build the body of a request; equal questions have equal bodies."""
        if self.schema_form == "json_schema":
            wanted: dict[str, Any] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        else:
            wanted = {"type": "json_object", "schema": schema}
        return {
            "model": self.model,
            "messages": messages,
            "response_format": wanted,
            "temperature": 0,
            "seed": 0,
            "max_tokens": max_tokens,
        }
