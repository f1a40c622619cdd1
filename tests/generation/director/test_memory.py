"""The memory: kernel ridge regression, what it recalls of stories left out, what it carries on."""

from __future__ import annotations

import pytest
import torch

from generation.director.memory import PENALTY, PLACE, Memory
from pipeline.platform.config import ConfigError

COUNTS = [3, 4, 2, 3, 5, 3]
SHAPE = (2, 5)


def material() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    said = torch.randn(sum(COUNTS), 7, generator=random)
    places = torch.cat([torch.arange(count) for count in COUNTS])
    states = torch.randn(sum(COUNTS), *SHAPE, generator=random) + said[:, :1, None]
    return said, places, states


def by_hand(known: slice | list[int], asked: slice | list[int]) -> torch.Tensor:
    """Kernel ridge regression in its dual form; centre, scale and mean are those of all."""
    said, places, states = (each.double() for each in material())
    centre = said.mean(0)
    scale = (said - centre).square().sum(1).mean().sqrt()
    inputs = torch.cat([(said - centre) / scale, PLACE * torch.eye(4)[places.long().clamp_max(3)]], 1)
    near = torch.exp(-(inputs[:, None] - inputs).square().sum(-1))
    wanted = states.flatten(1) - states.flatten(1).mean(0)
    weights = torch.linalg.solve(
        near[known][:, known] + PENALTY * torch.eye(len(wanted[known])), wanted[known]
    )
    return (near[asked][:, known] @ weights + states.flatten(1).mean(0)).view(-1, *SHAPE).float()


def test_with_room_for_all_it_is_kernel_ridge_regression() -> None:
    said, places, states = material()
    memory = Memory(7, 4, SHAPE, 30)
    memory.fit(said, places, states, COUNTS)
    everything = slice(None)
    torch.testing.assert_close(memory(said, places), by_hand(everything, everything), rtol=1e-2, atol=1e-3)


def test_a_left_out_story_is_recalled_from_the_others_alone() -> None:
    said, places, states = material()
    recalled = Memory(7, 4, SHAPE, 30).fit(said, places, states, COUNTS)
    start = 0
    for count in COUNTS:
        own = list(range(start, start + count))
        others = [place for place in range(len(said)) if place not in own]
        torch.testing.assert_close(recalled[own], by_hand(others, own), rtol=1e-2, atol=1e-3)
        start += count


def test_what_is_carried_is_the_best_linear_guess() -> None:
    """Errors of a story share a part along one direction, and nothing along the other."""
    random = torch.Generator().manual_seed(2)
    stories, steps = 400, 3
    common = torch.randn(stories, 1, 1, generator=random)
    errors = torch.randn(stories, steps, 40, generator=random)
    errors[..., :20] = errors[..., :20] * 2 + 3 * common
    memory = Memory(1, 1, (1, 40), 1)
    memory._learn_shares(list(errors))
    carried = memory.carried(errors[:, :2, None])[:, 0]
    truth = errors[:, 2]
    naive = errors[:, :2].mean(1)
    assert (truth - carried).square().mean() < 0.9 * truth.square().mean()
    assert (truth - carried).square().mean() < 0.9 * (truth - naive).square().mean()
    assert memory.carried(torch.zeros(2, 3, 1, 40)).abs().max() == 0


def test_states_that_are_too_large_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"director.memory.*4096"):
        Memory(8, 4, (257, 1280), 10)
