"""Small stand-ins for director, decoder, generator and encoder, with the interfaces of the real ones.

What they give is a function of what they are given, so that an edit has to show, and they keep a log of
their calls, so that a resume can be seen to spare them.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation import config
from generation.core.states import Picture, Pictures, StateDecoder, StateEncoder
from generation.core.story import Step
from generation.film.trained import DirectorParts, GeneratorParts, PainterParts

TOKENS, WIDTH, PX, FRAMES = 2, 8, 32, 5


def noise(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def state_of(*parts: object) -> Tensor:
    return torch.from_numpy(noise(*parts).standard_normal((TOKENS, WIDTH)).astype(np.float32))


@dataclass
class Planner:
    """Each state depends on all texts so far; ``default`` steps unless told how many."""

    default: int = 4
    log: list[str] = field(default_factory=list)

    def plan(self, goal: str, *, steps: int | None, given: Sequence[Step], seed: int) -> Iterator[Step]:
        told: list[str] = []
        for number in range(1, max(steps or self.default, len(given)) + 1):
            old = given[number - 1] if number <= len(given) else Step(action="", caption="")
            action = old.action or f"Do part {number} of {goal}"
            caption = old.caption or f"Hands that {action.lower()}"
            told += [action, caption]
            state = old.state
            if state is None:
                self.log.append(f"state {number}")
                state = state_of(goal, seed, told)
            yield Step(action=action, caption=caption, state=state)


@dataclass
class Renderer:
    """A noisy picture that moves; its first frame is ``first_frame`` where that is given."""

    log: list[str] = field(default_factory=list)

    def render(
        self, caption: str, state: Tensor | None, *, seed: int, **pictures: Picture | None
    ) -> tuple[NDArray[np.uint8], None]:
        self.log.append(caption)
        first, keyframe = pictures["first_frame"], pictures["keyframe"]
        shown = [None if each is None else np.asarray(each).tolist() for each in (state, keyframe)]
        picture = noise(caption, shown, seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        video = np.stack([np.roll(picture, step, axis=1) for step in range(FRAMES)])
        video = video.repeat(PX // 4, axis=1).repeat(PX // 4, axis=2)
        if first is not None:
            video[0] = first
        return video, None


@dataclass
class Decoder(StateDecoder):
    log: list[int] = field(default_factory=list)
    picture_px: int = PX

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        self.log.append(seed)
        squares = [noise(state.tolist(), seed).integers(0, 255, (8, 8, 3), dtype=np.uint8) for state in z]
        return np.stack(squares).repeat(PX // 8, axis=1).repeat(PX // 8, axis=2)


class Encoder(StateEncoder):
    name, tokens, width = "means", TOKENS, WIDTH

    def encode(self, images: Pictures) -> Tensor:
        return torch.stack([state_of(int(image.sum())) for image in images])


@dataclass(frozen=True)
class HeldModels:
    """Parts that wait where a test wants them to: while ``hold-director`` or ``hold-generator`` is there.

    What they were asked for is appended to files in ``folder``, for they run in other processes.
    """

    folder: Path
    serve: config.Serve

    def recipe(self) -> config.Recipe:
        return config.Recipe(film=config.Film(upscale_px=32), serve=self.serve)

    def plans_at_once(self) -> int:
        return 1

    def director(self) -> DirectorParts:
        held = HeldPlanner(self.folder)
        return DirectorParts(director=held, encoder=Encoder(), identity={"director": "d"})

    def generator(self) -> GeneratorParts:
        return GeneratorParts(
            generator=HeldRenderer(self.folder), condition="state", fps=4.0, identity={"generator": "g"}
        )

    def painter(self) -> PainterParts:
        return PainterParts(decoder=Decoder(), identity={"decoder": "c"})


@dataclass
class HeldPlanner:
    folder: Path

    def plan(self, goal: str, *, steps: int | None, given: Sequence[Step], seed: int) -> Iterator[Step]:
        for number, step in enumerate(Planner().plan(goal, steps=steps, given=given, seed=seed), start=1):
            if number > len(given):
                note(self.folder / "director.log", f"{goal} {number}")
                wait(self.folder / "hold-director", unless=number == 1)
            yield step


@dataclass
class HeldRenderer:
    folder: Path

    def render(self, caption: str, state: Tensor | None, **more: Any) -> tuple[NDArray[np.uint8], None]:
        note(self.folder / "generator.log", caption)
        wait(self.folder / "hold-generator")
        return Renderer().render(caption, state, **more)


def note(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


def wait(path: Path, *, unless: bool = False) -> None:
    module = torch.nn.Identity()
    while path.exists() and not unless:
        # A model's work is calls of modules, between which it can be stopped.
        module(torch.zeros(1))
        time.sleep(0.02)
