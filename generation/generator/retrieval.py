"""Clips that start from training clips: an index, a best path over the steps of a film, and three modes.

Two cores cannot train a generator whose pictures a visitor recognises. This one shows the training clip
that fits a step best (*retrieve*), starts the diffusion from its latents (*blend*), or only names it as the
nearest one (*generate*). Every clip is reported with its source and the source's share, and none of its
figures belongs beside those of a generator that was trained to make new pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from generation import config
from generation.core.learner import Batch, Learner, Row
from generation.core.packing import packed, unpacked
from generation.core.states import Statistics
from generation.core.story import Source, Step, prompt_of
from generation.encoders.codecs import Videos, load_codec
from generation.encoders.sentences import load_sentences
from generation.generator.model import GeneratorModel

TEXT, STATE = 1.0, 0.5
"""Weights of a clip's match with a step: cosine of the texts, cosine of the standardised states."""
CONTINUITY = 0.15
"""Bonus of a clip from the same video as the clip of the step before."""
REUSE = 0.5
"""Penalty of a clip that an earlier step shows already."""
BEAM = 32
Array = NDArray[np.float32]


class RetrievalGenerator(Learner):
    """Renders clips from an index of the training clips.

    In mode ``retrieve`` nothing is trained; in the others a :class:`GeneratorModel` is.

    Args:
        options: ``retrieval``, ``blend`` and those of the generator.
        state: the visual state.
        statistics: of raw states.
    """

    states: Tensor
    sentences: Tensor
    latents: Tensor
    names: Tensor

    def __init__(
        self, options: config.GeneratorSettings, state: config.State, statistics: Statistics
    ) -> None:
        super().__init__()
        self.options, self.statistics = options, statistics
        self.codec = load_codec(options.codec)
        self.model = None if options.retrieval == "retrieve" else GeneratorModel(options, state, statistics)
        self._relevance = load_sentences("minilm")
        self.allocate(
            {
                "states": (0, state.tokens, state.width),
                "sentences": (0, self._relevance.width),
                "latents": (0, *self.codec.latent_shape(options)),
                "names": (2,),
            }
        )
        self.names = packed([])

    # Training

    def prepare(self, rows: Iterable[Row], constants: Mapping[str, Tensor]) -> None:
        """Build the index."""
        if self.model is not None:
            self.model.prepare((), constants)
        kept = [(row, load(row["tensors"])) for row in rows]
        prompts = [prompt_of(row["action"], row["caption"]) for row, _ in kept]
        self.states = torch.stack(
            [self.statistics.standardise(found["state"].float()) for _, found in kept]
        )
        self.latents = torch.stack([found["latents"].float() for _, found in kept])
        self.sentences = F.normalize(self._relevance.encode(prompts), dim=1)
        self.names = packed([[row["clip_id"], row["video_id"]] for row, _ in kept])

    def kept(self) -> dict[str, Tensor]:
        """See :meth:`generation.core.learner.Learner.kept`; the index is saved beside the weights."""
        return super().kept() | {name: getattr(self, name) for name in INDEX}

    def allocate(self, shapes: dict[str, Sequence[int]]) -> None:
        """See :meth:`generation.core.learner.Learner.allocate`."""
        for name in INDEX if shapes.keys() >= set(INDEX) else ():
            kind = torch.uint8 if name == "names" else torch.float32
            self.register_buffer(name, torch.zeros(*shapes[name], dtype=kind))

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """See :meth:`GeneratorModel.collate`."""
        return self._trained.collate(rows, seeds)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See :meth:`GeneratorModel.forward`."""
        losses: dict[str, Tensor] = self._trained(batch)
        return losses

    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        """See :meth:`GeneratorModel.preview`."""
        self._trained.preview(rows, folder, seed=seed)

    @property
    def _trained(self) -> GeneratorModel:
        if self.model is None:
            raise NotImplementedError("generator.retrieval retrieve has nothing to train")
        return self.model

    # Retrieval

    def retrieve(self, steps: Sequence[Step]) -> list[Source]:
        """Return a training clip for each step: the best path over all steps, by beam search.

        A path's score is the sum of text and state matches, a bonus where two neighbours are of one video,
        and a penalty where a clip is shown twice.
        """
        names: list[tuple[str, str]] = unpacked(self.names)
        match, distance = self._match(steps)
        videos = np.array([video for _, video in names])
        chosen = best_path(match, videos)
        share = {"retrieve": 1.0, "blend": self.options.blend, "generate": 0.0}[self.options.retrieval]
        return [
            Source(
                clip_id=names[clip][0], video_id=names[clip][1], share=share,
                distance=round(float(distance[step, clip]), 4),
            )
            for step, clip in enumerate(chosen)
        ]  # fmt: skip

    def nearest(self, states: Tensor) -> Array:
        """Return the distance of raw states ``[n, tokens, width]`` to the nearest training clip each."""
        distance = 1 - _cosine(self.statistics.standardise(states), self.states)
        return distance.amin(1).numpy()

    def picture(self, source: Source) -> NDArray[np.uint8]:
        """Return the middle frame of a source."""
        video = self._clip(source)
        middle: NDArray[np.uint8] = video[len(video) // 2]
        return middle

    def sample_from(
        self, source: Source, caption: str, state: Tensor | None, *, seed: int
    ) -> NDArray[np.uint8]:
        """Return one clip that starts from a source, see :class:`generation.film.parts.Retriever`."""
        if self.model is None:
            return self._clip(source)
        start = None if source.share == 0 else self.latents[self._place(source)][None]
        states = None if state is None else state[None]
        clips = self.model.sample([caption], states, seed=seed, start=start, start_share=source.share)
        clip: NDArray[np.uint8] = clips[0]
        return clip

    def sample(self, captions: Sequence[str], states: Tensor | None, *, seed: int) -> Videos:
        """Return a clip for each caption and state, each from a source chosen for itself alone."""
        clips = []
        for place, caption in enumerate(captions):
            state = None if states is None else states[place]
            source = self.retrieve([Step(action=caption, caption="", state=state)])[0]
            clips.append(self.sample_from(source, caption, state, seed=seed + place))
        return np.stack(clips)

    def _match(self, steps: Sequence[Step]) -> tuple[Array, Array]:
        """Return scores and state distances ``[steps, clips]``; a step without a state has distance 1."""
        prompts = [prompt_of(step.action, step.caption) for step in steps]
        texts = F.normalize(self._relevance.encode(prompts), dim=1) @ self.sentences.T
        states = torch.zeros_like(texts)
        for place, step in enumerate(steps):
            if step.state is not None:
                standard = self.statistics.standardise(step.state.float().cpu())
                states[place] = _cosine(standard[None], self.states)[0]
        return (TEXT * texts + STATE * states).numpy(), (1 - states).numpy()

    def _place(self, source: Source) -> int:
        names: list[list[str]] = unpacked(self.names)
        return names.index([source.clip_id, source.video_id])

    def _clip(self, source: Source) -> NDArray[np.uint8]:
        video: NDArray[np.uint8] = self.codec.decode(self.latents[self._place(source)][None])[0]
        return video


INDEX = ("states", "sentences", "latents", "names")


def best_path(match: Array, videos: NDArray[np.str_]) -> list[int]:
    """Return the clip of each step on the best path of a beam search.

    Args:
        match: scores ``[steps, clips]``.
        videos: of the clips.
    """
    paths: list[tuple[float, list[int]]] = [(0.0, [])]
    for scores in match:
        grown = []
        for total, path in paths:
            values = scores.copy()
            if path:
                values = values + CONTINUITY * (videos == videos[path[-1]])
                values[path] -= REUSE
            grown += [
                (total + float(values[clip]), [*path, int(clip)]) for clip in np.argsort(-values)[:BEAM]
            ]
        paths = sorted(grown, key=lambda each: -each[0])[:BEAM]
    return paths[0][1]


def _cosine(some: Tensor, others: Tensor) -> Tensor:
    """Return the cosine of all pairs of ``[n, ...]`` and ``[m, ...]``."""
    return F.normalize(some.flatten(1), dim=1) @ F.normalize(others.flatten(1), dim=1).T
