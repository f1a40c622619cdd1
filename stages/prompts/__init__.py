"""Prompts are text files beside this one; their digest is part of every memo key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files


@cache
def text(name: str) -> str:
    """The prompt called ``name``, without trailing white space."""
    return (files(__package__) / f"{name}.txt").read_text(encoding="utf-8").strip()


def digest(name: str) -> str:
    """First 16 hex digits of the prompt's sha256."""
    return hashlib.sha256(text(name).encode()).hexdigest()[:16]


def label(name: str) -> str:
    """The prompt's name and digest, as tables tell it."""
    return f"{name}@{digest(name)}"


def as_data(facts: Mapping[str, str | float]) -> str:
    """Strangers' words as a JSON object that cannot end where they say.

    Chat templates mark turns with signs like ``<|im_end|>`` or ``[INST]``, and some servers read these in
    a message too; so both brackets are written as JSON's escapes.
    """
    written = json.dumps(facts, ensure_ascii=False)
    return written.replace("<", "\\u003c").replace("[", "\\u005b")
