"""The studio: a page in which films are asked for, watched as they appear, edited and downloaded.

The page is three fixed files without outside resources. It calls the HTTP interface as any client does and
writes untrusted text into the document as text only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

PAGES = Path(__file__).parent / "pages"
FILES = {
    "/": ("studio.html", "text/html"),
    "/studio.css": ("studio.css", "text/css"),
    "/studio.js": ("studio.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def add_studio(app: FastAPI) -> None:
    """Add the page; it needs no key, its calls do."""
    for address, (name, media_type) in FILES.items():
        app.add_api_route(address, _served(name, media_type), include_in_schema=False)


def _served(name: str, media_type: str) -> Callable[[], Awaitable[FileResponse]]:
    async def serve() -> FileResponse:
        return FileResponse(PAGES / name, media_type=media_type, headers=HEADERS)

    return serve
