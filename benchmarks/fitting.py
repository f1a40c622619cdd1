"""Fit the small networks of :mod:`models.perceptron`. The same data and seed give the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from models.perceptron import Perceptron

MEMBERS = 5
"""Networks, of other starting weights, whose log odds are averaged."""
STEPS = 800
RATE = 2e-2
WEIGHT_DECAY = 3e-2
NOISE = 0.15
"""Weight decay, and standard deviation of the noise added to the normalised features in training."""


def fitted(
    features: Sequence[Sequence[float]],
    truths: Sequence[bool],
    *,
    hidden: int,
    seed: int = 0,
    weight_decay: float = WEIGHT_DECAY,
    noise: float = NOISE,
) -> Perceptron:
    """Fit several networks to examples and return them as one.

    Args:
        features: of every example, ``[examples, n]``.
        truths: of every example.
        hidden: units of each of the networks.
        weight_decay: raise it, and ``noise``, where the examples differ from the data to be judged.
    """
    torch.manual_seed(seed)
    raw = torch.tensor(features, dtype=torch.float32)
    wanted = torch.tensor(truths, dtype=torch.float32)
    mean, scale = raw.mean(0), raw.std(0) + 1e-3
    x = (raw - mean) / scale
    layers: list[tuple[nn.Linear, nn.Linear]] = []
    for _ in range(MEMBERS):
        first, last = nn.Linear(x.shape[1], hidden), nn.Linear(hidden, 1)
        optimiser = torch.optim.AdamW(
            [*first.parameters(), *last.parameters()], lr=RATE, weight_decay=weight_decay
        )
        for step in range(STEPS):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - step / STEPS)
            given = last(torch.tanh(first(x + noise * torch.randn_like(x))))[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(given, wanted)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        layers.append((first, last))
    parts = {
        "mean": mean, "scale": scale,
        "inner": torch.cat([first.weight for first, _ in layers]),
        "bias": torch.cat([first.bias for first, _ in layers]),
        "outer": torch.cat([last.weight[0] for _, last in layers]) / MEMBERS,
        "offset": torch.stack([last.bias for _, last in layers]).mean(0),
    }  # fmt: skip
    return Perceptron(**{name: value.detach().numpy() for name, value in parts.items()})


def moved(network: Perceptron, threshold: float) -> Perceptron:
    """Return the network with odds of 0 where they were ``threshold``."""
    return replace(network, offset=np.asarray(network.offset - threshold, np.float32))


def save(path: Path, networks: Mapping[str, Perceptron], note: str) -> None:
    """Write networks, each with its name as prefix, and a note of how they were made."""
    tensors = {key: value for name, one in networks.items() for key, value in one.tensors(name).items()}
    save_file(tensors, path, {"made": note})
