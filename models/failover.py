"""Asks the addresses of an endpoint until one of them answers, and enters every request in the ledger."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

import httpx2

from models.budget import Cost, Usage, most_tokens
from models.chat import SLOW_DOWN, Completion, DeclinedError, FailedTryError, complete
from models.endpoint import Endpoint
from models.errors import EndpointError, TransientError
from models.ledger import Ledger
from models.pacing import Pace, Traffic, WaitTooLongError, backoff_s

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BUDGET_POLL_S = 0.05
HERE = re.compile(r"localhost|127(?:\.\d+){3}|::1")
OPTIONS = ("base_url", "model", "api_key_env", "schema_form")

Form = Callable[[Endpoint], dict[str, Any]]
Paces = Sequence[Sequence[Pace[Endpoint]]]
Keep = Callable[[Completion, Endpoint], None]


@cache
def _certificates() -> ssl.SSLContext:
    """Load the certificates once: it takes longer than a short answer."""
    return httpx2.create_ssl_context()


class Failover:
    """Addresses of an endpoint for one event loop; an asynchronous context manager.

    Args:
        endpoint: with its others.
        paces: by model as :meth:`Endpoint.by_model` has them; they outlive this object.
        ledger: None if requests are not counted.
        stage: who asks.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        paces: Sequence[Sequence[Pace[Endpoint]]],
        ledger: Ledger | None,
        stage: str,
    ) -> None:
        self._endpoint = endpoint
        self._paces = paces
        self._ledger = ledger
        self._stage = stage
        self._traffic = Traffic()
        self._clients: dict[Endpoint, AsyncOpenAI] = {}

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        for group in self._paces:
            for pace in group:
                await self._connect(pace)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ask(self, form: Form, keep: Keep) -> None:
        """Send a question, again if needed, until there is an answer.

        Args:
            form: the request to an address.
            keep: stores the answer of an address before it is entered as paid for.

        Raises:
            DeclinedError: this question gets no answer.
            EndpointError: no address ever answers.
            TransientError: none answered, after all tries.
            BudgetError: the budget allows no other request.
        """
        errors: list[Exception] = []
        started: list[float] = []
        for position, group in enumerate(self._paces):
            later = self._paces[position + 1 :]
            if later and all(pace.refusal or (pace.abandoned and pace.resting) for pace in group):
                errors += [
                    pace.refusal or TransientError(f"{pace.place.base_url}: no server answers")
                    for pace in group
                ]
                continue
            try:
                return await self._ask_group(group, form, keep, started, groups_left=len(later) + 1)
            except (EndpointError, TransientError) as error:
                errors.append(error)
        # What may work later is worth another try, even where other addresses never will.
        raise next((error for error in errors if isinstance(error, TransientError)), errors[-1])

    async def _ask_group(
        self,
        group: Sequence[Pace[Endpoint]],
        form: Form,
        keep: Keep,
        started: list[float],
        groups_left: int,
    ) -> None:
        """Ask the addresses of one model, each time the one that has failed this question least."""
        failures: Counter[int] = Counter()
        usable = [pace for pace in group if pace.refusal is None]
        hopeless = all(pace.abandoned for pace in usable)
        tries = 1 if hopeless else max(self._endpoint.max_retries + 1, len(usable))
        deadline_s = self._endpoint.deadline_s
        left_s = deadline_s - (time.monotonic() - started[0] if started else 0.0)
        patience_s = left_s / groups_left
        until = time.monotonic() + patience_s if started else None
        said = ""
        while True:
            if all(pace.refusal for pace in group):
                raise next(pace.refusal for pace in group if pace.refusal)
            try:
                async with self._traffic.slot(group, failures, until, patience_s) as pace:
                    if until is None:
                        started.append(time.monotonic())
                        until = started[0] + patience_s
                    said = pace.place.base_url
                    return await self._send(pace, form(pace.place), keep, until)
            except EndpointError as error:
                pace.refusal = error
                continue
            except WaitTooLongError as error:
                raise TransientError(f"{said or group[0].place.base_url}: {error}") from error
            except FailedTryError as error:
                failures[group.index(pace)] += 1
                message = f"{pace.place.base_url}: {error}"
                tried = sum(failures.values())
                # A pause that the server asks for is kept by all, where places in the traffic are given.
                wait_s = 0.0 if error.wait_s else self._wait_s(group, failures)
                if tried < tries and until is not None and time.monotonic() + wait_s < until:
                    await asyncio.sleep(wait_s)
                    continue
                if error.status is None:
                    for each in usable:
                        each.abandoned = each.silences > 0
                raise TransientError(f"{message} (tried {tried} times)") from error

    def _wait_s(self, group: Sequence[Pace[Endpoint]], failures: Counter[int]) -> float:
        """Return the wait before the next try, in seconds; 0 if an address is left that has failed less."""
        counts = {failures[number] for number, pace in enumerate(group) if pace.refusal is None}
        return 0.0 if len(counts) > 1 else backoff_s(max(counts, default=1))

    async def _send(self, pace: Pace[Endpoint], request: dict[str, Any], keep: Keep, until: float) -> None:
        """Send one request, with its two entries in the ledger."""
        place = pace.place
        number = await self._enter(place, request)
        outcome, usage, status = "interrupted", None, None
        sent = time.monotonic()
        try:
            completion = await complete(
                self._clients[place],
                request,
                timeout_s=max(0.001, min(place.timeout_s, until - sent)),
                options={name: str(getattr(place, name)) for name in OPTIONS},
            )
            keep(completion, place)
            pace.answered()
            outcome, status = "answered", 200
            if completion.usage is not None:
                read, written = completion.usage
                usage = Usage(input_tokens=read, output_tokens=written, usd=place.usd(read, written))
        except FailedTryError as error:
            outcome, status, usage = error.outcome, error.status, None if error.may_cost else Usage()
            if error.outcome in ("timeout", "unreachable"):
                pace.silent()
            else:
                pace.spoke()
            if error.outcome == "timeout" or error.status in SLOW_DOWN or error.wait_s is not None:
                pace.busy(sent, error.wait_s)
            raise
        except DeclinedError as error:
            pace.spoke()
            outcome, status, usage = str(error.why), error.status, Usage()
            raise
        except EndpointError:
            outcome, usage = "endpoint_refused", Usage()
            raise
        finally:
            if self._ledger is not None and number is not None:
                self._ledger.ended(number, outcome, usage, status=status)

    async def _enter(self, place: Endpoint, request: dict[str, Any]) -> int | None:
        """Enter a request in the ledger as soon as the budget has room for it."""
        if self._ledger is None:
            return None
        tokens = most_tokens(request)
        written: int = request["max_tokens"]
        most = Cost(requests=1, tokens=tokens, usd=place.usd(tokens - written, written))
        while (number := self._ledger.sent(self._stage, place.model, most)) is None:
            await asyncio.sleep(BUDGET_POLL_S)
        return number

    async def _connect(self, pace: Pace[Endpoint]) -> None:
        place = pace.place
        # It takes a second or two to import, and a worker that asks nothing must not pay for that.
        from openai import AsyncOpenAI

        key = (os.environ.get(place.api_key_env) or "none").strip()
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(
                f"the key in {place.api_key_env} holds characters that no HTTP header carries; set it again"
            )
        try:
            connections = httpx2.AsyncClient(
                timeout=None,
                follow_redirects=True,
                verify=_certificates(),
                limits=httpx2.Limits(max_connections=None),
                # A proxy of the environment would look for our own servers on its own machine.
                trust_env=not HERE.fullmatch(httpx2.URL(place.base_url).host),
            )
            # The package appends its path to the end of the URL, so a query must be given by itself.
            bare, _, query = place.base_url.partition("?")
            client = AsyncOpenAI(
                base_url=bare,
                default_query=dict(parse_qsl(query, keep_blank_values=True)),
                api_key=key,
                http_client=connections,
                timeout=None,
                max_retries=0,
            )
        except httpx2.InvalidURL as error:
            raise EndpointError(f"base_url {place.base_url}: {error}") from error
        self._clients[place] = await self._stack.enter_async_context(client)
