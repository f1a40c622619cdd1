"""Documents of the HTTP interface that callers send and receive."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from generation.config import PACKAGED_PLANNER, Recipe
from generation.film.plan import Plan, PlannedStep
from generation.service.records import Job, Status

API = "/v1"


def _line(text: str) -> str:
    """Check that a text is one line that can be shown and stored."""
    if not text.strip() or not text.isprintable():
        raise ValueError("one line of printable characters, not only spaces")
    return text.strip()


Line = Annotated[str, Field(min_length=1), AfterValidator(_line)]
StepText = Annotated[Line, Field(max_length=1000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class First(_Strict):
    """The first step, given instead of written."""

    text: StepText = Field(description="its action")
    picture: str | None = Field(
        None, description="its key frame: a PNG, JPEG or WebP in base64; addresses are not taken"
    )


class NarrativeRequest(_Strict):
    """A film to make."""

    goal: Line = Field(examples=["How to make spring rolls?"])
    steps: int | None = Field(None, ge=1, description="default: the director decides")
    seed: int = Field(0, ge=0, lt=2**53)
    first_step: First | None = None


class StepEdit(_Strict):
    """The new action of a step. What depends on it is made again."""

    action: StepText


class StepView(BaseModel):
    """A step, as far as it is made."""

    step: int
    action: str
    caption: str
    edited: bool
    start_s: float | None = Field(description="second of the film at which it begins, once that is known")
    keyframe: str | None = Field(description="address of the picture, once it exists")
    clips: list[str] = Field(description="addresses of the clips, once they exist")


class NarrativeSummary(BaseModel):
    """A job."""

    id: str
    status: Status
    url: str
    goal: str
    created_s: float = Field(description="seconds since the epoch")
    ended_s: float | None = Field(None, description="seconds since the epoch, once it has ended")
    expires_s: float | None = Field(None, description="when it is removed, once it has ended")
    error: str | None = None


class NarrativeView(NarrativeSummary):
    """A job and its film, as far as it is made."""

    seed: int
    planned: bool = Field(description="whether the director has written the last step")
    steps: list[StepView] = []
    film: str | None = Field(None, description="address of the film, once it is done")


class NarrativeList(BaseModel):
    """Jobs of the caller, newest first."""

    narratives: list[NarrativeSummary]
    total: int


class Health(BaseModel):
    """State of the service: it answers, or it is ready for work."""

    status: Literal["ok", "starting"]


class Models(BaseModel):
    """The models that make films, for people to judge what they see."""

    director: str
    generator: str
    notice: str | None = Field(description="what a viewer must know about the pictures")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


def about(recipe: Recipe, retrieves: bool) -> Models:
    """Return the view of the models."""
    if recipe.stock is not None:
        planner = recipe.stock.planner.model or PACKAGED_PLANNER
        return Models(director=planner, generator=recipe.stock.video.path.name, notice=None)
    backbone, transformer = recipe.director.backbone, recipe.generator.transformer
    notices = []
    director = str(backbone.path or backbone.kind)
    if backbone.kind == "scratch":
        director = "tiny twin"
        notices.append("the plan is written by a tiny twin of a director, trained on little")
    generator = "tiny twin" if transformer.path is None else str(transformer.path)
    if retrieves:
        generator = "retrieval"
        notices.append(
            "clips start from training videos that fit the step; they are not generated from nothing"
        )
    elif transformer.path is None:
        notices.append("pictures are painted by tiny twins and show little but colour")
    return Models(director=director, generator=generator, notice="; ".join(notices).capitalize() or None)


def summary_of(job: Job, retention_s: float | None) -> NarrativeSummary:
    """Return the view of a job without its film."""
    expires_s = None if job.ended_s is None or retention_s is None else job.ended_s + retention_s
    return NarrativeSummary(
        id=job.id, status=job.status, url=_url(job), goal=job.goal, created_s=job.created_s,
        ended_s=job.ended_s, expires_s=expires_s, error=job.error,
    )  # fmt: skip


def view_of(job: Job, plan: Plan | None, retention_s: float | None) -> NarrativeView:
    """Return the view of a job and its film."""
    return NarrativeView(
        **summary_of(job, retention_s).model_dump(), seed=job.seed,
        planned=plan is not None and plan.complete,
        steps=[step_view(job, step) for step in plan.steps] if plan else [],
        film=f"{_url(job)}/film" if job.status == "done" else None,
    )  # fmt: skip


def step_view(job: Job, step: PlannedStep) -> StepView:
    """Return the view of a step."""
    return StepView(
        step=step.step, action=step.action, caption=step.caption, edited=step.edited, start_s=step.start_s,
        keyframe=f"{_url(job)}/keyframes/{step.step}" if step.keyframe else None,
        clips=[f"{_url(job)}/clips/{step.step}/{n}" for n in range(1, len(step.clips) + 1)],
    )  # fmt: skip


def _url(job: Job) -> str:
    return f"{API}/narratives/{job.id}"
