"""The inspector's web server: fixed pages, JSON about one dataset, and the media of its videos by range.

It listens on loopback unless told otherwise and answers only requests for its own host name, so that a page
elsewhere cannot read the dataset through a browser. Media are found by video id; no request names a path.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pipeline.dataset import SCRATCH
from pipeline.platform.web import page_headers, page_routes
from pipeline.report.inspector import Inspected, Row, compare
from pipeline.report.status import RUN_FILE, NoRunError, as_text, read_status

HEADERS = page_headers(pictures="'self'")
VIDEO_ID = re.compile(r"[0-9a-f]{16}")
MAX_ROWS = 200


class Server:
    """Answers questions about a dataset, and reads it again when its run has ended anew.

    Args:
        output: OUTPUT of `videoauteur curate`, finished or running.
        against: another OUTPUT to compare with.
    """

    def __init__(self, output: Path, against: Path | None = None) -> None:
        self._output, self._against = output, against
        self._loaded: dict[Path, tuple[int, Inspected]] = {}
        self._lock = asyncio.Lock()

    def app(self, host: str) -> Starlette:
        """Return the application for one host name."""
        pages = page_routes(Path(__file__).parent / "pages", "inspect", HEADERS)
        questions: dict[str, Callable[[Inspected, Mapping[str, str]], Any]] = {
            "/api/overview": self._overview,
            "/api/videos": lambda data, asked: data.videos(
                text=asked.get("text", ""), status=asked.get("status", ""), **_window(asked)
            ),
            "/api/rejects": lambda data, asked: data.rejects(
                kind=asked.get("kind", ""),
                stage=asked.get("stage", ""),
                reason=asked.get("reason", ""),
                **_window(asked),
            ),
            "/api/search": lambda data, asked: data.search(asked.get("text", ""), **_window(asked)),
            "/api/histograms": lambda data, asked: data.histograms(),
            "/api/what-if": lambda data, asked: data.what_if(_settings(data, asked)),
            "/api/video": lambda data, asked: _found(data.video(asked.get("id", ""))),
        }
        routes = [Route(address, self._answer(question)) for address, question in questions.items()]
        media = [
            Route("/api/compare", self._compare),
            Route("/media/{id}", self._media),
            Route("/frames/{id}/{time_ms:int}", self._frame),
        ]
        hosts = sorted({host, "localhost", "127.0.0.1"}) if host not in ("0.0.0.0", "::") else ["*"]
        return Starlette(
            routes=[*pages, *routes, *media],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
                Middleware(GZipMiddleware, minimum_size=2000),
            ],
        )

    async def data(self, output: Path) -> Inspected:
        """Return the tables, read again if the run has written them anew."""
        async with self._lock:
            files = (output / SCRATCH / RUN_FILE, output / RUN_FILE)
            stamp = max((path.stat().st_mtime_ns for path in files if path.is_file()), default=0)
            if output not in self._loaded or self._loaded[output][0] != stamp:
                self._loaded[output] = (stamp, await asyncio.to_thread(Inspected, output))
            return self._loaded[output][1]

    def _answer(self, question: Callable[[Inspected, Mapping[str, str]], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            data = await self.data(self._output)
            return _json(await asyncio.to_thread(question, data, request.query_params))

        return answer

    def _overview(self, data: Inspected, asked: Mapping[str, str]) -> Row:
        status = None
        with suppress(NoRunError):
            status = as_text(read_status(self._output))
        return {
            "output": self._output.name,
            "against": None if self._against is None else self._against.name,
            "status": data.run["status"],
            "progress": status,
            "settings": data.settings(),
            "stages": data.run.get("stages", {}),
            **data.funnel(),
        }

    async def _compare(self, request: Request) -> Response:
        if self._against is None:
            raise HTTPException(404, "start the inspector with --against OTHER")
        old, new = await self.data(self._against), await self.data(self._output)
        return _json(await asyncio.to_thread(lambda: compare(old, new, **_window(request.query_params))))

    async def _media(self, request: Request) -> Response:
        data = await self.data(self._output)
        path = data.media(_video_id(request))
        if path is None:
            raise HTTPException(404, "no such video, or its file is not on this machine")
        kind = mimetypes.guess_type(path.name)[0] or ""
        # Only what a browser plays: a file named .html must not be shown as a page of this host.
        media_type = kind if kind.startswith("video/") else "video/mp4"
        return FileResponse(path, media_type=media_type, headers=HEADERS)

    async def _frame(self, request: Request) -> Response:
        video_id, time_us = _video_id(request), request.path_params["time_ms"] * 1000
        packed = self._output / SCRATCH / "frames" / video_id[:2] / f"{video_id}.zip"
        jpeg = await asyncio.to_thread(_nearest, packed, time_us)
        if jpeg is None:
            raise HTTPException(404, "the packed frames of this video are gone")
        return Response(jpeg, media_type="image/jpeg", headers=HEADERS)


def _nearest(packed: Path, time_us: int) -> bytes | None:
    try:
        with zipfile.ZipFile(packed) as archive:
            names = [name for name in archive.namelist() if name.removesuffix(".jpg").isdecimal()]
            return (
                archive.read(min(names, key=lambda name: abs(int(name[:-4]) - time_us))) if names else None
            )
    except (OSError, zipfile.BadZipFile):
        return None


def _json(tree: Any) -> Response:
    # Names of files may hold bytes that are not UTF-8.
    body = to_json(tree, inf_nan_mode="null", serialize_unknown=True)
    return Response(body, media_type="application/json", headers=HEADERS)


def _found(tree: Row | None) -> Row:
    if tree is None:
        raise HTTPException(404, "no such video in this dataset")
    return tree


def _video_id(request: Request) -> str:
    video_id: str = request.path_params["id"]
    if not VIDEO_ID.fullmatch(video_id):
        raise HTTPException(404, "no such video in this dataset")
    return video_id


def _window(asked: Mapping[str, str]) -> dict[str, int]:
    numbers = {}
    for name, default, most in (("offset", 0, 2**31), ("limit", 50, MAX_ROWS)):
        text = asked.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > most:
            raise HTTPException(422, f"{name}: a whole number up to {most}")
        numbers[name] = int(text)
    return numbers


def _settings(data: Inspected, asked: Mapping[str, str]) -> dict[str, float | None]:
    settings: dict[str, float | None] = {}
    for name, text in asked.items():
        if name not in data.settings():
            raise HTTPException(422, f"{name[:80]}: no such threshold")
        if text == "null" and name == "match.sufficient_iou":
            settings[name] = None
        elif re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text):
            settings[name] = float(text)
        else:
            raise HTTPException(422, f"{name}: a number from 0 on")
    return settings
