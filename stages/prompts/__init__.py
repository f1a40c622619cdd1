"""Prompts are text files beside this one; their digest is part of every memo key."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files


@cache
def text(name: str) -> str:
    """The prompt called ``name``, without trailing white space."""
    return (files(__package__) / f"{name}.txt").read_text(encoding="utf-8").strip()


def digest(name: str) -> str:
    """First 16 hex digits of the prompt's sha256."""
    return hashlib.sha256(text(name).encode()).hexdigest()[:16]
