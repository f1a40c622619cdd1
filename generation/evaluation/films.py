"""Figures of finished films: do the clips show what their captions say, do the shots belong together?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from generation.core.states import Picture, Pictures, Statistics
from generation.core.story import prompt_of
from generation.evaluation.networks import PictureNetwork, evenly
from generation.evaluation.stories import coherence_figures
from generation.evaluation.text_image import ClipModel, clip_i, clip_t
from generation.film.footage import clip_frames
from generation.film.plan import FILE, FilmError, Plan, PlannedStep
from generation.film.stills import PictureError, read_picture
from models.errors import MediaError
from pipeline.evaluation.figures import Figure, measured, missing

SHOT_FRAMES = 4
NO_CLIP = "no CLIP given: --clip FOLDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The pictures of a film's step.

    Attributes:
        state: as the director planned it; None where a painter made the key frame.
        video: all frames of its clips, RGB.
    """

    step: PlannedStep
    state: Tensor | None
    keyframe: Picture
    video: Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film as ``videoauteur generate`` leaves it.

    Attributes:
        name: of its folder, unique among those evaluated together.
        system: what made it: the name of the folder around it.
    """

    name: str
    system: str
    folder: Path
    goal: str
    shots: tuple[Shot, ...]


def find_films(folders: Sequence[Path]) -> list[Film]:
    """Return the films in folders that hold one, or several in folders of their own.

    Raises:
        FilmError: a folder holds none, or one that is not finished; or two films have one name.
    """
    found: dict[Path, Film] = {}
    for folder in folders:
        here = (
            [folder]
            if (folder / FILE).is_file()
            else sorted(path.parent for path in folder.glob(f"*/{FILE}"))
        )
        if not here:
            raise FilmError(f"{folder} holds no film: no {FILE} there or one folder below")
        found |= {path.resolve(): read_film(path.resolve()) for path in here}
    named: dict[str, Path] = {}
    for film in found.values():
        other = named.setdefault(film.name, film.folder)
        if other != film.folder:
            raise FilmError(
                f"{other} and {film.folder} would both be {film.name} in the table: rename one folder"
            )
    return list(found.values())


def read_film(folder: Path) -> Film:
    """Return the film in a folder.

    Raises:
        FilmError: it is not finished, or its files are missing or damaged.
    """
    plan = Plan.load(folder)
    if plan is None:
        raise FilmError(f"{folder} holds no film")
    if plan.film is None:
        raise FilmError(f"the film in {folder} is not finished: run videoauteur generate again")
    shots = []
    for step in plan.steps:
        assert step.keyframe is not None
        for name in (step.keyframe, *step.clips, *([step.state] if step.state else [])):
            if not (folder / name).is_file():
                raise FilmError(f"{folder / name} is missing: run videoauteur generate again")
        try:
            shots.append(
                Shot(
                    step=step,
                    state=load_file(folder / step.state)["state"] if step.state else None,
                    keyframe=read_picture((folder / step.keyframe).read_bytes()),
                    video=np.stack([frame for clip in step.clips for frame in clip_frames(folder / clip)]),
                )
            )
        except (OSError, SafetensorError, PictureError, MediaError) as error:
            raise FilmError(
                f"step {step.step} of {folder} is damaged ({error}): run videoauteur generate again"
            ) from error
    name = f"{folder.parent.name}/{folder.name}"
    return Film(name=name, system=folder.parent.name, folder=folder, goal=plan.goal, shots=tuple(shots))


def film_figures(
    films: Sequence[Film],
    *,
    network: PictureNetwork,
    statistics: Statistics | None,
    clip: ClipModel | None,
    seed: int,
) -> list[Figure]:
    """Return figures of the films of one system.

    Args:
        network: sees the shots for the consistency between them.
        statistics: of its features; without them the features are taken as they are.
        clip: for CLIP-T and CLIP-I; None leaves them out.
    """
    coherence = coherence_figures(
        f"films {films[0].system}",
        [[shot.step.action for shot in film.shots] for film in films],
        [shot_states(film, network, statistics) for film in films],
        [_planned(film, statistics) for film in films],
        [film.name for film in films],
        note=f"{network.name}, {'as it is' if statistics is None else 'standardised'}",
        seed=seed,
    )
    return [*_agreement(films, clip, seed), *coherence]


def _agreement(films: Sequence[Film], clip: ClipModel | None, seed: int) -> list[Figure]:
    of = f"films {films[0].system}"
    names = ("CLIP-T of clips", "CLIP-T of key frames", "CLIP-I of key frame and clip")
    if clip is None:
        return [missing(of, name, NO_CLIP) for name in names]
    owners = [film.name for film in films for _ in film.shots]
    shots = [shot for film in films for shot in film.shots]
    prompts = [prompt_of(shot.step.action, shot.step.caption) for shot in shots]
    videos, stills = [shot.video for shot in shots], [shot.keyframe[None] for shot in shots]
    scores = (clip_t(clip, prompts, videos), clip_t(clip, prompts, stills), clip_i(clip, stills, videos))
    note = clip.note(prompts)
    return [
        measured(of, name, values.tolist(), owners, better="higher", note=note, seed=seed)
        for name, values in zip(names, scores, strict=True)
    ]


def shot_states(film: Film, network: PictureNetwork, statistics: Statistics | None) -> NDArray[np.float64]:
    """Return a network's features of each shot, mean over frames: ``[shots, d]``."""
    found = []
    for shot in film.shots:
        states = network.encode(shot.video[evenly(len(shot.video), SHOT_FRAMES)])
        found.append((states if statistics is None else statistics.standardise(states)).mean(dim=0))
    return np.stack([state.flatten().double().numpy() for state in found])


def _planned(film: Film, statistics: Statistics | None) -> NDArray[np.float64] | None:
    states = [shot.state for shot in film.shots if shot.state is not None]
    if len(states) < len(film.shots):
        return None
    # Films of other models, with states of another kind, may be compared with these.
    if statistics is not None and states[0].shape == statistics.mean.shape:
        states = [statistics.standardise(state) for state in states]
    return np.stack([state.flatten().double().numpy() for state in states])
