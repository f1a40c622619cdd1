"""The inspector's web server: fixed pages, JSON about one dataset, and the media of its videos by range.

It listens on loopback unless told otherwise and answers only requests for its own host name, so that a page
elsewhere cannot read the dataset through a browser. Media are found by video id; no request names a path.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
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

from models.errors import ReportedError
from pipeline.dataset import SCRATCH
from pipeline.dataset.bucket_copy import dataset_state, local_copy
from pipeline.dataset.manifest import DatasetError
from pipeline.platform.object_file import object_response
from pipeline.platform.web import page_headers, page_routes
from pipeline.report.columns import Row
from pipeline.report.comparison import Comparison, compare
from pipeline.report.inspector import Inspected
from pipeline.report.source import NoSourceError, Source
from pipeline.report.status import RUN_FILE, NoRunError, as_text, read_status
from stages.frames import nearest_frame, packed_frames

HEADERS = page_headers()
VIDEO_ID = re.compile(r"[0-9a-f]{16}")
MAX_ROWS = 200
CHECK_EVERY_S = 2.0
"""Age from which the last look at the state of a dataset is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A dataset as it was at some state.

    Attributes:
        files: holds a local copy of a dataset in a bucket.
    """

    state: object
    data: Inspected
    files: ExitStack


class Server:
    """Answers questions about a dataset, and reads it again when its run has ended anew.

    Args:
        output: OUTPUT of `videoauteur curate`, finished or running; a string is the URL of one in a bucket.
        against: another OUTPUT to compare with.
    """

    def __init__(self, output: Path | str, against: Path | str | None = None) -> None:
        self._output, self._against = output, against
        self._opened: dict[Path | str, Opened] = {}
        self._checked_s: dict[Path | str, float] = {}
        self._compared: tuple[Inspected, Inspected, Comparison] | None = None
        self._lock = asyncio.Lock()
        # A decoder takes many megabytes: one picture at a time.
        self._decoding = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def app(self, host: str) -> Starlette:
        """Return the application for one host name."""
        pages = page_routes(Path(__file__).parent / "pages", "inspect", "VideoAuteur inspector", HEADERS)
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
        app = Starlette(
            routes=[*pages, *routes, *media],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
                Middleware(GZipMiddleware, minimum_size=2000),
            ],
            exception_handlers={DatasetError: _refused, ReportedError: _refused},
        )
        # An address that is none gets no redirection to a similar one.
        app.router.redirect_slashes = False
        return app

    async def data(self, output: Path | str) -> Inspected:
        """Return the tables, read again if the run has written them anew.

        Raises:
            DatasetError: they cannot be read.
            models.errors.ReportedError: there is no run, or the store does not answer.
        """
        async with self._lock:
            there = self._opened.get(output)
            now_s = time.monotonic()
            if there is not None and now_s - self._checked_s[output] < CHECK_EVERY_S:
                return there.data
            try:
                state = await asyncio.to_thread(_state, output)
                if there is None or there.state != state:
                    self._opened[output] = await asyncio.to_thread(_open, output, state)
                    self._prepare(self._opened[output].data)
                    if there is not None:
                        there.files.close()
            except (DatasetError, ReportedError):
                # In the middle of a push, and while the store is away, the last version stays.
                if there is None:
                    raise
            self._checked_s[output] = now_s
            return self._opened[output].data

    def _prepare(self, data: Inspected) -> None:
        task = asyncio.create_task(asyncio.to_thread(data.prepare))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, question: Callable[[Inspected, Mapping[str, str]], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            data = await self.data(self._output)
            return _json(await asyncio.to_thread(question, data, request.query_params))

        return answer

    def _overview(self, data: Inspected, asked: Mapping[str, str]) -> Row:
        status = None
        with suppress(NoRunError):
            status = as_text(read_status(self._output)) if isinstance(self._output, Path) else None
        return {
            "output": _short(self._output),
            "against": None if self._against is None else _short(self._against),
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
        if self._compared is None or self._compared[:2] != (old, new):
            self._compared = (old, new, await asyncio.to_thread(compare, old, new))
        return _json(self._compared[2].page(**_window(request.query_params)))

    async def _media(self, request: Request) -> Response:
        source = await self._source(_video_id(request))
        kind = mimetypes.guess_type(source.name)[0] or ""
        # Only what a browser plays: a file named .html must not be shown as a page of this host.
        media_type = kind if kind.startswith("video/") else "video/mp4"
        if source.store is not None and source.object is not None:
            return object_response(
                request, source.store, source.object, media_type=media_type, headers=HEADERS
            )
        assert source.path is not None
        return FileResponse(source.path, media_type=media_type, headers=HEADERS)

    async def _source(self, video_id: str) -> Source:
        data = await self.data(self._output)
        try:
            return await asyncio.to_thread(data.media, video_id)
        except NoSourceError as error:
            raise HTTPException(404, str(error)) from error

    async def _frame(self, request: Request) -> Response:
        """Answer with the packed frame nearest to a time, or with a picture decoded from the video."""
        video_id, time_s = _video_id(request), request.path_params["time_ms"] / 1000
        jpeg = None
        if isinstance(self._output, Path):
            packed = packed_frames(self._output / SCRATCH, video_id)
            jpeg = await asyncio.to_thread(nearest_frame, packed, time_s)
        if jpeg is None:
            source = await self._source(video_id)
            try:
                async with self._decoding:
                    jpeg = await asyncio.to_thread(source.jpeg_at, time_s)
            except NoSourceError as error:
                raise HTTPException(404, str(error)) from error
        return Response(jpeg, media_type="image/jpeg", headers=HEADERS)


def _state(output: Path | str) -> object:
    """Return what changes when the dataset is written anew."""
    if isinstance(output, str):
        return dataset_state(output)
    files = (output / SCRATCH / RUN_FILE, output / RUN_FILE)
    return max((path.stat().st_mtime_ns for path in files if path.is_file()), default=0)


def _open(output: Path | str, state: object) -> Opened:
    files = ExitStack()
    try:
        folder = files.enter_context(local_copy(output)) if isinstance(output, str) else output
        data = Inspected(folder, local=isinstance(output, Path))
    except BaseException:
        files.close()
        raise
    return Opened(state=state, data=data, files=files)


def _short(output: Path | str) -> str:
    return output.name if isinstance(output, Path) else output.rstrip("/").rpartition("/")[2]


async def _refused(request: Request, error: Exception) -> Response:
    """Answer in words when the dataset cannot be read."""
    return Response(str(error), status_code=503, media_type="text/plain", headers=HEADERS)


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
