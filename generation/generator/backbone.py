"""Video transformers behind one interface, so that the generator knows no model family.

A new family is a subclass of :class:`VideoBackbone` and a line in ``FAMILIES``
(:mod:`generation.generator.families`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Inputs that a clip is made from.

    Attributes:
        text: caption tokens ``[n, tokens, text_width]``, zero where there are none.
        mask: bool ``[n, tokens]``, true at caption tokens.
        states: tokens of visual states ``[n, tokens, state_width]``; None without them.
        present: bool ``[n]``, false where guidance drops the state.
        images: image tokens ``[n, tokens, image_width]`` of a backbone that reads them.
        known: latents ``[n, channels, frames, height, width]`` of a first frame followed by grey ones.
    """

    text: Tensor
    mask: Tensor
    states: Tensor | None = None
    present: Tensor | None = None
    images: Tensor | None = None
    known: Tensor | None = None

    def rows(self, chosen: Tensor) -> Condition:
        """Return the condition of some rows, by a bool ``[n]``."""
        parts: dict[str, Any] = {}
        for name in self.__slots__:
            part = getattr(self, name)
            parts[name] = None if part is None else part[chosen]
        return Condition(**parts)


class VideoBackbone(nn.Module, ABC):
    """One or more diffusers transformers, and the conventions that they were trained with.

    Attributes:
        channels: of the latents.
        text_width: width of the caption tokens that it reads.
        image_width: width of image tokens; None if it reads none.
        known_channels: input channels for what is known of a clip, beside the noisy latents.
        clean_first_frame: whether a known first frame stands in the latents themselves, at time 0.
        patch: latent frames, rows and columns of one token.
    """

    channels: int
    text_width: int
    image_width: int | None = None
    known_channels: int = 0
    clean_first_frame: bool = False
    patch: tuple[int, int, int]

    @abstractmethod
    def transformers(self) -> Mapping[str, nn.Module]:
        """Return the transformers by their names in the pipeline's folder."""

    @abstractmethod
    def velocity(self, noisy: Tensor, t: Tensor, condition: Condition, unknown: Tensor | None) -> Tensor:
        """Predict the velocity ``noise - clean``.

        Args:
            noisy: float32 latents ``[n, channels, frames, height, width]``.
            t: times ``[n]`` in [0, 1]; 1 is noise.
            condition: of each row.
            unknown: latents ``[channels, frames, height, width]`` of a grey clip, for ``known_channels``.

        Returns:
            float32, of the shape of ``noisy``.
        """


class StateBranch(nn.Module):
    """Key and value projections for state tokens in one cross-attention layer.

    The values start at zero, so that training starts from the base model's own output.
    """

    def __init__(self, attention: Any, width: int, tokens: StateTokensHolder) -> None:
        super().__init__()
        inner = attention.to_q.out_features
        self.heads = attention.heads
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        nn.init.zeros_(self.to_v.weight)
        self._holder = tokens
        self._query: Tensor | None = None

    def remember_query(self, module: nn.Module, inputs: tuple[Tensor, ...], query: Tensor) -> None:
        """Keep the layer's normalised query; a forward hook."""
        self._query = query

    def add(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Add the attention to state tokens to the layer's own; a hook before its output projection."""
        tokens, present = self._holder.tokens, self._holder.present
        query, self._query = self._query, None
        if tokens is None or query is None:
            return None
        own = self.to_k.weight.dtype
        key, value = self.to_k(tokens.to(own)), self.to_v(tokens.to(own))
        split = [part.to(query.dtype).unflatten(2, (self.heads, -1)).transpose(1, 2)
                 for part in (query, key, value)]  # fmt: skip
        found = nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        if present is not None:
            found = found * present[:, None, None].to(found)
        return (inputs[0] + found.to(inputs[0]), *inputs[1:])


@dataclass(slots=True)
class StateTokensHolder:
    """State tokens of the forward pass in progress, read by all branches of a transformer."""

    tokens: Tensor | None = None
    present: Tensor | None = None


def attach_states(transformer: nn.Module, width: int) -> None:
    """Give every cross-attention layer of a transformer a branch for state tokens.

    Diffusers names these layers ``attn2`` in Wan and LTX.
    """
    holder = StateTokensHolder()
    transformer.state_tokens = holder  # type: ignore[assignment]
    for name, module in list(transformer.named_modules()):
        if name.rpartition(".")[2] == "attn2":
            branch = StateBranch(module, width, holder)
            module.states = branch
            module.norm_q.register_forward_hook(branch.remember_query)
            module.to_out[0].register_forward_pre_hook(branch.add)


def show_states(transformer: nn.Module, condition: Condition) -> None:
    """Set the state tokens that a transformer's branches read in the next forward pass."""
    holder = getattr(transformer, "state_tokens", None)
    if isinstance(holder, StateTokensHolder):
        holder.tokens, holder.present = condition.states, condition.present


class StateTokens(nn.Module):
    """Standardised states ``[n, tokens, width]`` to tokens for cross-attention ``[n, count, width]``.

    One vector becomes ``count`` tokens through a small network. Many tokens stay as many and get a learned
    place, without which attention could not tell their order.
    """

    def __init__(self, tokens: int, width: int, *, count: int) -> None:
        super().__init__()
        self.width = width
        self.project: nn.Module = nn.Identity()
        self.places: nn.Parameter | None = None
        if tokens == 1:
            self.project = nn.Sequential(
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, count * width),
                nn.Unflatten(-1, (count, width)),
                nn.Flatten(1, 2),
            )
        else:
            self.places = nn.Parameter(torch.randn(tokens, width) * 0.02)

    def forward(self, z: Tensor) -> Tensor:
        """Return the tokens."""
        tokens: Tensor = self.project(z)
        return tokens if self.places is None else tokens + self.places
