"""The regulariser that makes the generator robust to predicted states.

A generator trained on true states meets predicted ones when films are made. The paper closes that gap
with a regulariser, ``S(M(z + eps))``, without which states condition worse than key frames do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from generation import config
from generation.core.flow import noise_like, stream


def regularise(z: Tensor, seeds: Sequence[int], options: config.Regulariser, *, group: int) -> Tensor:
    """Return ``S(M(z + eps))`` of standardised states; for training only.

    It acts on the states themselves, before any learned projection, which could undo it.

    - *noise*: ``eps ~ N(0, noise^2)``; a standardised number has deviation 1.
    - *mask*: a masked token becomes zero, which is the mean. Of ``tokens``, each token is masked with this
      probability; of ``samples``, all tokens of a sample together.
    - *shuffle*: of ``tokens``, each token is chosen with this probability and the chosen ones of a sample
      change places in a cycle; of ``samples``, each sample is chosen with this probability and gets the
      state of another sample of its group, never its own. (Were the chosen ones to change places only
      among themselves, a small group would hardly ever find two.)

    Every choice is a function of the row's seed alone, but for which sample a chosen one gets its state
    from: that depends on the group, in an order drawn from its first seed.

    Args:
        z: ``[n, tokens, width]``.
        seeds: ``n`` of them.
        group: so many neighbouring rows may get each other's states; what is left over at the end is a
            smaller group, and who is alone keeps its own.

    Returns:
        a new tensor of the same shape.

    Source: VideoAuteur, section on the generator; what the shares are of is not stated there.
    """
    z = z + options.noise * noise_like(z, seeds) if options.noise else z.clone()
    if options.mask:
        masked = _chosen(z, seeds, "mask", options.mask, options.mask_of)
        z = z.masked_fill(masked[..., None].to(z.device), 0)
    if not options.shuffle:
        return z
    chosen = _chosen(z, seeds, "shuffle", options.shuffle, options.shuffle_of)
    if options.shuffle_of == "samples":
        groups = torch.split(torch.arange(len(z)), group)
        cycles = [_cycle(rows, stream(seeds[int(rows[0])], "order of samples")) for rows in groups]
        return torch.where(chosen[..., None].to(z.device), z[torch.cat(cycles).to(z.device)], z)
    for row, (seed, places) in enumerate(zip(seeds, chosen, strict=True)):
        mine = places.nonzero()[:, 0]
        z[row, mine] = z[row, _cycle(mine, stream(seed, "order of tokens"))]
    return z


def _chosen(z: Tensor, seeds: Sequence[int], purpose: str, share: float, of: str) -> Tensor:
    """Draw a bool ``[n, tokens]``, for each token or for each sample as a whole."""
    count = z.shape[1] if of == "tokens" else 1
    rows = [torch.rand(count, generator=stream(seed, purpose)) < share for seed in seeds]
    return torch.stack(rows).expand(-1, z.shape[1])


def _cycle(places: Tensor, generator: torch.Generator) -> Tensor:
    """Return another place for each, all on one random cycle; a single place keeps its own."""
    order = torch.randperm(len(places), generator=generator)
    source = torch.empty_like(places)
    source[order] = places[order.roll(1)]
    return source
