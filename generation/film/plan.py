"""The plan of a film, ``plan.json``: the request, the director's steps, the paths of the files.

It is the one file that a film's folder needs; the models make all others from it.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from generation.core.states import Picture
from generation.core.story import Source
from generation.film.stills import read_picture, write_png
from models.errors import UsageError
from models.files import parts_digest, write_whole

VERSION = 1
FILE = "plan.json"
LOCK = ".lock"
ANSWERS = "answers"
"""Folder of a language model's answers."""
FIRST_PICTURE = "first.png"


class FilmError(UsageError):
    """The film cannot be made as requested; the message says what to do."""


class FilmBusyError(FilmError):
    """Another process is making this film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStep:
    """A first step given by the user.

    Attributes:
        picture: its key frame; with None the director predicts one.
    """

    text: str
    picture: Picture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for a film. None takes the value of the existing film in the folder, if there is one.

    Attributes:
        goal: "How to make X?".
        seed: of all sampling; default 0.
        steps: number of steps; with None the director decides.
        first: the first step; with None the director writes it.
        edit: number and new action of a step. Its caption is rewritten, other texts stay, and states are
            predicted again from this step on.
    """

    goal: str
    seed: int | None = None
    steps: int | None = None
    first: FirstStep | None = None
    edit: tuple[int, str] | None = None


@dataclass(slots=True, kw_only=True)
class PlannedStep:
    """A step of a film; paths are relative to the film's folder, times are seconds of the film.

    Attributes:
        source: the training clip that the step's clip starts from; None for a clip that starts from noise.
    """

    step: int
    action: str
    caption: str
    edited: bool = False
    state: str | None = None
    keyframe: str | None = None
    clips: list[str] = field(default_factory=list)
    start_s: float | None = None
    end_s: float | None = None
    source: Source | None = None


@dataclass(slots=True, kw_only=True)
class Plan:
    """The contents of ``plan.json``.

    Attributes:
        first_text: action of the first step, where the user gave it.
        first_picture: sha256 of its picture, which is stored in ``first.png``.
        models: role to a digest of weights and recipe.
        complete: the director has written the last step.
        film: path of the finished film; None until then.
    """

    goal: str
    seed: int
    steps_wanted: int | None = None
    first_text: str | None = None
    first_picture: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    steps: list[PlannedStep] = field(default_factory=list)
    film: str | None = None
    version: int = VERSION

    def save(self, folder: Path) -> None:
        """Write the plan, whole or not at all."""
        write_whole(folder / FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Plan | None:
        """Return the plan in a folder; None where there is none.

        Raises:
            FilmError: the file is damaged or of another version.
        """
        path = folder / FILE
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            plan = cls(**(tree | {"steps": [_step(step) for step in tree["steps"]]}))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise FilmError(f"{path} is not a plan of this program: {error}") from error
        if plan.version != VERSION:
            raise FilmError(f"{path} has version {plan.version}, this program writes {VERSION}")
        return plan

    def edit(self, number: int, action: str) -> None:
        """Change a step's action and clear its caption. Repeating an edit changes nothing.

        Raises:
            FilmError: there is no such step (yet), or no action.
        """
        if not self.complete:
            raise FilmError("the film is not planned to its end: run the same command without --edit first")
        if not 1 <= number <= len(self.steps):
            raise FilmError(f"--edit {number}: the film has steps 1 to {len(self.steps)}")
        if not action.strip():
            raise FilmError(f"--edit {number}: the new action is empty")
        step = self.steps[number - 1]
        if not (step.edited and step.action == action):
            step.action, step.caption, step.edited = action, "", True
            self.film = None
            # From the edited step on, states are predicted again and pictures are outdated.
            for later in self.steps[number - 1 :]:
                later.keyframe, later.clips = None, []


def open_plan(folder: Path, request: Request, models: Mapping[str, str]) -> Plan:
    """Return the plan in a folder, checked against the request, or a new one.

    A plan by another director is restarted.

    Raises:
        FilmError: the goal is empty, the folder holds something else, or the plan has edits that another
            director would lose.
    """
    if not request.goal.strip():
        raise FilmError('the goal is empty: ask for something, such as "How to make soup?"')
    plan = Plan.load(folder)
    first = request.first
    picture = None if first is None or first.picture is None else parts_digest(first.picture)
    if plan is None:
        # Hidden files are the lock, and parts of files that a killed run left behind.
        ours = (FIRST_PICTURE, ANSWERS)
        if any(path.name not in ours and not path.name.startswith(".") for path in folder.iterdir()):
            raise FilmError(f"{folder} is not empty and holds no film: choose another folder")
        if first is not None and first.picture is not None:
            write_png(folder / FIRST_PICTURE, first.picture, parts_digest(first.picture))
        return Plan(
            goal=request.goal, seed=request.seed or 0, steps_wanted=request.steps,
            first_text=None if first is None else first.text, first_picture=picture, models=dict(models),
        )  # fmt: skip
    asked: dict[str, tuple[object, object]] = {
        "goal": (request.goal, plan.goal),
        "--seed": (request.seed, plan.seed),
        "--steps": (request.steps, plan.steps_wanted),
        "--first-step": (None if first is None else first.text, plan.first_text),
        "the first step's picture": (picture, plan.first_picture),
    }
    for name, (new, old) in asked.items():
        if new is not None and new != old:
            raise FilmError(f"{folder} has a film with {name} {old!r}, not {new!r}: choose another folder")
    if plan.models.get("director") != models.get("director"):
        if any(step.edited for step in plan.steps):
            raise FilmError(
                f"{folder} has edited steps by another director: choose another folder, or the old director"
            )
        plan.steps, plan.complete, plan.film = [], False, None
    if plan.models != dict(models):
        plan.film = None
        for step in plan.steps:
            step.keyframe, step.clips = None, []
    plan.models = dict(models)
    return plan


def credit_of(source: Source) -> str:
    """Return the line that names a clip's source in subtitles and on the contact sheet."""
    if source.share == 0:
        return f"generated; nearest training clip {source.clip_id}, distance {source.distance:.2f}"
    return (
        f"retrieval-augmented: {source.share:.0%} of training clip {source.clip_id}, "
        f"distance {source.distance:.2f}"
    )


def _step(tree: dict[str, Any]) -> PlannedStep:
    source = tree.get("source")
    return PlannedStep(**(tree | {"source": Source(**source) if source else None}))


def first_picture(folder: Path) -> Picture:
    """Return the picture that the user gave for the first step."""
    return read_picture((folder / FIRST_PICTURE).read_bytes())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a film's folder for this process; the lock of a killed process is released.

    Raises:
        FilmBusyError: another process holds the lock.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FilmBusyError(f"another process is making the film in {folder}") from error
        yield


def seed_of(*parts: object) -> int:
    """Return a seed that is a function of the parts alone."""
    return int(parts_digest(*parts)[:15], 16)
