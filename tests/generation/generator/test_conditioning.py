"""The regulariser's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from generation import config
from generation.generator import conditioning


def only(**options: object) -> config.Regulariser:
    return config.Regulariser.model_validate({"noise": 0, "mask": 0, "shuffle": 0, **options})


def regularise(z: Tensor, seeds: Sequence[int], options: config.Regulariser) -> Tensor:
    """The whole batch is one group."""
    return conditioning.regularise(z, seeds, options, group=len(z))


def states(rows: int, tokens: int) -> Tensor:
    """Every token holds its own number, so that it can be followed."""
    return torch.arange(1.0, rows * tokens + 1).view(rows, tokens, 1).repeat(1, 1, 3)


def near(count: int, total: int, share: float) -> bool:
    """Within four standard deviations of a binomial."""
    return abs(count - total * share) < 4 * math.sqrt(total * share * (1 - share))


def test_noise_has_the_asked_deviation() -> None:
    noise = regularise(torch.zeros(200, 4, 16), range(200), only(noise=0.5))
    assert abs(noise.mean().item()) < 4 * 0.5 / noise.numel() ** 0.5
    assert abs(noise.std().item() - 0.5) < 4 * 0.5 / (2 * noise.numel()) ** 0.5


def test_masking_tokens_hides_them_one_by_one() -> None:
    z = states(300, 8)
    out = regularise(z, range(300), only(mask=0.25, mask_of="tokens"))
    hidden = (out == 0).all(dim=2)
    assert torch.equal(out[~hidden], z[~hidden])
    assert near(int(hidden.sum()), 2400, 0.25)
    assert bool((hidden.any(1) & ~hidden.all(1)).any())


def test_masking_samples_hides_all_their_tokens() -> None:
    z = states(2000, 3)
    out = regularise(z, range(2000), only(mask=0.25, mask_of="samples"))
    hidden = (out == 0).flatten(1)
    assert torch.equal(hidden.any(1), hidden.all(1))
    assert near(int(hidden.all(1).sum()), 2000, 0.25)


def test_shuffling_tokens_keeps_a_sample_s_own() -> None:
    z = states(100, 64)
    out = regularise(z, range(100), only(shuffle=0.25, shuffle_of="tokens"))
    assert torch.equal(out.sort(dim=1).values, z)
    assert near(int((out != z).any(2).sum()), 6400, 0.25)
    moved = (out[0] != z[0]).any(1)
    assert bool(moved.any())
    assert sorted(out[0, moved, 0].tolist()) == z[0, moved, 0].tolist()


@pytest.mark.parametrize("batch", [2, 4, 500])
def test_shuffling_samples_gives_the_chosen_another_s_state(batch: int) -> None:
    total = moved = 0
    for start in range(0, 2000, batch):
        z = states(batch, 2)
        out = regularise(z, range(start, start + batch), only(shuffle=0.25, shuffle_of="samples"))
        rows = [tuple(row) for row in z[..., 0].tolist()]
        assert all(tuple(row) in rows for row in out[..., 0].tolist())
        moved += int((out != z).flatten(1).any(1).sum())
        total += batch
    assert near(moved, total, 0.25)


def test_states_are_shuffled_within_groups_so_that_processes_may_share_a_batch() -> None:
    options, z = only(shuffle=1, shuffle_of="samples"), states(10, 2)
    out = conditioning.regularise(z, range(10), options, group=4)
    halves = [
        conditioning.regularise(z[rows], list(range(10))[rows], options, group=4)
        for rows in (slice(0, 4), slice(4, 10))
    ]
    assert torch.equal(torch.cat(halves), out)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        assert sorted(out[rows, 0, 0].tolist()) == z[rows, 0, 0].tolist()
        assert not bool((out[rows] == z[rows]).any())


def test_the_order_is_noise_mask_shuffle() -> None:
    """Masked tokens stay exactly zero wherever they end: neither noise nor mask comes after."""
    options = config.Regulariser(noise=0.5, mask=0.5, shuffle=1, mask_of="tokens", shuffle_of="tokens")
    z, seeds = states(20, 16), range(20)
    unshuffled = regularise(z, seeds, options.model_copy(update={"shuffle": 0}))
    out = regularise(z, seeds, options)
    assert 0.3 < (out == 0).all(2).float().mean() < 0.7
    assert torch.equal(out.sort(dim=1).values, unshuffled.sort(dim=1).values)
    assert not torch.equal(out, unshuffled)


@pytest.mark.parametrize("of", ["tokens", "samples"])
def test_a_row_is_treated_by_its_seed_alone(of: str) -> None:
    options = config.Regulariser.model_validate({"mask_of": of, "shuffle_of": "tokens"})
    z = states(6, 8)
    out = regularise(z, range(6), options)
    assert torch.equal(regularise(z[3:5], [3, 4], options), out[3:5])
    assert not torch.equal(regularise(z, range(1, 7), options), out)


def test_nothing_asked_nothing_done_and_the_input_stays() -> None:
    z = states(8, 4)
    before = z.clone()
    assert torch.equal(regularise(z, range(8), only()), z)
    regularise(z, range(8), config.Regulariser(shuffle_of="tokens"))
    assert torch.equal(z, before)


def test_a_single_token_can_be_masked_but_has_no_place_to_go() -> None:
    z = states(2000, 1)
    assert torch.equal(regularise(z, range(2000), only(shuffle=1, shuffle_of="tokens")), z)
    hidden = (regularise(z, range(2000), only(mask=0.25, mask_of="tokens")) == 0).flatten(1).all(1)
    assert near(int(hidden.sum()), 2000, 0.25)
