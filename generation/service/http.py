"""The service's HTTP interface: narratives are asked for, watched, fetched and cancelled.

Keys are checked before a body is read, bodies are counted while they are read, and pictures come inside the
request: no path and no address of a caller is ever opened.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi import Path as InPath
from fastapi import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from generation import config
from generation.film.plan import FirstStep, Request
from generation.film.stills import PictureError, read_picture
from generation.service.jobs import RETRY_AFTER_S, UNFINISHED, Job, Jobs, QueueFullError, Status
from pipeline import __version__

POLL_S = 0.2
API = "/v1"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class First(_Strict):
    """The first step, given instead of written."""

    text: str = Field(min_length=1, max_length=1000, description="what is done")
    picture: str | None = Field(
        None, description="what it looks like: a PNG, JPEG or WebP in base64; addresses are not taken"
    )


class NarrativeRequest(_Strict):
    """What to make."""

    goal: str = Field(min_length=1, examples=["How to make spring rolls?"])
    steps: int | None = Field(None, ge=1, description="default: the director decides")
    seed: int = Field(0, ge=0, lt=2**53)
    first_step: First | None = None

    @field_validator("goal")
    @classmethod
    def _says_something(cls, goal: str) -> str:
        if not goal.strip() or not goal.isprintable():
            raise ValueError("one line of printable characters, not only spaces")
        return goal.strip()


class StepView(BaseModel):
    """A step, as far as it is made."""

    step: int
    action: str
    caption: str
    keyframe: str | None = Field(description="address of the picture, once it is there")


class NarrativeView(BaseModel):
    """A job and what there is of its film."""

    id: str
    status: Status
    url: str
    goal: str
    steps: list[StepView] = []
    film: str | None = Field(None, description="address of the film, once it is done")
    error: str | None = None


def build_app(jobs: Jobs, options: config.Serve, *, max_steps: int, keys: Sequence[str]) -> FastAPI:
    """The application over a set of jobs.

    Args:
        max_steps: of a narrative.
        keys: accepted from callers.
    """
    app = FastAPI(title="VideoAuteur", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_Gate, keys=keys, max_body_bytes=options.max_body_bytes)

    @app.get("/healthz", summary="Whether the service answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    api = APIRouter(prefix=f"{API}/narratives", dependencies=[Depends(HTTPBearer(auto_error=False))])

    def own(http: HttpRequest, job_id: Annotated[str, InPath(alias="id")]) -> Job:
        job = jobs.find(http.scope["owner"], job_id)
        if job is None:
            raise HTTPException(404, "there is no such narrative")
        return job

    Own = Annotated[Job, Depends(own)]  # noqa: N806 - a type

    @api.post("", status_code=202, summary="Ask for a film", responses=_errors(401, 413, 422, 429))
    async def submit(asked: NarrativeRequest, http: HttpRequest) -> NarrativeView:
        if len(asked.goal) > options.max_goal_chars:
            raise HTTPException(
                422, f"goal: {len(asked.goal)} characters, at most {options.max_goal_chars}"
            )
        if asked.steps is not None and asked.steps > max_steps:
            raise HTTPException(422, f"steps: {asked.steps}, at most {max_steps}")
        first = await asyncio.to_thread(_first, asked.first_step)
        request = Request(goal=asked.goal, seed=asked.seed, steps=asked.steps, first=first)
        try:
            job = await asyncio.to_thread(jobs.submit, http.scope["owner"], request)
        except QueueFullError:
            raise HTTPException(
                429, "the queue is full, try later", headers={"Retry-After": str(RETRY_AFTER_S)}
            ) from None
        return view(job)

    @api.get("/{id}", summary="How far it is", responses=_errors(401, 404))
    async def look(job: Own) -> NarrativeView:
        return view(job)

    @api.delete("/{id}", summary="Cancel", responses=_errors(401, 404, 409))
    async def cancel(job: Own) -> NarrativeView:
        job = jobs.cancel(job)
        if job.status in ("done", "failed"):
            raise HTTPException(409, f"it is {job.status} and cannot be cancelled")
        return view(job)

    @api.get(
        "/{id}/film", summary="The film", response_class=FileResponse, responses=_errors(401, 404, 409)
    )
    async def film(job: Own) -> FileResponse:
        if job.status != "done":
            raise HTTPException(409, f"the narrative is {job.status}, there is no film")
        return FileResponse(jobs.film(job) / "film.mp4", media_type="video/mp4")

    @api.get(
        "/{id}/keyframes/{step}", summary="A key frame", response_class=FileResponse,
        responses=_errors(401, 404),
    )  # fmt: skip
    async def keyframe(job: Own, step: int) -> FileResponse:
        path = keyframes(job).get(step)
        if path is None:
            raise HTTPException(404, f"there is no key frame of step {step} (yet)")
        return FileResponse(path, media_type="image/png")

    @api.get("/{id}/events", summary="Every change, as server-sent events", responses=_errors(401, 404))
    async def events(job: Own) -> StreamingResponse:
        return StreamingResponse(changes(job), media_type="text/event-stream")

    async def changes(job: Job) -> AsyncIterator[str]:
        last = ""
        while True:
            job = jobs.find(job.owner, job.id) or job
            now = view(job).model_dump_json()
            if now != last:
                last = now
                yield f"event: narrative\ndata: {now}\n\n"
            if job.status not in UNFINISHED:
                return
            await asyncio.sleep(POLL_S)

    def keyframes(job: Job) -> dict[int, Path]:
        plan = jobs.plan(job)
        files = (
            {step.step: jobs.film(job) / step.keyframe for step in plan.steps if step.keyframe}
            if plan
            else {}
        )
        return {step: path for step, path in files.items() if path.is_file()}

    def view(job: Job) -> NarrativeView:
        url = f"{API}/narratives/{job.id}"
        plan, there = jobs.plan(job), keyframes(job)
        steps = [
            StepView(
                step=step.step, action=step.action, caption=step.caption,
                keyframe=f"{url}/keyframes/{step.step}" if step.step in there else None,
            )
            for step in (plan.steps if plan else [])
        ]  # fmt: skip
        film = f"{url}/film" if job.status == "done" else None
        return NarrativeView(
            id=job.id, status=job.status, url=url, goal=job.goal, steps=steps, film=film, error=job.error
        )

    app.include_router(api)
    return app


def _first(asked: First | None) -> FirstStep | None:
    if asked is None:
        return None
    if asked.picture is None:
        return FirstStep(text=asked.text)
    try:
        data = base64.b64decode(asked.picture, validate=True)
        return FirstStep(text=asked.text, picture=read_picture(data))
    except binascii.Error as error:
        raise HTTPException(422, f"first_step.picture: not base64 ({error})") from error
    except PictureError as error:
        raise HTTPException(422, f"first_step.picture: {error}") from error


MEANINGS = {
    401: "no key, or not one of ours", 404: "not there, or not yours", 409: "not in this state",
    413: "the request is too large", 422: "the request is not understood",
    429: "too many wait; Retry-After says when to try again",
}  # fmt: skip


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"description": MEANINGS[code]} for code in codes}


class _Gate:
    """Lets in who has a key, and bodies that are small enough."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], max_body_bytes: int) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        owner = self._owner(headers.get(b"authorization", b""))
        if owner is None:
            refused = JSONResponse(
                {"detail": "send Authorization: Bearer KEY"}, 401, {"WWW-Authenticate": "Bearer"}
            )
            await refused(scope, receive, send)
            return
        body = bytearray()
        more = scope["method"] == "POST"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_body_bytes:
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
        """Digest of the caller's key. All keys are looked at, each in constant time."""
        scheme, _, key = header.decode("latin-1").partition(" ")
        given = _digest(key.strip())
        known = [hmac.compare_digest(given, digest) for digest in self._digests]
        return given if scheme.lower() == "bearer" and any(known) else None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
