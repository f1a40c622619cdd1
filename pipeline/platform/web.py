"""Pages of the program: fixed files, without outside resources, under strict headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from string import Template

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGES = Path(__file__).parent / "pages"
"""Folder of the frame of all pages, and of their icon."""


def page_headers(*, pictures: str = "") -> dict[str, str]:
    """Return headers for pages that load scripts, styles and data from their own host alone.

    Args:
        pictures: where pictures and videos may come from beside the own host, as sources of a
            Content-Security-Policy, such as ``blob:``.
    """
    return {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"connect-src 'self'; img-src 'self' {pictures}; media-src 'self' {pictures}; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def page_routes(folder: Path, name: str, title: str, headers: Mapping[str, str]) -> list[Route]:
    """Return routes of a page, which is ``/``, of its style sheet, script and icon.

    Args:
        folder: holds the page's body as ``name.html``, and ``name.css`` and ``name.js``.
    """
    frame = Template((PAGES / "page.html").read_text())
    page = frame.substitute(name=name, title=title, body=(folder / f"{name}.html").read_text())
    files = [folder / f"{name}.css", folder / f"{name}.js", PAGES / "icon.svg"]
    return [
        Route("/", _always(HTMLResponse(page, headers=dict(headers))), include_in_schema=False),
        *(Route(f"/{file.name}", _served(file, headers), include_in_schema=False) for file in files),
    ]


def _always(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return response

    return serve


def _served(path: Path, headers: Mapping[str, str]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=headers)

    return serve
