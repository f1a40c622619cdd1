"""Keys and sizes, checked before a request reaches the application."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.platform import metrics


class Gate:
    """ASGI middleware that admits requests with a known key and a body that is small enough.

    The caller's digest stands in ``scope["owner"]`` afterwards.

    Args:
        prefix: of the paths that need a key.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, keys: Sequence[str], max_body_bytes: int) -> None:
        self._app, self._prefix = app, prefix
        self._digests = [digest(key) for key in keys]
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        owner = self._owner(dict(scope["headers"]).get(b"authorization", b""))
        if owner is None:
            metrics.add("videoauteur_service_refused", reason="key")
            refused = JSONResponse(
                {"detail": "send Authorization: Bearer KEY"}, 401, {"WWW-Authenticate": "Bearer"}
            )
            await refused(scope, receive, send)
            return
        body = bytearray()
        more = scope["method"] not in ("GET", "HEAD")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_body_bytes:
                metrics.add("videoauteur_service_refused", reason="size")
                too_large = JSONResponse(
                    {"detail": f"the request has more than {self._max_body_bytes} bytes"}, 413
                )
                await too_large(scope, receive, send)
                return
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app({**scope, "owner": owner}, replay, send)

    def _owner(self, header: bytes) -> str | None:
        """Return the digest of the caller's key; None if it is unknown. Compares in constant time."""
        scheme, _, key = header.decode("latin-1").partition(" ")
        given = digest(key.strip())
        known = [hmac.compare_digest(given, each) for each in self._digests]
        return given if scheme.lower() == "bearer" and any(known) else None


def digest(key: str) -> str:
    """Return the name under which a key's jobs are stored."""
    return hashlib.sha256(key.encode()).hexdigest()
