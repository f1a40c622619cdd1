"""Secrets are taken out of every text that leaves the process: tables, run files, reports and logs."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "[redacted]"
MIN_CHARACTERS = 6
"""Shorter values of variables are words that stand anywhere."""
KEY_NAMES = r"(?:x-)?(?:api[-_]?key|access[-_]?token|secret(?:[-_]access)?(?:[-_]key)?|password|passwd)"
SIGNATURES = r"x-amz-signature|x-amz-credential|x-amz-security-token|sig|signature|token|key"
PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Headers, as servers echo them.
        r"(\b(?:proxy-)?authorization\b[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic)\s+)?[^\s\"',;}]+",
        r"(\bbearer\s+)[A-Za-z0-9._~+/=-]{6,}",
        # Options and fields.
        rf"({KEY_NAMES}[\"']?(?:\s*[:=]\s*|[\"'],\s*|\s+)[\"']?)[^\s\"',;}}&]{{6,}}",
        # User and password in URLs, and signatures.
        r"(\b[a-z][a-z0-9+.-]*://)[^/\s@\"']+@",
        rf"([?&](?:{SIGNATURES})=)[^&\s\"']+",
        r"()\bsk-[a-z0-9_-]{8,}",
    )
)
"""Patterns of secrets; a match is replaced but for its first group."""
KEY_OPTION = re.compile(r"--?(?:api[-_]?key|token|password)", re.IGNORECASE)
"""Options whose next argument is a secret."""
KEY_VARIABLE = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.IGNORECASE)
"""Environment variables that hold a secret by their name."""


class Redactor:
    """Filter that takes known secrets, and text that looks like one, out of texts.

    Args:
        variables: names of environment variables that hold keys, beside those named so.
        values: further secrets.
    """

    def __init__(self, variables: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        named = [name for name in os.environ if KEY_VARIABLE.search(name)]
        values = {*values, *(os.environ.get(name, "") for name in (*variables, *named))}
        self._values = tuple(values)

    def text(self, text: str) -> str:
        """Return a text without known secrets and without text that looks like one."""
        text = without(text, self._values)
        for pattern in PATTERNS:
            text = pattern.sub(rf"\1{HIDDEN}", text)
        return text

    def tree(self, value: Any) -> Any:
        """Return JSON values without secrets; an argument after an option for a key is one too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {name: self.tree(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [
                HIDDEN if index and _names_a_key(value[index - 1]) else self.tree(item)
                for index, item in enumerate(value)
            ]
        return value


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a text without some secrets; all else is as it was."""
    # A longer one first, which may begin with a shorter one.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_CHARACTERS:
            text = text.replace(secret, HIDDEN)
    return text


def secret_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments of a program that follow an option for a key."""
    words = list(arguments)
    return [word for option, word in itertools.pairwise(words) if _names_a_key(option)]


def _names_a_key(option: object) -> bool:
    return isinstance(option, str) and KEY_OPTION.fullmatch(option) is not None
