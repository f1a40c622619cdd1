"""Inverse video generation: clips made again from their own texts, compared with the real ones.

Source: VideoAuteur, quality of the data: generate from caption and action, with and without the true first
key frame, and compare with the real clips. What a generator can go without depends on its condition; a
first frame given is a frame shown, and flatters every figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from generation.core.learner import Row
from generation.core.states import Pictures, Statistics
from generation.core.story import prompt_of
from generation.evaluation.films import NO_CLIP, SHOT_FRAMES
from generation.evaluation.frechet import few_samples, frechet_estimate
from generation.evaluation.networks import PictureNetwork, VideoNetwork, evenly
from generation.evaluation.states import cosine
from generation.evaluation.text_image import ClipModel, clip_i, clip_t
from generation.generator.model import GeneratorModel
from pipeline.evaluation.figures import Figure, measured, missing

CLIPS_AT_ONCE = 4
OF, REAL = "generator", "real clips"
Foreseen = Mapping[tuple[str, str], Tensor]
"""Raw states ``[tokens, width]`` by video and prompt: :func:`generation.evaluation.planning.foresee`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealClip:
    """A row of the ``clips`` table: ``video [frames, height, width, 3]``, raw ``state [tokens, width]``."""

    video_id: str
    prompt: str
    state: Tensor
    video: Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to make the clips again.

    Attributes:
        states: raw ``[n, tokens, width]``; None for a generator that reads none.
        first: the true first frame of each clip is given.
    """

    name: str
    states: Tensor | None
    first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """Networks that clips are measured with.

    Attributes:
        pictures: the network of the states.
        videos: networks for Fréchet distances.
        clip: None leaves CLIP-T and CLIP-I out.
    """

    pictures: PictureNetwork
    statistics: Statistics
    videos: Sequence[VideoNetwork]
    clip: ClipModel | None


def read_clips(rows: Sequence[Row], generator: GeneratorModel) -> list[RealClip]:
    """Return the real clips of rows, as the generator's codec decodes their latents."""
    clips = []
    for row in rows:
        tensors = load(row["tensors"])
        video = generator.codec.decode(tensors["latents"][None])[0]
        clips.append(
            RealClip(
                video_id=str(row["video_id"]),
                prompt=prompt_of(row["action"], row["caption"]),
                state=tensors["state"],
                video=video,
            )
        )
    return clips


def variants(
    generator: GeneratorModel, clips: Sequence[RealClip], foreseen: Foreseen
) -> tuple[list[Variant], list[Figure]]:
    """Return the conditions that this generator takes, and those that it cannot take.

    Args:
        foreseen: states that a director predicted; none without one.
    """
    condition, retrieves = generator.options.condition, generator.options.retrieval != "off"
    true = torch.stack([clip.state for clip in clips])
    if condition == "keyframe" and not retrieves:
        why = "this generator cannot go without: train one with generator.condition caption or state"
        return [Variant(name="first key frame", states=true, first=True)], [_absent("no key frame", why)]
    name, states = ("caption", None) if condition == "caption" else ("true states", true)
    found, absent = [Variant(name=name, states=states, first=False)], list[Figure]()
    with_first = f"{name} and first key frame"
    if retrieves:
        absent.append(_absent(with_first, "clips of generator.retrieval begin as their training clips do"))
    else:
        found.append(Variant(name=with_first, states=states, first=True))
    if condition == "caption":
        return found, absent
    places = [(clip.video_id, clip.prompt) for clip in clips]
    if not all(place in foreseen for place in places):
        why = "the models have no director that predicts states, or its stories are not those of the clips"
        return found, [*absent, _absent("predicted states", why)]
    predicted = torch.stack([foreseen[place] for place in places])
    return [Variant(name="predicted states", states=predicted, first=False), *found], absent


def _absent(variant: str, why: str) -> Figure:
    return missing(f"{OF}, {variant}", "inverse generation", why)


def make(
    generator: GeneratorModel, clips: Sequence[RealClip], variant: Variant, *, seed: int
) -> list[Pictures]:
    """Generate the clips again; clip ``i`` is drawn from ``seed + i``."""
    made: list[Pictures] = []
    for start in range(0, len(clips), CLIPS_AT_ONCE):
        some = clips[start : start + CLIPS_AT_ONCE]
        states = None if variant.states is None else variant.states[start : start + CLIPS_AT_ONCE]
        # Generators of an index take no first frame, and are not asked for variants with one.
        first: dict[str, Any] = {}
        if variant.first:
            first["first_frames"] = np.stack([clip.video[0] for clip in some])
        prompts = [clip.prompt for clip in some]
        made += list(generator.sample(prompts, states, seed=seed + start, **first))
    return made


def inverse_figures(
    generator: GeneratorModel,
    clips: Sequence[RealClip],
    foreseen: Foreseen,
    instruments: Instruments,
    *,
    seed: int,
) -> list[Figure]:
    """Return all figures of all variants, after those of the real clips; intervals are over videos."""
    real = [clip.video for clip in clips]
    asked, figures = variants(generator, clips, foreseen)
    features = [network.features(real) for network in instruments.videos]
    figures += _agreement(REAL, clips, real, instruments, seed)
    for variant in asked:
        made = make(generator, clips, variant, seed=seed)
        of = f"{OF}, {variant.name}"
        owners = [clip.video_id for clip in clips]
        for network, of_real in zip(instruments.videos, features, strict=True):
            figures.append(
                distance(of, network, network.features(made), of_real, owners, owners, seed=seed)
            )
        figures += _agreement(of, clips, made, instruments, seed)
    return figures


def distance(
    of: str,
    network: VideoNetwork,
    made: NDArray[np.float64],
    real: NDArray[np.float64],
    made_groups: Sequence[str],
    real_groups: Sequence[str],
    *,
    seed: int,
) -> Figure:
    """Return a Fréchet distance as a figure, under the name of its network."""
    if min(len(made), len(real)) < 2:
        why = f"needs at least 2 clips on both sides, there are {len(made)} made and {len(real)} real"
        return missing(of, network.distance, why)
    estimate = frechet_estimate(made, real, made_groups, real_groups, seed=seed)
    note = few_samples(len(made), len(real), made.shape[1])
    return Figure(of=of, name=network.distance, value=estimate, better="lower", note=note)


def _agreement(
    of: str, clips: Sequence[RealClip], videos: Sequence[Pictures], instruments: Instruments, seed: int
) -> list[Figure]:
    owners = [clip.video_id for clip in clips]
    agreement = [
        _state_agreement(video, clip, instruments) for video, clip in zip(videos, clips, strict=True)
    ]
    note = f"cosine of the clip's frames and the true state, {instruments.pictures.name}, standardised"
    figures = [measured(of, "state agreement", agreement, owners, better="higher", note=note, seed=seed)]
    if instruments.clip is None:
        names = ("CLIP-T",) if of == REAL else ("CLIP-T", "CLIP-I")
        return [*figures, *(missing(of, name, NO_CLIP) for name in names)]
    prompts = [clip.prompt for clip in clips]
    note = instruments.clip.note(prompts)
    words = clip_t(instruments.clip, prompts, videos).tolist()
    figures.append(measured(of, "CLIP-T", words, owners, better="higher", note=note, seed=seed))
    if of != REAL:
        alike = clip_i(instruments.clip, videos, [clip.video for clip in clips]).tolist()
        note = f"{instruments.clip.name}, with the real clip"
        figures.append(measured(of, "CLIP-I", alike, owners, better="higher", note=note, seed=seed))
    return figures


def _state_agreement(video: Pictures, clip: RealClip, instruments: Instruments) -> float:
    frames = instruments.pictures.encode(video[evenly(len(video), SHOT_FRAMES)])
    seen = instruments.statistics.standardise(frames).flatten(1).double().numpy()
    true = instruments.statistics.standardise(clip.state).flatten().double().numpy()
    return float(cosine(seen, np.broadcast_to(true, seen.shape)).mean())
