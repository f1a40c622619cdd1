"""Pages of the program: fixed files of one folder, without outside resources, under strict headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def page_headers(*, pictures: str) -> dict[str, str]:
    """Return headers for pages that load scripts, styles and data from their own host alone.

    Args:
        pictures: where pictures and videos may come from, as a source of a Content-Security-Policy:
            ``'self'`` or ``blob:``.
    """
    return {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"connect-src 'self'; img-src {pictures}; media-src {pictures}; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def page_routes(folder: Path, name: str, headers: Mapping[str, str]) -> list[Route]:
    """Return routes of a page ``name.html``, which is ``/``, of its style sheet and its script."""
    files = {"/": f"{name}.html", **{f"/{name}{suffix}": f"{name}{suffix}" for suffix in (".css", ".js")}}
    return [
        Route(address, _served(folder / file, headers), include_in_schema=False)
        for address, file in files.items()
    ]


def _served(path: Path, headers: Mapping[str, str]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=headers)

    return serve
