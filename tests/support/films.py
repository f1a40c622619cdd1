"""Small films of plain colours, and figures read from tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from generation.core.states import Pictures
from generation.film.footage import write_clip
from generation.film.plan import Plan, PlannedStep
from generation.film.stills import write_png
from pipeline.evaluation.figures import Figure

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


class MeanColour:
    """A picture network: the mean colour, grey at zero."""

    name = "mean-colour"

    def encode(self, images: Pictures) -> Tensor:
        return torch.from_numpy(images.mean(axis=(1, 2))).float()[:, None] - 87


def save_film(
    folder: Path, colours: list[tuple[int, int, int]], *, actions: list[str] | None = None
) -> Path:
    """A finished film of one colour a step; its planned states are the colours."""
    for name in ("states", "keyframes", "clips"):
        (folder / name).mkdir(parents=True)
    plan = Plan(goal="How to paint a wall?", seed=0, complete=True, film="film.mp4")
    for number, colour in enumerate(colours, start=1):
        stem = f"step-{number:02}"
        action = actions[number - 1] if actions else f"Paint number {number}."
        plan.steps.append(
            PlannedStep(
                step=number,
                action=action,
                caption=f"A wall of {colour}.",
                state=f"states/{stem}.safetensors",
                keyframe=f"keyframes/{stem}.png",
                clips=[f"clips/{stem}.mp4"],
            )
        )
        picture = np.broadcast_to(np.array(colour, np.uint8), (48, 48, 3)).copy()
        save_file({"state": torch.tensor([colour]).float() - 87}, folder / f"states/{stem}.safetensors")
        write_png(folder / f"keyframes/{stem}.png", picture, "key")
        video = np.repeat(picture[None], 5, axis=0)
        write_clip(folder / f"clips/{stem}.mp4", video, fps=8, short_side_px=48, key="key")
    plan.save(folder)
    return folder


def figure(figures: list[Figure], name: str) -> Figure:
    (found,) = [each for each in figures if each.name == name]
    return found


def value(figures: list[Figure], name: str) -> float:
    found = figure(figures, name).value
    assert found is not None
    return found.mean
