"""Make a film of a goal: plan, visual states, key frames, clips, one file.

Each file in the film's folder carries a key of its inputs: texts, state, seed and identity of the model.
Files are written whole or not at all. A killed run therefore resumes, a repeated command does nothing, and
an edit makes again only what depends on it::

    OUT/plan.json            see generation.film.plan
    OUT/states/step-01.safetensors      OUT/keyframes/step-01.png      OUT/clips/step-01.mp4
    OUT/film.mp4             the clips, a chapter for each step, a subtitle track
    OUT/film.srt  OUT/contact_sheet.png
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation import config
from generation.core.states import Picture, Pictures
from generation.core.story import Source, Step, prompt_of
from generation.encoders.geometry import width_of
from generation.encoders.pictures import fitted
from generation.film.assembly import assemble
from generation.film.footage import Sound, mp4_key, write_clip
from generation.film.parts import FilmModels, Painter, Retriever
from generation.film.plan import (
    FilmError,
    Plan,
    PlannedStep,
    Request,
    first_picture,
    locked,
    open_plan,
    seed_of,
)  # fmt: skip
from generation.film.state_files import numbers_of, read_state, write_state
from generation.film.stills import png_key, read_picture, write_png
from models.files import parts_digest

Video = NDArray[np.uint8]
"""RGB frames ``[n, height, width, 3]``."""
Kind = Literal["plan", "keyframe", "clip", "film"]


class FilmCancelled(Exception):  # noqa: N818 - not an error
    """The caller asked to stop; finished files stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmEvent:
    """One finished piece of a film.

    Attributes:
        step: number from 1; 0 for the whole film.
        total: steps of the film; None while the director has not decided.
        kept: the piece existed before this call.
    """

    kind: Kind
    step: int
    total: int | None
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmResult:
    """A finished film.

    Attributes:
        made: kinds and steps of the pieces that this call made; all others existed.
    """

    path: Path
    plan: Plan
    made: tuple[tuple[Kind, int], ...]


def make_film(
    request: Request,
    models: FilmModels,
    out: Path,
    *,
    options: config.Film,
    renderers: int = 0,
    on_event: Callable[[FilmEvent], None] = lambda event: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> FilmResult:
    """Make a film, or its missing pieces.

    Args:
        out: the film's folder: new, empty, or with a film of the same request.
        renderers: clips that are rendered at once, each as soon as its key frame exists; the generator is
            then called from as many threads. 0 renders the clips one by one after the last key frame.
        on_event: called after each piece of work; with ``renderers`` from several threads, one at a time.
        cancelled: asked before each piece of work.

    Raises:
        FilmError: the folder holds another film or is in use, the edit names no step, or request, models
            and options do not go together.
        FilmCancelled: ``cancelled`` returned true.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        plan = open_plan(out, request, models.identity)
        if request.edit:
            plan.edit(*request.edit)
        if models.encoder is None and plan.first_picture:
            raise FilmError("these models take no picture of the first step: leave it out")
        if models.retriever is not None and options.chain_last_frame:
            raise FilmError(
                "film.chain_last_frame: clips of generator.retrieval begin as their training clips do; "
                "set it to false"
            )
        plan.save(out)
        job = _FilmJob(
            plan=plan, models=models, out=out, options=options, renderers=renderers, on_event=on_event,
            cancelled=cancelled,
        )  # fmt: skip
        return job.run()


@dataclass(slots=True, kw_only=True)
class _FilmJob:
    plan: Plan
    models: FilmModels
    out: Path
    options: config.Film
    renderers: int
    on_event: Callable[[FilmEvent], None]
    cancelled: Callable[[], bool]
    made: list[tuple[Kind, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    failed: threading.Event = field(default_factory=threading.Event)

    def run(self) -> FilmResult:
        for name in ("states", "keyframes", "clips"):
            (self.out / name).mkdir(exist_ok=True)
        if self.renderers:
            pictures = self._made_side_by_side()
        else:
            scenes = list(self._scenes())
            last: Picture | None = None
            for scene in scenes:
                last = self._clip(*scene, last)
            pictures = [picture for _, _, picture in scenes]
        self._film(pictures)
        self._sweep()
        return FilmResult(path=self.out / "film.mp4", plan=self.plan, made=tuple(self.made))

    def _scenes(self) -> Iterator[tuple[PlannedStep, Tensor | None, Picture]]:
        """Yield each step with its state and key frame, as soon as both exist."""
        if self.models.retriever is not None:
            yield from self._retrieved(self.models.retriever)
        elif self.models.painter is not None:
            states = [state for _, state in self._planned()]
            painted = self._painted(self.models.painter, states)
            for step, picture in zip(self.plan.steps, painted, strict=True):
                yield step, self._encoded(step, picture), picture
        else:
            pictures: list[Picture] = []
            for step, state in self._planned():
                pictures.append(self._decoded(step, state, pictures))
                yield step, state, pictures[-1]

    def _made_side_by_side(self) -> list[Picture]:
        """Render clips in threads while later steps are planned; return the key frames.

        Chained clips start from the frame before them, so one thread renders those in order.
        """
        chain = self.options.chain_last_frame
        pictures: list[Picture] = []
        clips: list[Future[Picture | None]] = []

        def render(scene: tuple[PlannedStep, Tensor | None, Picture], place: int) -> Picture | None:
            try:
                return self._clip(*scene, clips[place - 1].result() if chain and place else None)
            except BaseException:
                # Neither the director nor the other clips go on for a film that has failed.
                self.failed.set()
                raise

        with ThreadPoolExecutor(1 if chain else self.renderers, thread_name_prefix="clip") as threads:
            try:
                for place, scene in enumerate(self._scenes()):
                    pictures.append(scene[2])
                    clips.append(threads.submit(render, scene, place))
            except BaseException:
                clip_failed = self.failed.is_set()
                self.failed.set()
                if not clip_failed:
                    raise
        errors = [error for each in clips if (error := each.exception()) is not None]
        # The clips that stopped because another one failed say less than that one.
        for error in sorted(errors, key=lambda error: isinstance(error, FilmCancelled)):
            raise error
        return pictures

    # Texts and states ---------------------------------------------------------------------------------

    def _planned(self) -> Iterator[tuple[PlannedStep, Tensor | None]]:
        """Yield every step with its state: existing ones, then new ones as the director writes them."""
        plan, given = self.plan, self._known()
        there = len(given)
        for step, known in zip(plan.steps, given, strict=False):
            self._report("plan", step.step, kept=True)
            yield step, known.state
        if not (plan.complete and there == len(plan.steps)):
            given += [Step(action=step.action, caption=step.caption) for step in plan.steps[there:]]
            given = self._with_first(given)
            self._check()
            written = self.models.director.plan(
                plan.goal, steps=plan.steps_wanted, given=given, seed=plan.seed
            )
            for number, new in enumerate(written, start=1):
                self._check()
                if number > there:
                    yield self._note(number, new), new.state
                    self._check()
                if plan.complete and number == len(plan.steps):
                    break
        if not plan.steps:
            raise FilmError(
                f"the director plans no step for {plan.goal!r}: train it for longer, or ask for --steps"
            )
        plan.complete = True
        self._save()

    def _known(self) -> list[Step]:
        """Return the leading steps whose texts exist and whose states were made from them."""
        known: list[Step] = []
        for step in self.plan.steps:
            state = None
            if step.state is not None:
                state = read_state(self.out / step.state, self._state_key(step.step))
            texts_alone = step.state is None and step.caption and self.models.painter is not None
            if state is None and not texts_alone:
                break
            known.append(Step(action=step.action, caption=step.caption, state=state))
        return known

    def _with_first(self, given: list[Step]) -> list[Step]:
        plan = self.plan
        if plan.first_text is None or (given and given[0].state is not None):
            return given
        state = None
        if plan.first_picture is not None:
            assert self.models.encoder is not None
            state = self.models.encoder.encode(first_picture(self.out)[None])[0]
        first = given[0] if given else Step(action=plan.first_text, caption="")
        return [Step(action=first.action, caption=first.caption, state=state), *given[1:]]

    def _note(self, number: int, written: Step) -> PlannedStep:
        """Store a step that the director wrote. A director of one text fills both with it."""
        plan = self.plan
        if number > len(plan.steps):
            plan.steps.append(PlannedStep(step=number, action="", caption=""))
        step = plan.steps[number - 1]
        step.action = step.action or written.action or written.caption
        step.caption = step.caption or written.caption or written.action
        step.state = None
        if written.state is not None:
            step.state = f"states/step-{number:02}.safetensors"
            write_state(self.out / step.state, written.state, self._state_key(number))
        self._save()
        self._report("plan", number, kept=False)
        return step

    def _state_key(self, number: int) -> str:
        plan = self.plan
        texts = [[step.action, step.caption] for step in plan.steps[:number]]
        asked = [plan.goal, plan.seed, plan.steps_wanted, plan.first_picture]
        seen_by = self.models.encoder.name if plan.first_picture and self.models.encoder else None
        return parts_digest("state", plan.models.get("director"), seen_by, asked, texts)

    # Key frames ---------------------------------------------------------------------------------------

    def _retrieved(self, retriever: Retriever) -> Iterator[tuple[PlannedStep, Tensor | None, Picture]]:
        """Choose a source for each step of the finished plan; its middle frame is the key frame."""
        planned = [(step, state) for step, state in self._planned()]
        steps = [Step(action=step.action, caption=step.caption, state=state) for step, state in planned]
        for (step, state), source in zip(planned, retriever.retrieve(steps), strict=True):
            step.source = source
            key = parts_digest("source", self.models.identity.get("generator"), asdict(source))
            make = partial(_one_picture, retriever, source)
            yield step, state, self._keyframes([step], key, make)[0]

    def _decoded(self, step: PlannedStep, state: Tensor | None, before: Sequence[Picture]) -> Picture:
        """Return the key frame of a state, decoded in view of as many earlier ones as the decoder reads."""
        decoder = self.models.decoder
        if state is None or decoder is None:
            raise FilmError("the director gives no visual states: key frames need --painter")
        given = self.plan.first_picture if step.step == 1 else None
        seed = seed_of(self.plan.seed, "keyframe", step.step)
        seen = before[max(0, len(before) - decoder.memory) :]
        key = parts_digest(
            "keyframe", self.plan.models.get("decoder"), given, numbers_of(state), seed, *seen
        )

        def make() -> Pictures:
            if given is not None:
                width = width_of(decoder.picture_px, decoder.aspect)
                return fitted(first_picture(self.out)[None], decoder.picture_px, width)
            return decoder.decode_next(state, seen, seed=seed)[None]

        return self._keyframes([step], key, make)[0]

    def _painted(self, painter: Painter, states: Sequence[Tensor | None]) -> Iterator[Picture]:
        """Yield key frames painted from captions, a few at a time, in view of earlier ones."""
        steps, pictures = self.plan.steps, list[Picture]()
        while (start := len(pictures)) < len(steps):
            seed = seed_of(self.plan.seed, "painting", start)
            known = pictures[max(0, start - painter.memory) :] if painter.memory else []
            scene = steps[start - len(known) :][: painter.cells]
            captions = [step.caption for step in scene]
            imagined = [state for state in states[start:][: len(scene) - len(known)] if state is not None]
            paint = partial(self._paint, painter, captions, known, imagined, seed)
            arrays = [*known, *map(numbers_of, imagined)] if painter.uses_hints else known
            key = parts_digest("painting", self.plan.models.get("painter"), captions, seed, *arrays)
            new = self._keyframes(scene[len(known) :], key, paint)
            pictures += new
            yield from new

    def _paint(
        self,
        painter: Painter,
        captions: Sequence[str],
        known: Sequence[Picture],
        imagined: Sequence[Tensor],
        seed: int,
    ) -> Pictures:
        hints: Sequence[Picture] = []
        decoder = self.models.decoder
        if decoder and painter.uses_hints and len(known) + len(imagined) == len(captions):
            hints = list(decoder.decode(torch.stack(list(imagined)), seed=seed))
        return painter.paint(captions, known=known, hints=hints, seed=seed)

    def _keyframes(
        self, steps: Sequence[PlannedStep], key: str, make: Callable[[], Pictures]
    ) -> list[Picture]:
        """Return the key frames of steps that are painted together; make them if they are missing."""
        paths = [self.out / f"keyframes/step-{step.step:02}.png" for step in steps]
        keys = [parts_digest(key, place) for place in range(len(steps))]
        kept = [png_key(path) for path in paths] == keys
        if not kept:
            self._check()
            for path, picture, own in zip(paths, make(), keys, strict=True):
                write_png(path, picture, own)
        for step in steps:
            step.keyframe = f"keyframes/step-{step.step:02}.png"
        self._save()
        for step in steps:
            self._report("keyframe", step.step, kept=kept)
        return [read_picture(path.read_bytes()) for path in paths]

    def _encoded(self, step: PlannedStep, picture: Picture) -> Tensor | None:
        """Return the state of a painted picture, for a generator that follows states."""
        if self.models.condition != "state":
            return None
        if self.models.encoder is None:
            raise ValueError("states of painted key frames need an encoder")
        key = parts_digest("seen", self.models.encoder.name, picture)
        path = self.out / f"states/step-{step.step:02}-seen.safetensors"
        state = read_state(path, key)
        if state is None:
            self._check()
            state = self.models.encoder.encode(picture[None])[0]
            write_state(path, state, key)
        return state

    # Clips and the film -------------------------------------------------------------------------------

    def _clip(
        self, step: PlannedStep, state: Tensor | None, picture: Picture, last: Picture | None
    ) -> Picture | None:
        """Render what is missing of a step's clips.

        Args:
            last: with chaining, the frame that ends the step before.

        Returns:
            with chaining, the frame that ends this step.
        """
        many, chain = self.options.clips_per_step, self.options.chain_last_frame
        stem = f"clips/step-{step.step:02}"
        stems = [stem, *(f"{stem}-{each}" for each in range(2, many + 1))]
        made = False
        for place, stem in enumerate(stems):
            clip, ending = self.out / f"{stem}.mp4", self.out / f"{stem}-last.png"
            key, render = self._renderer(step, place, state, picture, last)
            if mp4_key(clip) != key or (chain and png_key(ending) != key):
                self._check()
                video, sound = render()
                if chain:
                    write_png(ending, video[-1], key)
                write_clip(
                    clip, video, sound=sound, key=key,
                    fps=self.models.fps, short_side_px=self.options.upscale_px,
                )  # fmt: skip
                made = True
            last = read_picture(ending.read_bytes()) if chain else None
        step.clips = [f"{stem}.mp4" for stem in stems]
        self._save()
        self._report("clip", step.step, kept=not made)
        return last

    def _renderer(
        self, step: PlannedStep, place: int, state: Tensor | None, picture: Picture, last: Picture | None
    ) -> tuple[str, Callable[[], tuple[Video, Sound | None]]]:
        """Return the key of a clip's inputs, and a function that renders the clip."""
        models, source = self.models, step.source
        prompt = prompt_of(step.action, step.caption)
        seed = seed_of(self.plan.seed, "clip", step.step, place)
        seen = state if models.condition == "state" else None
        shown = picture if models.condition == "keyframe" else None
        sourced = [] if source is None else [asdict(source)]
        key = parts_digest(
            "clip", models.identity.get("generator"), prompt, seed,
            None if seen is None else numbers_of(seen), shown, last, models.fps, self.options.upscale_px,
            *sourced,
        )  # fmt: skip

        def render() -> tuple[Video, Sound | None]:
            if models.retriever is not None and source is not None:
                return models.retriever.sample_from(source, prompt, seen, seed=seed), None
            return models.generator.render(prompt, seen, seed=seed, keyframe=shown, first_frame=last)

        return key, render

    def _film(self, pictures: Sequence[Picture]) -> None:
        self._check()
        kept = assemble(self.plan, self.out, pictures)
        self._save()
        self._report("film", 0, kept=kept)

    def _sweep(self) -> None:
        """Remove the files of steps and clips that are no longer part of the film."""
        count = len(self.plan.steps)
        ours = {name for step in self.plan.steps for name in (step.state, step.keyframe, *step.clips)}
        for path in sorted(self.out.glob("*/step-*")):
            name = path.relative_to(self.out).as_posix()
            number = path.stem.split("-")[1]
            extra = path.stem.endswith(("-seen", "-last"))
            if number.isdecimal() and (int(number) > count or (name not in ours and not extra)):
                path.unlink()

    def _check(self) -> None:
        if self.failed.is_set() or self.cancelled():
            raise FilmCancelled

    def _save(self) -> None:
        with self.lock:
            self.plan.save(self.out)

    def _report(self, kind: Kind, step: int, *, kept: bool) -> None:
        with self.lock:
            if not kept:
                self.made.append((kind, step))
            total = len(self.plan.steps) if self.plan.complete else self.plan.steps_wanted
            self.on_event(FilmEvent(kind=kind, step=step, total=total, kept=kept))


def _one_picture(retriever: Retriever, source: Source) -> Pictures:
    return retriever.picture(source)[None]
