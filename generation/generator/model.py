"""The generator: captions and visual states to clips, by a diffusers video transformer and flow matching.

Captions condition as in the base model. Visual states have key and value projections of their own in each
cross-attention layer, whose values start at zero: training starts from the base model. States are
regularised in training only (:func:`generation.generator.conditioning.regularise`). Source: VideoAuteur,
section on the visual-conditioned generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn

from generation import config
from generation.core import flow
from generation.core.learner import Batch, Learner, Row
from generation.core.states import Picture, Pictures, Statistics
from generation.encoders.codecs import Videos, load_codec
from generation.encoders.pictures import covering
from generation.encoders.text import load_text
from generation.generator.backbone import Condition, StateTokens, VideoBackbone, attach_states
from generation.generator.conditioning import regularise
from generation.generator.families import load_video_backbone
from generation.generator.wan import IMAGE_MODEL_TEXT_TOKENS
from models.media import write_video
from pipeline.platform.config import ConfigError


class GeneratorModel(Learner):
    """Captions and states to clips.

    How it is conditioned (``condition``):

    - *state*: the regularised state, through a branch of each cross-attention layer. A backbone with image
      tokens of its own (Wan 2.1 I2V) gets the state as its image tokens instead, unchanged.
    - *keyframe*: the first frame, as the backbone was trained for it: in channels beside the noisy latents
      (Wan 2.1 I2V, 2.2 I2V), or in the latents themselves (Wan 2.2 TI2V, LTX). Image tokens, if there are
      any, get the state unregularised.
    - *caption*: captions alone.

    For classifier-free guidance, a share (``drop_condition``) of the training samples has the caption ""
    and no state; the key frame stays.

    Attributes:
        null_text: caption tokens of "", ``[max_tokens, width]``, and their mask ``null_mask``.
        unknown: latents of a grey clip, which Wan I2V reads where no frame is known.

    Raises:
        ConfigError: weights and recipe do not fit; the text names the option.
    """

    null_text: Tensor
    null_mask: Tensor
    unknown: Tensor | None

    def __init__(
        self, options: config.GeneratorSettings, state: config.State, statistics: Statistics
    ) -> None:
        super().__init__()
        self.options, self.state, self.statistics = options, state, statistics
        self.codec = load_codec(options.codec)
        self.text = load_text(options.text)
        self.latent_shape = self.codec.latent_shape(options)
        self.backbone = load_video_backbone(
            options, self.codec, self.latent_shape, text_width=self.text.width
        )
        self._image_tokens = self.backbone.image_width is not None
        self._reads_state = options.condition == "state" or (
            options.condition == "keyframe" and self._image_tokens
        )
        _check(self.backbone, options, state, self.latent_shape)

        same_width = self.text.width == self.backbone.text_width
        self.text_projection = (
            nn.Identity() if same_width else nn.Linear(self.text.width, self.backbone.text_width)
        )
        if self._image_tokens:
            if options.condition != "keyframe":
                self.null_state = nn.Parameter(torch.zeros(1, self.backbone.image_width or 0))
        elif self._reads_state:
            self.state_tokens = StateTokens(state.tokens, state.width, count=options.state_tokens)
            for transformer in self.backbone.transformers().values():
                attach_states(transformer, state.width)
        length = options.text.max_tokens
        self.register_buffer("null_text", torch.zeros(length, self.text.width))
        self.register_buffer("null_mask", torch.zeros(length, dtype=torch.bool))
        self.register_buffer(
            "unknown", torch.zeros(self.latent_shape) if self.backbone.known_channels else None
        )

    def prepare(self, rows: Iterable[Row], constants: Mapping[str, Tensor]) -> None:
        """Take the tokens of "" and the latents of a grey clip from the features, or compute them."""
        if "null_text" not in constants:
            self._fill_constants()
            return
        count = len(constants["null_text"])
        self.null_text.zero_()[:count] = constants["null_text"]
        self.null_mask.zero_()[:count] = True
        if self.unknown is not None:
            self.unknown.copy_(constants["unknown"])

    def kept(self) -> dict[str, Tensor]:
        """See :meth:`Learner.kept`; what :meth:`prepare` filled is saved too."""
        return super().kept() | dict(self.named_buffers(recurse=False))

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Return tensors of rows of the clips' feature table; see :mod:`generation.data.features`.

        Raises:
            ConfigError: the features were made for another recipe.
        """
        tensors = [load(row["tensors"]) for row in rows]
        count, width = self.options.text.max_tokens, self.text.width
        text, mask = torch.zeros(len(rows), count, width), torch.zeros(len(rows), count, dtype=torch.bool)
        for index, found in enumerate(tensors):
            length = len(found["text"])
            if length > count or found["text"].shape[1] != width:
                raise ConfigError(
                    f"generator.text: the features hold {length} caption tokens of width "
                    f"{found['text'].shape[1]}, the recipe wants at most {count} of {width}; compute the "
                    "features again with this recipe"
                )
            text[index, :length], mask[index, :length] = found["text"].float(), True
        batch = {"text": text, "text_mask": mask, "seeds": torch.tensor(list(seeds), dtype=torch.int64)}
        size = "frames, height_px, width_px or codec"
        batch["latents"] = self._stack(tensors, "latents", self.latent_shape, size)
        if self.options.condition == "keyframe":
            batch["known"] = self._stack(tensors, "known", self.latent_shape, f"condition keyframe, {size}")
        if self._reads_state:
            shape = (self.state.tokens, self.state.width)
            batch["state"] = self._stack(tensors, "state", shape, "condition with this state")
        return batch

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return squared error of the velocity, mean over each clip's latents."""
        self._fill_constants()
        # Sharded training casts its inputs; times and targets stay exact.
        latents, seeds = batch["latents"].float(), batch["seeds"].tolist()
        state = self._standardised(batch.get("state"))
        dropped = torch.zeros(len(seeds), dtype=torch.bool)
        if self.training:
            if state is not None and self.options.condition == "state":
                state = regularise(state, seeds, self.options.regulariser, group=_group(self.options))
            draws = [torch.rand(1, generator=flow.stream(seed, "drop condition")) for seed in seeds]
            dropped = torch.cat(draws) < self.options.drop_condition
        dropped = dropped.to(latents.device)
        known = batch.get("known")
        condition = self._condition(batch["text"], batch["text_mask"], state, dropped, known)
        t = flow.sample_times(seeds, shift=self.options.time_shift).to(latents)
        noise = flow.noise_like(latents, seeds)
        noisy, truth = flow.interpolate(latents, noise, t), flow.velocity(latents, noise)
        error = (self.backbone.velocity(noisy, t, condition, self.unknown) - truth).square()
        if known is not None and self.backbone.clean_first_frame:
            # The first latent frame is given, there is nothing to predict.
            error = error[:, :, 1:] if error.shape[2] > 1 else 0 * error
        return {"loss": error.flatten(1).mean(1)}

    def sample(
        self,
        captions: Sequence[str],
        states: Tensor | None,
        *,
        seed: int,
        keyframes: Pictures | None = None,
        first_frames: Pictures | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        start: Tensor | None = None,
        start_share: float = 0.5,
    ) -> Videos:
        """Generate clips ``[n, frames, height, width, 3]`` in RGB.

        Args:
            captions: one for each clip.
            states: raw ``[n, tokens, width]``; needed where the model is conditioned on states.
            seed: clip ``i`` is drawn from ``seed + i``: the same seed gives the same clip.
            keyframes: ``[n, height, width, 3]`` of any size, scaled and centre-cropped; needed by condition
                keyframe, not used by others.
            first_frames: pictures that the clips begin with, such as the last ones of the clips before.
                Condition keyframe reads them in place of key frames; with the others, the first frame is
                held to them at every step of sampling.
            guidance: 1 is none; the recipe's if None.
            steps: of Euler's method; the recipe's if None.
            start: latents ``[n, *latent_shape]`` that sampling starts from in place of noise.
            start_share: part of ``start`` in the mixture with noise where sampling begins, in (0, 1).

        Raises:
            ValueError: something needed is missing, or numbers differ.
        """
        count = len(captions)
        for name, given in (("states", states), ("keyframes", keyframes), ("first_frames", first_frames)):
            if given is not None and len(given) != count:
                raise ValueError(f"{count} captions need as many {name}, got {len(given)}")
        if self._reads_state and states is None:
            raise ValueError(
                "states: this generator is conditioned on visual states; give one for each caption"
            )
        if self.options.condition == "keyframe":
            first_frames = keyframes if first_frames is None else first_frames
            if first_frames is None:
                raise ValueError(
                    "keyframes: this generator is conditioned on key frames; give one a caption"
                )
        self.text.device = self.codec.device = device = self.null_text.device
        text, mask = self.text.encode(captions)
        known = None if first_frames is None else self._known_latents(first_frames).to(device)
        latents = self.sample_latents(
            text.to(device),
            mask.to(device),
            states.to(device) if states is not None and self._reads_state else None,
            known,
            seeds=range(seed, seed + count),
            guidance=guidance,
            steps=steps,
            start=None if start is None else (start.to(device), start_share),
        )
        return self.codec.decode(latents)

    def render(
        self,
        caption: str,
        state: Tensor | None,
        *,
        seed: int,
        keyframe: Picture | None,
        first_frame: Picture | None,
    ) -> tuple[NDArray[np.uint8], None]:
        """Return one clip and no sound; see :class:`generation.film.parts.Generator`."""
        clips = self.sample(
            [caption], None if state is None else state[None], seed=seed,
            keyframes=None if keyframe is None else keyframe[None],
            first_frames=None if first_frame is None else first_frame[None],
        )  # fmt: skip
        clip: NDArray[np.uint8] = clips[0]
        return clip, None

    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        """Write an mp4 a row, named by its ``clip_id``: left the true clip, right the generated one."""
        batch = self.collate(rows, range(seed, seed + len(rows)))
        self.codec.device = device = self.null_text.device
        latents = batch["latents"].to(device)
        state = batch.get("state")
        made = self.sample_latents(
            batch["text"].to(device),
            batch["text_mask"].to(device),
            None if state is None else state.to(device),
            batch["known"].to(device) if "known" in batch else None,
            seeds=batch["seeds"].tolist(),
        )
        both = np.concatenate([self.codec.decode(latents), self.codec.decode(made)], axis=3)
        for row, clip in zip(rows, both, strict=True):
            write_video(folder / f"{row['clip_id']}.mp4", clip, self.options.fps)

    @torch.no_grad()
    def sample_latents(
        self,
        text: Tensor,
        mask: Tensor,
        state: Tensor | None,
        known: Tensor | None,
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        steps: int | None = None,
        start: tuple[Tensor, float] | None = None,
    ) -> Tensor:
        """Return latents of clips; ``state`` is raw, ``known`` as in :class:`Condition`."""
        options = self.options
        guidance = options.guidance if guidance is None else guidance
        self._fill_constants()
        was_training = self.training
        self.eval()
        reads_known = options.condition == "keyframe"
        held = known if known is not None and (not reads_known or self.backbone.clean_first_frame) else None
        state = self._standardised(state)
        none = torch.zeros(len(text), dtype=torch.bool, device=text.device)
        read = known if reads_known else None
        given = self._condition(text, mask, state, none, read)
        absent = self._condition(text, mask, state, ~none, read) if guidance != 1 else given
        noise = flow.noise_like(torch.zeros(len(text), *self.latent_shape, device=text.device), seeds)
        x, begin = noise, 1.0
        if start is not None:
            begin = 1 - start[1]
            x = flow.interpolate(start[0], noise, torch.full((len(text),), begin))

        def predict(x: Tensor, t: Tensor) -> Tensor:
            velocity = self.backbone.velocity(x, t, given, self.unknown)
            if guidance != 1:
                unguided = self.backbone.velocity(x, t, absent, self.unknown)
                velocity = flow.guided(velocity, unguided, guidance)
            if held is not None:
                # The true velocity of what is known keeps the first latent frame on its path.
                velocity[:, :, :1] = flow.velocity(held[:, :, :1], noise[:, :, :1])
            return velocity

        # Weights that are trained in full are float32; training ran them at this precision.
        half = torch.autocast(text.device.type, torch.bfloat16, enabled=options.train.precision == "bf16")
        try:
            with half:
                steps = options.sample_steps if steps is None else steps
                return flow.euler(predict, x, steps=steps, shift=options.time_shift, begin=begin)
        finally:
            self.train(was_training)

    def _standardised(self, state: Tensor | None) -> Tensor | None:
        return None if state is None else self.statistics.standardise(state.float())

    def _fill_constants(self) -> None:
        """Compute the constants, unless the features or a saved model filled them."""
        if self.null_mask.any():
            return
        text, mask = self.text.encode([""])
        self.null_text.copy_(text[0])
        self.null_mask.copy_(mask[0])
        if self.unknown is not None:
            self.unknown.copy_(self.codec.encode_beginning(None, self.options))

    def _condition(
        self, text: Tensor, mask: Tensor, state: Tensor | None, dropped: Tensor, known: Tensor | None
    ) -> Condition:
        """Return what the backbone reads; where ``dropped``, the caption "" and no state."""
        width = self.null_text.dtype
        mask = torch.where(dropped[:, None], self.null_mask, mask)
        tokens = torch.where(dropped[:, None, None], self.null_text, text.to(width))
        tokens = self.text_projection(tokens) * mask[..., None]
        if not self._image_tokens:
            states = None if state is None else self.state_tokens(state.to(width))
            return Condition(text=tokens, mask=mask, states=states, present=~dropped, known=known)
        if self.options.condition == "caption":
            images = self.null_state.expand(len(text), -1, -1)
        else:
            assert state is not None
            images = self.statistics.restore(state)
            if self.options.condition == "state":
                images = torch.where(dropped[:, None, None], self.null_state, images)
        return Condition(text=tokens, mask=mask, images=images, known=known)

    def _known_latents(self, pictures: Pictures) -> Tensor:
        """Return latents ``[n, channels, frames, height, width]`` of clips that begin with pictures."""
        height, width = self.options.height_px, self.options.width_px
        fitted = [covering(picture, height, width) for picture in pictures]
        return torch.stack([self.codec.encode_beginning(picture, self.options) for picture in fitted])

    def _stack(
        self, tensors: Sequence[dict[str, Tensor]], key: str, shape: tuple[int, ...], option: str
    ) -> Tensor:
        for found in tensors:
            if key not in found or tuple(found[key].shape) != shape:
                has = list(found[key].shape) if key in found else "none"
                raise ConfigError(
                    f"generator: the features' {key} are {has}, the recipe ({option}) wants {list(shape)}; "
                    "compute the features again with this recipe"
                )
        return torch.stack([found[key].float() for found in tensors])


def _check(
    backbone: VideoBackbone,
    options: config.GeneratorSettings,
    state: config.State,
    latent_shape: tuple[int, int, int, int],
) -> None:
    if options.condition == "keyframe" and not (backbone.known_channels or backbone.clean_first_frame):
        raise ConfigError(
            "generator.condition: keyframe needs a transformer that takes a first frame, such as Wan 2.1 "
            "I2V; this one takes none. Choose condition state, or other weights"
        )
    sides = zip(("frames", "height_px", "width_px"), latent_shape[1:], backbone.patch, strict=True)
    for key, size, patch in sides:
        if size % patch:
            raise ConfigError(
                f"generator.{key}: {getattr(options, key)} gives {size} latent places, which the "
                f"transformer's patches of {patch} do not divide"
            )
    shuffles = options.condition == "state" and options.regulariser.shuffle > 0
    shuffles_tokens = shuffles and options.regulariser.shuffle_of == "tokens"
    if shuffles and not shuffles_tokens and _group(options) == 1:
        raise ConfigError(
            "generator.regulariser.shuffle_of: samples need at least two clips at a time to shuffle; "
            "batch_size / (lanes x accumulate) of generator.train is 1. Choose shuffle: 0, or fewer lanes "
            "or accumulated parts"
        )
    if shuffles_tokens and state.tokens == 1:
        raise ConfigError(
            "generator.regulariser.shuffle_of: a state of one token has no tokens to shuffle; "
            "choose samples, or shuffle: 0"
        )
    width = backbone.image_width
    if width is None:
        return
    if shuffles_tokens:
        raise ConfigError(
            "generator.regulariser.shuffle_of: this transformer reads image tokens without their order, so "
            "shuffling tokens would do nothing; choose samples, or shuffle: 0"
        )
    if options.condition != "caption" and state.width != width:
        raise ConfigError(
            f"state.width: the transformer reads image tokens of width {width}, the states have "
            f"{state.width}; choose the state family that it was trained with (clip_wan for Wan 2.1 I2V)"
        )
    if options.text.max_tokens > IMAGE_MODEL_TEXT_TOKENS:
        raise ConfigError(
            "generator.text.max_tokens: a transformer with image tokens takes at most "
            f"{IMAGE_MODEL_TEXT_TOKENS}, not {options.text.max_tokens}"
        )


def _group(options: config.GeneratorSettings) -> int:
    """Return how many rows of one lane are together in a part, whatever the number of processes."""
    return options.train.batch_size // (options.train.lanes * options.train.accumulate)
