"""The service's HTTP interface: narratives are requested, watched, edited, fetched, cancelled and removed.

Keys are checked before a body is read, bodies are counted while they are read, and pictures come inside the
request: no path and no address of a caller is ever opened. Whatever touches a file runs in a thread.
"""

import asyncio
import base64
import binascii
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query
from fastapi import Path as InPath
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer

from generation import config
from generation.film.plan import FilmError, FirstStep, Plan, PlannedStep, Request
from generation.film.stills import PictureError, read_picture
from generation.service.gate import Gate
from generation.service.jobs import Jobs
from generation.service.records import UNFINISHED, Change, Job, NotNowError, QueueFullError
from generation.service.studio import studio_routes
from generation.service.views import (
    API,
    First,
    Health,
    Models,
    NarrativeList,
    NarrativeRequest,
    NarrativeView,
    Problem,
    StepEdit,
    step_view,
    summary_of,
    view_of,
)
from models.errors import ReportedError
from pipeline import __version__
from pipeline.platform import metrics
from pipeline.platform.log import log
from pipeline.platform.object_file import object_response

RETRY_AFTER_S = 10
HEARTBEAT_S = 15.0
MAX_LISTED = 100
MAX_FIRST_SIDE_PX = 1024
"""Pictures of a first step are reduced to this side: models see far smaller ones."""


async def _own(http: HttpRequest, job_id: Annotated[str, InPath(alias="id")]) -> Job:
    """Return the caller's job of an address."""
    jobs: Jobs = http.app.state.jobs
    job = jobs.find(http.scope["owner"], job_id)
    if job is None:
        raise HTTPException(404, "there is no such narrative")
    return job


Own = Annotated[Job, Depends(_own)]
Number = Annotated[int, InPath(ge=1, lt=2**31)]


def build_app(
    jobs: Jobs,
    options: config.Serve,
    *,
    max_steps: int,
    keys: Sequence[str],
    models: Callable[[], Models | None],
) -> FastAPI:
    """Return the application over a set of jobs.

    Args:
        max_steps: of a narrative.
        keys: accepted from callers.
        models: what films are made by; None until the models are loaded.
    """
    app = FastAPI(title="VideoAuteur", version=__version__, docs_url=None, redoc_url=None)
    app.state.jobs = jobs
    app.add_middleware(Gate, prefix=f"{API}/", keys=keys, max_body_bytes=options.max_body_bytes)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(ReportedError, _out_of_reach)
    add_health(app, models)
    app.router.routes.extend(studio_routes())
    api = Narratives(jobs, options, max_steps)
    router = APIRouter(
        prefix=f"{API}/narratives",
        dependencies=[Depends(HTTPBearer(auto_error=False))],
        responses=_errors(401, 422, 503),
    )
    api.add_requests(router)
    api.add_files(router)
    app.include_router(router)
    return app


def add_health(app: FastAPI, models: Callable[[], Models | None]) -> None:
    """Add what load balancers and pages ask: health, readiness, models."""

    @app.get("/healthz", operation_id="health", summary="Whether the service answers")
    async def health() -> Health:
        return Health(status="ok")

    @app.get(
        "/readyz", operation_id="ready", summary="Whether the models are loaded",
        responses={503: {"model": Health, "description": "models are still loading"}},
    )  # fmt: skip
    async def ready(response: Response) -> Health:
        if models() is None:
            response.status_code = 503
            return Health(status="starting")
        return Health(status="ok")

    @app.get("/models", operation_id="models", summary="The models that make films", responses=_errors(503))
    async def about() -> Models:
        found = models()
        if found is None:
            raise HTTPException(503, "the models are still loading")
        return found


class Narratives:
    """The operations on narratives."""

    def __init__(self, jobs: Jobs, options: config.Serve, max_steps: int) -> None:
        self._jobs, self._options, self._max_steps = jobs, options, max_steps
        self._retention_s = None if options.retention_h is None else options.retention_h * 3600
        self._streams: Counter[str] = Counter()
        # Decoded pictures are large: one at a time.
        self._decoding = asyncio.Semaphore(1)

    def add_requests(self, router: APIRouter) -> None:
        """Add the operations that answer with documents."""
        jobs = self._jobs

        @router.post(
            "", status_code=202, operation_id="create_narrative", summary="Ask for a film",
            responses=_errors(400, 413, 429),
        )  # fmt: skip
        async def create(wanted: NarrativeRequest, http: HttpRequest) -> NarrativeView:
            return await self._create(wanted, http.scope["owner"])

        @router.get(
            "",
            operation_id="list_narratives",
            summary="All of yours, newest first",
        )
        async def listed(
            http: HttpRequest,
            limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20,
            offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        ) -> NarrativeList:
            owned = jobs.owned(http.scope["owner"])
            shown = owned[offset : offset + limit]
            return NarrativeList(
                narratives=[summary_of(job, self._retention_s) for job in shown], total=len(owned)
            )

        @router.get("/{id}", operation_id="get_narrative", summary="How far it is", responses=_errors(404))
        async def look(job: Own) -> NarrativeView:
            return await self._view(job)

        @router.post(
            "/{id}/cancel", operation_id="cancel_narrative", summary="Stop it, also inside a clip",
            responses=_errors(404, 409),
        )  # fmt: skip
        async def cancel(job: Own) -> NarrativeView:
            with _answered():
                job = await asyncio.to_thread(jobs.cancel, job)
            if job.status in ("done", "failed"):
                raise HTTPException(409, f"the narrative is {job.status} and cannot be cancelled")
            return await self._view(job)

        @router.delete(
            "/{id}", status_code=204, operation_id="delete_narrative", summary="Remove it with its files",
            response_class=Response,
            responses=_errors(404, 409),
        )  # fmt: skip
        async def delete(job: Own) -> None:
            with _answered():
                await asyncio.to_thread(jobs.remove, job)

        @router.put(
            "/{id}/steps/{step}", status_code=202, operation_id="edit_step",
            summary="Change a step; what depends on it is made again",
            responses=_errors(400, 404, 409, 413, 429),
        )  # fmt: skip
        async def edit(job: Own, step: Number, new: StepEdit) -> NarrativeView:
            with _answered():
                job = await asyncio.to_thread(jobs.edit, job, step, new.action)
            return await self._view(job)

    def add_files(self, router: APIRouter) -> None:
        """Add the operations that answer with streams and files."""

        @router.get(
            "/{id}/events", operation_id="watch_narrative", response_class=StreamingResponse,
            summary="Server-sent events: `narrative` (the whole, first and at each change of status) and "
            "`step` (one step: its text, then its key frame, then its clips)",
            responses=_errors(404, 429) | _content("text/event-stream"),
        )  # fmt: skip
        async def events(job: Own) -> StreamingResponse:
            if self._streams[job.owner] >= self._options.max_streams_per_key:
                raise _too_many(f"{self._streams[job.owner]} event streams of yours are open")
            return StreamingResponse(self._events(job), media_type="text/event-stream")

        @router.get(
            "/{id}/film", operation_id="get_film", summary="The film", response_class=FileResponse,
            responses=_errors(404, 409) | _content("video/mp4"),
        )  # fmt: skip
        async def film(job: Own, http: HttpRequest) -> Response:
            if job.status != "done":
                raise HTTPException(409, f"the narrative is {job.status}, there is no film")
            return await self._file(http, job, "film.mp4", "video/mp4")

        @router.get(
            "/{id}/keyframes/{step}", operation_id="get_keyframe", summary="A key frame",
            response_class=FileResponse, responses=_errors(404) | _content("image/png"),
        )  # fmt: skip
        async def keyframe(job: Own, step: Number, http: HttpRequest) -> Response:
            planned = await self._step(job, step)
            if planned is None or planned.keyframe is None:
                raise HTTPException(404, f"there is no key frame of step {step} (yet)")
            return await self._file(http, job, planned.keyframe, "image/png")

        @router.get(
            "/{id}/clips/{step}/{number}", operation_id="get_clip", summary="A clip",
            response_class=FileResponse, responses=_errors(404) | _content("video/mp4"),
        )  # fmt: skip
        async def clip(job: Own, step: Number, number: Number, http: HttpRequest) -> Response:
            planned = await self._step(job, step)
            if planned is None or number > len(planned.clips):
                raise HTTPException(404, f"there is no clip {number} of step {step} (yet)")
            return await self._file(http, job, planned.clips[number - 1], "video/mp4")

    async def _file(self, http: HttpRequest, job: Job, name: str, media_type: str) -> Response:
        found = await asyncio.to_thread(self._jobs.file, job, name)
        # An edit changes the content at the same address.
        headers = {"Cache-Control": "no-cache"}
        if found is None:
            raise HTTPException(404, "the file has been removed")
        if isinstance(found, Path):
            return FileResponse(found, media_type=media_type, headers=headers)
        assert self._jobs.results is not None
        return object_response(
            http, self._jobs.results.store, found, media_type=media_type, headers=headers
        )

    async def _create(self, wanted: NarrativeRequest, owner: str) -> NarrativeView:
        if len(wanted.goal) > self._options.max_goal_chars:
            raise HTTPException(
                422, f"goal: {len(wanted.goal)} characters, at most {self._options.max_goal_chars}"
            )
        if wanted.steps is not None and wanted.steps > self._max_steps:
            raise HTTPException(422, f"steps: {wanted.steps}, at most {self._max_steps}")
        with _answered():
            # Before a picture is decoded, which costs far more.
            await asyncio.to_thread(self._jobs.check_room, owner)
            first = await self._first(wanted.first_step)
            request = Request(goal=wanted.goal, seed=wanted.seed, steps=wanted.steps, first=first)
            job = await asyncio.to_thread(self._jobs.submit, owner, request)
        return await self._view(job)

    async def _first(self, given: First | None) -> FirstStep | None:
        if given is None or given.picture is None:
            return None if given is None else FirstStep(text=given.text)
        try:
            data = base64.b64decode(given.picture, validate=True)
            async with self._decoding:
                picture = await asyncio.to_thread(
                    read_picture,
                    data,
                    max_pixels=self._options.max_picture_pixels,
                    max_side=MAX_FIRST_SIDE_PX,
                )
        except (binascii.Error, ValueError) as error:
            reason = str(error) if isinstance(error, PictureError) else f"not base64 ({error})"
            raise HTTPException(422, f"first_step.picture: {reason}") from error
        return FirstStep(text=given.text, picture=picture)

    async def _view(self, job: Job) -> NarrativeView:
        plan = await asyncio.to_thread(self._jobs.plan, job)
        return view_of(job, plan, self._retention_s)

    async def _step(self, job: Job, step: int) -> PlannedStep | None:
        plan = await asyncio.to_thread(self._jobs.plan, job)
        return plan.steps[step - 1] if plan and step <= len(plan.steps) else None

    async def _events(self, job: Job) -> AsyncIterator[str]:
        changes: asyncio.Queue[Change] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(change: Change) -> None:
            loop.call_soon_threadsafe(changes.put_nowait, change)

        self._count_stream(job.owner, +1)
        try:
            with self._jobs.watched(job, put):
                job = self._jobs.find(job.owner, job.id) or job
                yield self._event(job, await asyncio.to_thread(self._jobs.plan, job), 0)
                while job.status in UNFINISHED:
                    try:
                        change = await asyncio.wait_for(changes.get(), HEARTBEAT_S)
                    except TimeoutError:
                        # Shows proxies that the stream is alive, and us that the client has gone.
                        yield ": still at work\n\n"
                        continue
                    job = change.job
                    yield self._event(job, change.plan, change.step)
        finally:
            self._count_stream(job.owner, -1)

    def _event(self, job: Job, plan: Plan | None, step: int) -> str:
        if step and plan and step <= len(plan.steps):
            return f"event: step\ndata: {step_view(job, plan.steps[step - 1]).model_dump_json()}\n\n"
        return f"event: narrative\ndata: {view_of(job, plan, self._retention_s).model_dump_json()}\n\n"

    def _count_stream(self, owner: str, change: int) -> None:
        self._streams[owner] += change
        metrics.put("videoauteur_service_streams", self._streams.total())


@contextmanager
def _answered() -> Iterator[None]:
    """Turn the errors of jobs into answers."""
    try:
        yield
    except QueueFullError as error:
        raise _too_many(str(error)) from error
    except NotNowError as error:
        raise HTTPException(409, str(error)) from error
    except FilmError as error:
        raise HTTPException(422, str(error)) from error


def _too_many(reason: str) -> HTTPException:
    metrics.add("videoauteur_service_refused", reason="room")
    return HTTPException(429, reason, headers={"Retry-After": str(RETRY_AFTER_S)})


async def _not_understood(http: HttpRequest, error: Exception) -> Response:
    """Answer with where a request is wrong. Its values are left out: some have no form in JSON or UTF-8."""
    assert isinstance(error, RequestValidationError)
    metrics.add("videoauteur_service_refused", reason="input")
    reasons = [
        f"{'.'.join(part for part in each['loc'][1:] if isinstance(part, str)) or 'body'}: {each['msg']}"
        for each in error.errors()
    ]
    body = json.dumps({"detail": "; ".join(reasons)[:2000]})
    return Response(body, status_code=422, media_type="application/json")


async def _out_of_reach(http: HttpRequest, error: Exception) -> Response:
    """Answer when the object store fails; its name and its words are for the log alone."""
    log("store_failed", level="error", error=str(error))
    body = json.dumps({"detail": "the results cannot be reached now, try later"})
    return Response(
        body, status_code=503, media_type="application/json", headers={"Retry-After": str(RETRY_AFTER_S)}
    )


MEANINGS = {
    400: "the body is not JSON",
    401: "no key, or an unknown one", 404: "it does not exist, or is not yours",
    409: "its status does not allow this", 413: "the request is too large",
    422: "the request is not understood", 429: "too many; Retry-After says when to try again",
    503: "the models are still loading, or the results cannot be reached",
}  # fmt: skip


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"description": MEANINGS[code], "model": Problem} for code in codes}


def _content(media_type: str) -> dict[int | str, dict[str, Any]]:
    # OpenAPI 3.1 has no schema for a stream of events.
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": {media_type: {} if media_type == "text/event-stream" else binary}}}
