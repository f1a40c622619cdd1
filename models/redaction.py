"""Secrets are taken out of every text that leaves the process: tables, run files, reports and logs."""

from __future__ import annotations

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
"""What looks like a secret; the first group stays."""
KEY_OPTION = re.compile(r"--?(?:api[-_]?key|token|password)", re.IGNORECASE)


class Redactor:
    """Takes known secrets, and what looks like one, out of texts.

    Args:
        variables: names of environment variables that hold keys.
    """

    def __init__(self, variables: Iterable[str] = ()) -> None:
        values = {os.environ.get(name, "") for name in variables}
        self._values = sorted((value for value in values if len(value) >= MIN_CHARACTERS), reverse=True)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
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


def _names_a_key(option: object) -> bool:
    return (
        isinstance(option, str)
        and re.fullmatch(r"(?i)--?(?:api[-_]?key|token|password)", option) is not None
    )
