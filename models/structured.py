"""JSON objects parsed from a model's answer and checked against their schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

FENCED = re.compile(r"```(?:json)?[ \t\r]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
MAX_COMPLAINT = 400


def json_object(text: str) -> dict[str, Any]:
    """Parse the object that a text is, or that its first fenced block is.

    Raises:
        ValueError: there is none, or it holds what JSON, a file or a table cannot.
    """
    fenced = FENCED.search(text)
    try:
        found = _parsed(text)
    except ValueError:
        if fenced is None:
            raise
        found = _parsed(fenced[1])
    if not isinstance(found, dict):
        raise ValueError(f"an object was wanted, this is a {type(found).__name__}")
    return found


def mismatch(content: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """Return how an object differs from the schema, in words; None if it fits."""
    error = best_match(Draft202012Validator(schema).iter_errors(content))
    if error is None:
        return None
    where = "".join(f"[{part!r}]" for part in error.absolute_path)
    return f"answer{where}: {error.message}"[:MAX_COMPLAINT]


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text, parse_constant=_no_number)
        # A lone half of a surrogate pair can be escaped in JSON and cannot be written anywhere; 1e999 is
        # read as infinite.
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
