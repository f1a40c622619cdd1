"""The generator: captions and visual states to clips, by a diffusers video transformer and flow matching.

Caption tokens and state tokens stand side by side in the transformer's cross-attention. States are made
robust before they condition, in training only (:func:`generation.encoders.text.regularise`). Source:
VideoAuteur, section on the visual-conditioned generator; transformer, text padding and key-frame channels
are those of Wan 2.1.

Wan tells the velocity. A transformer that is trained from nothing tells the clean latents, from which the
velocity follows (Li and He 2025, arXiv 2511.13720), and has learned places: after minutes of training it
paints blurred clips where it would otherwise paint patches of noise that do not know where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import WanTransformer3DModel
from diffusers.training_utils import cast_training_params
from numpy.typing import NDArray
from peft import LoraConfig
from safetensors.torch import load
from torch import Tensor, nn

from generation import config
from generation.core import flow
from generation.core.learner import Batch, Learner, Row
from generation.core.states import Pictures, Statistics
from generation.encoders.codecs import VideoCodec, Videos, load_codec
from generation.encoders.text import load_text
from generation.generator.conditioning import regularise
from models.media import write_video
from pipeline.platform.config import ConfigError

IMAGE_MODEL_TEXT_TOKENS = 512
"""Caption tokens that a Wan transformer with image tokens expects; diffusers' attention has it fixed."""
TIME_SCALE = 1000
"""Wan reads times as 0..1000."""
LEAST_TIME = 0.05
"""Bounds the velocity that follows from clean latents."""


class GeneratorModel(Learner):
    """Captions and states to clips.

    How it is conditioned (``condition``):

    - *state*: the regularised state, projected to ``state_tokens`` tokens where it is one vector and token
      by token, with learned places, where it is many. A transformer with image tokens of its own (Wan 2.1
      I2V) gets the state there instead, as it is.
    - *keyframe*: Wan I2V's input channels, ``[noisy latents, mask, known latents]``. Known are the first
      frame's latents; all later ones are zero (Wan's pipeline has encoded grey frames there). Image tokens,
      where there are any, get the state unregularised.
    - *caption*: captions alone.

    For classifier-free guidance, caption and state are replaced by learned vectors in a share
    (``drop_condition``) of the training samples; the key frame stays.

    Raises:
        ConfigError: weights and recipe do not fit; the text names the option.
    """

    def __init__(self, options: config.Generator, state: config.State, statistics: Statistics) -> None:
        super().__init__()
        self.options, self.state, self.statistics = options, state, statistics
        self.codec = load_codec(options.codec)
        self.text = load_text(options.text)
        self.latent_shape = self.codec.latent_shape(options)
        self.transformer = _transformer(options, self.codec, self.latent_shape, text_width=self.text.width)
        width = int(self.transformer.config.text_dim)
        image_width = self.transformer.config.image_dim
        self._image_tokens = image_width is not None
        self._known_channels = _known_channels(self.transformer, options, self.codec)
        self._reads_state = options.condition == "state" or (
            options.condition == "keyframe" and self._image_tokens
        )
        _check(self.transformer, options, state, self.latent_shape)

        same_width = self.text.width == width
        self.text_projection = nn.Identity() if same_width else nn.Linear(self.text.width, width)
        self.null_text = nn.Parameter(torch.zeros(width))
        self.text_type = nn.Parameter(torch.zeros(width))
        if self._image_tokens:
            if options.condition != "keyframe":
                self.null_state = nn.Parameter(torch.zeros(1, image_width))
        elif self._reads_state:
            self.state_tokens = StateTokens(state, count=options.state_tokens, width=width)
            self.null_state = nn.Parameter(torch.zeros(self.state_tokens.count, width))
            self.state_type = nn.Parameter(torch.zeros(width))

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Rows of the clips' feature table; see :mod:`generation.data.features`.

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
            text[index, :length], mask[index, :length] = found["text"], found["text_mask"].bool()
        batch = {"text": text, "text_mask": mask, "seeds": torch.tensor(list(seeds), dtype=torch.int64)}
        latents = self._stack(tensors, "latents", self.latent_shape, "frames, height_px, width_px or codec")
        batch["latents"] = latents
        if self._reads_state:
            shape = (self.state.tokens, self.state.width)
            batch["state"] = self._stack(tensors, "state", shape, "condition with this state")
        return batch

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Squared error of the velocity, mean over each clip's latents."""
        # Sharded training casts its inputs; times and targets stay exact.
        latents, seeds = batch["latents"].float(), batch["seeds"].tolist()
        state = self._standardised(batch.get("state"))
        dropped = torch.zeros(len(seeds), dtype=torch.bool)
        if self.training:
            if state is not None and self.options.condition == "state":
                state = regularise(state, seeds, self.options.regulariser, group=_group(self.options))
            draws = [torch.rand(1, generator=flow.stream(seed, "drop condition")) for seed in seeds]
            dropped = torch.cat(draws) < self.options.drop_condition
        context = self._context(batch["text"], batch["text_mask"], state, dropped.to(latents.device))
        t = flow.sample_times(seeds, shift=self.options.time_shift).to(latents)
        noise = flow.noise_like(latents, seeds)
        first = latents[:, :, :1] if self.options.condition == "keyframe" else None
        predicted = self._velocity(flow.interpolate(latents, noise, t), t, context, first)
        error = (predicted - flow.velocity(latents, noise)).square()
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
    ) -> Videos:
        """Clips ``[n, frames, height, width, 3]`` in RGB.

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
        first = None if first_frames is None else self._first_latents(first_frames).to(device)
        latents = self._sample(
            text.to(device),
            mask.to(device),
            states.to(device) if states is not None and self._reads_state else None,
            first,
            seeds=range(seed, seed + count),
            guidance=guidance,
            steps=steps,
        )
        return self.codec.decode(latents)

    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        """One mp4 a row, named by its ``clip_id``: left the true clip, right the generated one."""
        batch = self.collate(rows, range(seed, seed + len(rows)))
        self.codec.device = device = self.null_text.device
        latents = batch["latents"].to(device)
        state = batch.get("state")
        made = self._sample(
            batch["text"].to(device),
            batch["text_mask"].to(device),
            None if state is None else state.to(device),
            latents[:, :, :1] if self.options.condition == "keyframe" else None,
            seeds=batch["seeds"].tolist(),
        )
        both = np.concatenate([self.codec.decode(latents), self.codec.decode(made)], axis=3)
        for row, clip in zip(rows, both, strict=True):
            write_video(folder / f"{row['clip_id']}.mp4", clip, self.options.fps)

    @torch.no_grad()
    def _sample(
        self,
        text: Tensor,
        mask: Tensor,
        state: Tensor | None,
        first: Tensor | None,
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """Latents of clips. ``state`` is raw; ``first`` are latents ``[n, channels, 1, h', w']``."""
        guidance = self.options.guidance if guidance is None else guidance
        was_training = self.training
        self.eval()
        keyframe = first if self.options.condition == "keyframe" else None
        held = None if keyframe is not None else first
        state = self._standardised(state)
        none = torch.zeros(len(text), dtype=torch.bool, device=text.device)
        given = self._context(text, mask, state, none)
        absent = self._context(text, mask, state, ~none) if guidance != 1 else given
        noise = flow.noise_like(text.new_zeros(len(text), *self.latent_shape), seeds)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            velocity = self._velocity(x, t, given, keyframe)
            if guidance != 1:
                velocity = flow.guided(velocity, self._velocity(x, t, absent, keyframe), guidance)
            if held is not None:
                # The true velocity of what is known keeps the first latent frame on its path.
                velocity[:, :, :1] = flow.velocity(held, noise[:, :, :1])
            return velocity

        try:
            return flow.euler(
                predict,
                noise,
                steps=self.options.sample_steps if steps is None else steps,
                shift=self.options.time_shift,
            )
        finally:
            self.train(was_training)

    def _standardised(self, state: Tensor | None) -> Tensor | None:
        return None if state is None else self.statistics.standardise(state.float())

    def _context(
        self, text: Tensor, mask: Tensor, state: Tensor | None, dropped: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens for cross-attention ``[n, tokens, text_dim]``, and image tokens where there are any."""
        dropped = dropped[:, None, None]
        dtype = self.null_text.dtype
        tokens = (self.text_projection(text.to(dtype)) + self.text_type) * mask[..., None]
        # A missing caption is one token followed by padding: so an empty text looks to Wan.
        null = nn.functional.pad(self.null_text[None], (0, 0, 0, tokens.shape[1] - 1))
        tokens = torch.where(dropped, null, tokens)
        if not self._image_tokens:
            if state is None:
                return tokens, None
            visual = self.state_tokens(state.to(dtype)) + self.state_type
            return torch.cat([tokens, torch.where(dropped, self.null_state, visual)], dim=1), None
        tokens = nn.functional.pad(tokens, (0, 0, 0, IMAGE_MODEL_TEXT_TOKENS - tokens.shape[1]))
        if self.options.condition == "caption":
            return tokens, self.null_state.expand(len(text), -1, -1)
        assert state is not None
        images = self.statistics.restore(state)
        if self.options.condition == "state":
            images = torch.where(dropped, self.null_state, images)
        return tokens, images

    def _velocity(
        self, x: Tensor, t: Tensor, context: tuple[Tensor, Tensor | None], first: Tensor | None
    ) -> Tensor:
        noisy = x
        if self._known_channels:
            known = x.new_zeros(len(x), self._known_channels, *x.shape[2:])
            if first is not None:
                known[:, : self.codec.temporal_stride, :1] = 1
                known[:, self.codec.temporal_stride :, :1] = first
            x = torch.cat([x, known], dim=1)
        tokens, images = context
        dtype = self.transformer.patch_embedding.weight.dtype
        predicted: Tensor = self.transformer(
            hidden_states=x.to(dtype),
            timestep=t * TIME_SCALE,
            encoder_hidden_states=tokens.to(dtype),
            encoder_hidden_states_image=None if images is None else images.to(dtype),
            return_dict=False,
        )[0]
        if self.options.transformer.path is not None:
            return predicted.float()
        time = t.float().clamp_min(LEAST_TIME).view(-1, 1, 1, 1, 1)
        return (noisy - predicted.float()) / time

    def _first_latents(self, pictures: Pictures) -> Tensor:
        height, width = self.options.height_px, self.options.width_px
        fitted = [_cover(picture, height, width)[None] for picture in pictures]
        return torch.stack([self.codec.encode(video) for video in fitted])

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


class StateTokens(nn.Module):
    """Standardised states ``[n, tokens, width]`` to tokens for cross-attention ``[n, count, width]``.

    One vector becomes ``count`` tokens through a small network. Many tokens stay as many; each is projected
    and gets a learned place, without which attention could not tell their order.
    """

    def __init__(self, state: config.State, *, count: int, width: int) -> None:
        super().__init__()
        self.count = count if state.tokens == 1 else state.tokens
        self.project: nn.Module
        if state.tokens == 1:
            self.project = nn.Sequential(
                nn.Linear(state.width, width),
                nn.SiLU(),
                nn.Linear(width, count * width),
                nn.Unflatten(-1, (count, width)),
                nn.Flatten(1, 2),
            )
        else:
            self.project = nn.Linear(state.width, width)
            self.places = nn.Parameter(torch.randn(state.tokens, width) * 0.02)

    def forward(self, z: Tensor) -> Tensor:
        tokens: Tensor = self.project(z)
        return tokens if z.shape[1] == 1 else tokens + self.places


class PlacedPatches(nn.Conv3d):
    """Patches to tokens, with a learned vector for each place.

    Wan's rotary positions tell only how far apart two patches are: to find out from them where in the
    picture it is takes a transformer long training.

    Args:
        channels: of the latents, with those beside them.
        width: of a token.
        patch: frames, rows, columns.
        places: patches along each of them.
    """

    def __init__(
        self, channels: int, width: int, patch: tuple[int, int, int], places: tuple[int, int, int]
    ) -> None:
        super().__init__(channels, width, kernel_size=patch, stride=patch)
        nn.init.orthogonal_(self.weight.view(width, -1))
        self.places = nn.Parameter(torch.randn(width, *places))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.places


def _transformer(
    options: config.Generator,
    codec: VideoCodec,
    latent_shape: tuple[int, int, int, int],
    *,
    text_width: int,
) -> WanTransformer3DModel:
    """From a folder or new, with what is not trained frozen."""
    chosen = options.transformer
    if chosen.path is None:
        known = codec.temporal_stride + codec.channels if options.condition == "keyframe" else 0
        transformer = WanTransformer3DModel(
            patch_size=chosen.patch,
            num_attention_heads=chosen.heads,
            attention_head_dim=chosen.head_width,
            in_channels=codec.channels + known,
            out_channels=codec.channels,
            text_dim=text_width,
            ffn_dim=4 * chosen.heads * chosen.head_width,
            num_layers=chosen.layers,
        )
        frames, rows, columns = (
            max(1, size // patch) for size, patch in zip(latent_shape[1:], chosen.patch, strict=True)
        )
        transformer.patch_embedding = PlacedPatches(
            codec.channels + known,
            chosen.heads * chosen.head_width,
            chosen.patch,
            (frames, rows, columns),
        )
        nn.init.normal_(transformer.proj_out.weight, std=0.02)
    else:
        if not (chosen.path / "config.json").is_file():
            raise ConfigError(
                f"generator.transformer.path: {chosen.path} holds no config.json of a transformer"
            )
        transformer = WanTransformer3DModel.from_pretrained(
            chosen.path,
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=getattr(torch, chosen.dtype),
        )
    if chosen.train == "lora":
        lora, targets = chosen.lora, chosen.lora.targets
        transformer.requires_grad_(False)
        transformer.add_adapter(
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=targets if isinstance(targets, str) else list(targets),
            )
        )
        cast_training_params(transformer, dtype=torch.float32)
    if chosen.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    return transformer


def _known_channels(
    transformer: WanTransformer3DModel, options: config.Generator, codec: VideoCodec
) -> int:
    """Input channels beside the noisy latents: none, or mask and latents of what is known."""
    has = int(transformer.config.in_channels)
    plain, with_known = codec.channels, 2 * codec.channels + codec.temporal_stride
    if transformer.config.out_channels != codec.channels or has not in (plain, with_known):
        raise ConfigError(
            f"generator.transformer.path: the transformer takes {has} and gives "
            f"{transformer.config.out_channels} channels; with generator.codec {options.codec.kind} it "
            f"must take {plain} (or {with_known}, with key frames) and give {codec.channels}"
        )
    if options.condition == "keyframe" and has != with_known:
        raise ConfigError(
            f"generator.condition: keyframe needs a transformer of {with_known} input channels (noise, "
            f"mask, latents), such as Wan 2.1 I2V; this one takes {has}. Choose condition state, or other "
            "weights"
        )
    return has - plain


def _check(
    transformer: WanTransformer3DModel,
    options: config.Generator,
    state: config.State,
    latent_shape: tuple[int, int, int, int],
) -> None:
    sides = zip(
        ("frames", "height_px", "width_px"), latent_shape[1:], transformer.config.patch_size, strict=True
    )
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
    width = transformer.config.image_dim
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


def _group(options: config.Generator) -> int:
    """Rows that are together whatever the number of processes is: of one lane, in one accumulated part."""
    return options.train.batch_size // (options.train.lanes * options.train.accumulate)


def _cover(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scaled so that it covers the size, centre-cropped."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    shrinks = scale < 1
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width], np.uint8)
