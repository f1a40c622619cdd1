"""Log for programs to read: one JSON object per line on standard error.

On a terminal the bars of :mod:`pipeline.platform.progress` stand in its place.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any, Literal

Level = Literal["info", "warning", "error"]


def log(event: str, *, level: Level = "info", **fields: Any) -> None:
    """Write one line: ``time`` (UTC, ISO 8601), ``level``, ``event`` and the fields that are not empty.

    Args:
        event: a short name for programs, in lower case with underscores.
        fields: JSON values, free of secrets.
    """
    if sys.stderr.isatty():
        return
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    told = {name: value for name, value in fields.items() if value not in ("", None)}
    line = json.dumps({"time": time, "level": level, "event": event, **told}, ensure_ascii=True)
    print(line, file=sys.stderr, flush=True)
