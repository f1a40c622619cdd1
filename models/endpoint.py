"""Addresses of language models, and the form in which they are asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from models.settings import Count, NonNegative, Positive, Section, WholeNumber

SchemaForm = Literal["json_schema", "json_object"]


def _checked_url(url: str) -> str:
    """Refuse a URL that is none of HTTP, or has a user or a password, which tables and logs would show."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("an address begins with http:// or https://")
    split = urlsplit(url)
    if split.username or split.password:
        raise ValueError("no user and password in a URL: put the key into the variable api_key_env names")
    return url


BaseUrl = Annotated[str, AfterValidator(_checked_url)]


class Access(Section):
    """Form of an endpoint's requests, and its prices.

    Attributes:
        api_key_env: the environment variable that holds the key; the key itself is kept nowhere.
        schema_form: how the server takes a JSON schema: ``json_schema`` (OpenAI, vLLM, llama.cpp) or
            ``json_object`` (the schema beside the type).
        concurrency: most requests in flight from one worker; fewer while the server is busy.
        timeout_s: for one request.
        deadline_s: for one question over all its tries, from the first on.
        max_retries: for 408, 409, 425, 429, 5xx, timeouts and broken connections.
        input_price: US dollars for a million tokens read.
        output_price: for a million tokens written.
    """

    api_key_env: str = "OPENAI_API_KEY"
    schema_form: SchemaForm = "json_schema"
    concurrency: Count = 8
    timeout_s: Positive = 120.0
    deadline_s: Positive = 600.0
    max_retries: WholeNumber = 4
    input_price: NonNegative = 0.0
    output_price: NonNegative = 0.0


class Endpoint(Access):
    """OpenAI-compatible server.

    Attributes:
        base_url: with the ``/v1``.
        model: as the server calls it.
        others: further addresses. Those of the same model share the load; those of another are asked
            when all of these fail. Of the first alone count ``deadline_s`` and ``max_retries``.
    """

    base_url: BaseUrl
    model: str
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


class Address(Section):
    """Another server that can answer; None takes the value of the first one."""

    base_url: BaseUrl
    model: str | None = None
    api_key_env: str | None = None
    schema_form: SchemaForm | None = None
    input_price: NonNegative | None = None
    output_price: NonNegative | None = None


class EndpointSettings(Access):
    """Configuration of an endpoint; without ``base_url`` the job's own server answers, where it can.

    ``others`` with the same model share the load; those with another are asked when all of these fail.
    """

    base_url: BaseUrl | None = None
    model: str | None = None
    others: tuple[Address, ...] = ()

    @model_validator(mode="after")
    def _model_goes_with_url(self) -> Self:
        if (self.base_url is None) != (self.model is None):
            raise ValueError("base_url and model go together: set both, or neither")
        return self

    def endpoint(self) -> Endpoint | None:
        """Return the configured endpoint; None where the job's own server is meant."""
        if self.base_url is None or self.model is None:
            return None
        # A subclass may have settings beside those of an endpoint.
        given = {name: getattr(self, name) for name in Endpoint.model_fields if name != "others"}
        first = Endpoint.model_validate(given)
        others = (first.model_copy(update=address.model_dump(exclude_none=True)) for address in self.others)
        return first.model_copy(update={"others": tuple(others)})
