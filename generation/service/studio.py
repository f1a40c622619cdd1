"""The studio: a page in which films are asked for, watched as they appear, edited and downloaded.

The page calls the HTTP interface as any client does and writes untrusted text into the document as text
only. The page itself needs no key; its calls do.
"""

from __future__ import annotations

from pathlib import Path

from starlette.routing import Route

from pipeline.platform.web import page_headers, page_routes


def studio_routes() -> list[Route]:
    """Return the routes of the page and its files."""
    return page_routes(
        Path(__file__).parent / "pages", "studio", "VideoAuteur studio", page_headers(pictures="blob:")
    )
