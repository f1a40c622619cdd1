"""Flow matching: straight paths from data (t = 0) to noise (t = 1), and the way back.

Source: Lipman et al. 2022 (arXiv 2210.02747) and Liu et al. 2022 (arXiv 2209.03003); times and their shift
as in Stable Diffusion 3 (arXiv 2403.03206), which Wan follows. Everything random comes from seeds, one a
sample, so that a sample's loss does not depend on its neighbours in the batch.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def stream(seed: int, purpose: str) -> torch.Generator:
    """Return a generator on the CPU for one purpose; streams of other purposes are independent of it."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def sample_times(seeds: Sequence[int], *, shift: float = 1.0) -> Tensor:
    """Draw logit-normal times ``[n]`` in (0, 1); a shift above 1 moves them towards noise."""
    normal = torch.cat([torch.randn(1, generator=stream(seed, "time")) for seed in seeds])
    return shifted(torch.sigmoid(normal), shift)


def shifted(t: Tensor, shift: float) -> Tensor:
    """Return ``shift t / (1 + (shift - 1) t)``: 0 and 1 stay where they are."""
    return shift * t / (1 + (shift - 1) * t)


def noise_like(x: Tensor, seeds: Sequence[int]) -> Tensor:
    """Draw standard normal noise of shape ``[n, ...]``, device and type of ``x``, by ``n`` seeds."""
    if len(seeds) != len(x):
        raise ValueError(f"{len(x)} samples need as many seeds, got {len(seeds)}")
    rows = [torch.randn(x.shape[1:], generator=stream(seed, "noise")) for seed in seeds]
    return torch.stack(rows).to(x)


def interpolate(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return ``(1 - t) x0 + t noise`` for ``[n, ...]`` and times ``[n]``."""
    t = t.to(x0).view(-1, *[1] * (x0.ndim - 1))
    return (1 - t) * x0 + t * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """Return a model's target: the path's derivative ``noise - x0``, the same at every time."""
    return noise - x0


def guided(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Apply classifier-free guidance (arXiv 2207.12598); 1 is the conditional prediction itself."""
    return unconditional + guidance * (conditional - unconditional)


def euler(
    predict: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    *,
    steps: int,
    shift: float = 1.0,
    begin: float = 1.0,
) -> Tensor:
    """Walk from noise to data.

    Args:
        predict: velocity ``[n, ...]`` at ``(x [n, ...], t [n])``.
        noise: ``[n, ...]`` at time ``begin``: pure noise at 1.
        steps: calls of ``predict`` from time 1; a later beginning takes its share of them, at least one.
        shift: as in training.
        begin: time of ``noise``.
    """
    x = noise
    times = shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()
    if begin < 1:
        times = [begin, *(time for time in times if time < begin)]
    for t, following in itertools.pairwise(times):
        x = x + (following - t) * predict(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device))
    return x
