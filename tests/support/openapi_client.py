"""A client made from a service's OpenAPI document alone, which checks every answer against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from jsonschema import Draft202012Validator


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    content: bytes
    tree: Any


class Client:
    """Calls operations by their ids; parameters that are not part of the path go into the query."""

    def __init__(self, url: str, key: str | None) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        self.document = self._http.get("/openapi.json").json()
        self._key = key
        self._operations = {
            operation["operationId"]: (method, path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def __call__(self, operation: str, body: Any = None, **parameters: Any) -> Answer:
        method, url, headers, query, known = self._request(operation, parameters)
        if body is not None:
            assert "requestBody" in known
        answer = self._http.request(method, url, headers=headers, params=query, json=body)
        return self._checked(known, answer)

    def fetch(self, url: str) -> httpx.Response:
        """Get an address that an answer named."""
        return self._http.get(url, headers={"Authorization": f"Bearer {self._key}"})

    @contextmanager
    def events(self, operation: str, **parameters: Any) -> Iterator[Iterator[tuple[str, Any]]]:
        """Names and documents of server-sent events."""
        method, url, headers, query, _ = self._request(operation, parameters)
        with self._http.stream(method, url, headers=headers, params=query) as answer:
            assert answer.status_code == 200
            yield _events(answer)

    def _request(self, operation: str, parameters: dict[str, Any]) -> tuple[Any, ...]:
        method, path, known = self._operations[operation]
        places = {each["name"]: each["in"] for each in known.get("parameters", [])}
        assert set(parameters) <= set(places), (operation, parameters)
        url = path.format(**{name: parameters[name] for name, place in places.items() if place == "path"})
        query = {name: value for name, value in parameters.items() if places[name] == "query"}
        headers = {"Authorization": f"Bearer {self._key}"} if known.get("security") and self._key else {}
        return method, url, headers, query, known

    def _checked(self, known: dict[str, Any], answer: httpx.Response) -> Answer:
        declared = known["responses"].get(str(answer.status_code))
        assert declared is not None, f"{answer.status_code} is not declared: {answer.text[:300]}"
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        tree = None
        if media_type == "application/json":
            tree = answer.json()
            schema = declared["content"]["application/json"]["schema"]
            Draft202012Validator({**schema, "components": self.document["components"]}).validate(tree)
        elif answer.content:
            assert media_type in declared["content"], media_type
        return Answer(answer.status_code, answer.headers, answer.content, tree)


def _events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
