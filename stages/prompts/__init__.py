"""Prompts are text files beside this one; their digest is part of every memo key."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from importlib.resources import files

JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@cache
def text(name: str) -> str:
    """Return the prompt called ``name``, without trailing white space."""
    return (files(__package__) / f"{name}.txt").read_text(encoding="utf-8").strip()


def digest(name: str) -> str:
    """Return the first 16 hex digits of the prompt's sha256."""
    return hashlib.sha256(text(name).encode()).hexdigest()[:16]


def label(name: str) -> str:
    """Return the prompt's name and digest, as tables show it."""
    return f"{name}@{digest(name)}"


def as_data(facts: object, *, indent: int | None = None) -> str:
    """Encode untrusted text as JSON that cannot end where the text says.

    Chat templates mark turns with signs like ``<|im_end|>`` or ``[INST]``, and some servers read these in
    a message too; so both brackets are written as JSON's escapes.
    """
    written = json.dumps(facts, ensure_ascii=False, indent=indent)
    return JSON_STRING.sub(lambda found: found[0].replace("<", "\\u003c").replace("[", "\\u005b"), written)
