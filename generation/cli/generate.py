"""Make a film that shows how to reach a goal.

The same command continues after a kill. Exit codes: 0 done; 1 failed or interrupted; 2 bad usage or
configuration.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from models.errors import UsageError
from pipeline.platform.command import DONE, Commands, add_command, add_set_option, folder_to_write, positive
from pipeline.platform.progress import Live

if TYPE_CHECKING:
    from generation.film.make import FilmEvent
    from generation.film.parts import FilmModels
    from generation.film.plan import FirstStep
    from generation.film.trained import DirectorParts, Models


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "generate", __doc__, _generate)
    parser.add_argument("goal", metavar="GOAL", help='such as "How to make spring rolls?"')
    parser.add_argument(
        "--out", type=folder_to_write, required=True, metavar="DIR", help="the film's folder"
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="default: the director decides")
    parser.add_argument("--seed", type=int, metavar="N", help="default: 0")
    parser.add_argument("--first-step", metavar="TEXT[::PICTURE]", help="given instead of written")
    parser.add_argument("--first-picture", type=Path, metavar="FILE", help="PNG, JPEG or WebP")
    parser.add_argument(
        "--edit", nargs=2, metavar=("N", "TEXT"), help="new action of step N of the film in --out"
    )
    add_model_options(parser)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--models`` or ``--stock``, ``--painter``, ``--recipe`` and ``--set``."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--models", type=Path, metavar="DIR", help="folder that `train` wrote")
    source.add_argument(
        "--stock", metavar="FILE_OR_NAME", help="recipe whose section `stock` names pretrained pipelines"
    )
    parser.add_argument(
        "--painter", type=Path, metavar="DIR",
        help="paint key frames by this diffusers text-to-image or inpainting pipeline",
    )  # fmt: skip
    parser.add_argument("--recipe", metavar="FILE_OR_NAME", help="how to sample, film and serve")
    add_set_option(parser, "recipe")


def _generate(parsed: argparse.Namespace) -> int:
    from transformers.utils import logging as transformers_logging

    from generation.film.plan import Request

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    request = Request(
        goal=parsed.goal, seed=parsed.seed, steps=parsed.steps, edit=_edit(parsed.edit),
        first=_first_step(parsed.first_step, parsed.first_picture),
    )  # fmt: skip
    from generation.film.make import make_film
    from generation.film.plan import ANSWERS

    models = models_of(parsed, answers=parsed.out / ANSWERS)
    recipe, planning = models.recipe(), models.director()
    with planning.resources, FilmProgress() as progress, _parts(models, planning, parsed.steps) as parts:
        film, renderers = parts
        result = make_film(
            request, film, parsed.out, options=recipe.film, renderers=renderers, on_event=progress.event
        )
    for step in result.plan.steps:
        print(f"{step.start_s:7.2f} s  {step.step}. {step.action}")
    print(result.path)
    return DONE


@contextmanager
def _parts(models: Models, planning: DirectorParts, steps: int | None) -> Iterator[tuple[FilmModels, int]]:
    """Yield the models of a film and the number of clips to render at once.

    They are in this process, one clip after the other, or, with ``--stock``, on all GPUs if there are more
    than the recipe names.
    """
    import torch

    from generation.film.stock import StockModels
    from generation.film.trained import film_models

    if isinstance(models, StockModels) and torch.cuda.device_count() > models.gpus():
        # Ray takes seconds to import; one GPU must not pay for it.
        from generation.service.spread import spread

        with spread(models, planning, renderers=models.clips_at_once(steps)) as parts:
            yield parts
    else:
        yield film_models(planning, models.painter(), models.generator()), 0


def models_of(parsed: argparse.Namespace, *, answers: Path) -> Models:
    """Return the models that the options of :func:`add_model_options` name.

    Args:
        answers: folder for what a language model of ``--stock`` answers.

    Raises:
        UsageError: an option does not go with ``--stock``.
        ConfigError: a recipe or a setting is wrong.
    """
    from generation.film.trained import TrainedModels, settings_of

    if parsed.stock is None:
        painter = parsed.painter and parsed.painter.resolve()
        return TrainedModels(parsed.models.resolve(), settings_of(parsed.recipe, parsed.settings), painter)
    for option in ("painter", "recipe"):
        if getattr(parsed, option) is not None:
            raise UsageError(f"--{option} goes with --models: with --stock the recipe names all models")
    from generation.film.stock import StockModels

    return StockModels.named(parsed.stock, parsed.settings, answers.resolve())


def _first_step(text: str | None, picture: Path | None) -> FirstStep | None:
    from generation.film.plan import FilmError, FirstStep
    from generation.film.stills import PictureError, read_picture

    if text is None:
        if picture is not None:
            raise FilmError("--first-picture goes with --first-step TEXT")
        return None
    if picture is None and "::" in text:
        text, _, name = text.rpartition("::")
        picture = Path(name)
    if not text.strip():
        raise FilmError("--first-step: the text is empty")
    if picture is None:
        return FirstStep(text=text)
    try:
        return FirstStep(text=text, picture=read_picture(picture.read_bytes()))
    except OSError as error:
        raise FilmError(f"--first-picture {picture}: {error.strerror}") from error
    except PictureError as error:
        raise PictureError(f"--first-picture {picture}: {error}") from error


def _edit(given: Sequence[str] | None) -> tuple[int, str] | None:
    from generation.film.plan import FilmError

    if given is None:
        return None
    number, text = given
    if not number.isdecimal():
        raise FilmError(f"--edit {number}: a step's number comes first, then its new text")
    return int(number), text


class FilmProgress(Live):
    """Shows how far a film is: live bars on a terminal, a line for each thing made elsewhere."""

    KINDS: ClassVar = {"plan": "steps planned", "keyframe": "key frames", "clip": "clips", "film": "film"}

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:<14}"), BarColumn(), TextColumn("{task.fields[count]}"))
        super().__init__(*columns, TimeElapsedColumn())
        self._tasks = (
            {kind: self._bars.add_task(name, total=None, count="") for kind, name in self.KINDS.items()}
            if self._bars
            else {}
        )

    def event(self, event: FilmEvent) -> None:
        """Show one event."""
        total = 1 if event.kind == "film" else event.total
        done = 1 if event.kind == "film" else event.step
        count = f"{done}/{total or '?'}"
        if self._bars:
            self._bars.update(self._tasks[event.kind], completed=done, total=total, count=count)
        else:
            kept = ", was there" if event.kept else ""
            print(f"{self.KINDS[event.kind]}: {count}{kept}", file=sys.stderr, flush=True)
