"""Flow matching: the maths is exact, and randomness belongs to the sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from generation.core import flow


def pair() -> tuple[Tensor, Tensor]:
    x0 = torch.linspace(-1, 1, 24).view(2, 3, 4)
    return x0, flow.noise_like(x0, [1, 2])


def test_a_path_leads_from_data_to_noise() -> None:
    x0, noise = pair()
    assert torch.equal(flow.interpolate(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(flow.interpolate(x0, noise, torch.ones(2)), noise)
    mixed = flow.interpolate(x0, noise, torch.tensor([0.25, 0.5]))
    torch.testing.assert_close(mixed[0], 0.75 * x0[0] + 0.25 * noise[0])
    torch.testing.assert_close(mixed[1], 0.5 * x0[1] + 0.5 * noise[1])


def test_velocity_is_the_derivative_of_the_path() -> None:
    x0, noise = (value.double() for value in pair())
    t, step = torch.tensor([0.3, 0.6], dtype=torch.float64), 1e-6
    slope = (flow.interpolate(x0, noise, t + step) - flow.interpolate(x0, noise, t)) / step
    torch.testing.assert_close(slope, flow.velocity(x0, noise), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (7, 1.0), (7, 3.0)])
def test_euler_with_the_true_velocity_arrives_at_the_data(steps: int, shift: float) -> None:
    x0, noise = pair()
    seen: list[Tensor] = []

    def predict(x: Tensor, t: Tensor) -> Tensor:
        torch.testing.assert_close(x, flow.interpolate(x0, noise, t))
        seen.append(t)
        return flow.velocity(x0, noise)

    torch.testing.assert_close(flow.euler(predict, noise, steps=steps, shift=shift), x0)
    times = torch.stack(seen)
    assert times.shape == (steps, 2)
    assert times[0].tolist() == [1, 1]
    if steps > 1:
        expected = shift * (1 - 1 / steps) / (1 + (shift - 1) * (1 - 1 / steps))
        assert times[1, 0].item() == pytest.approx(expected)


def test_times_are_logit_normal_and_shifted() -> None:
    seeds = range(4000)
    normal = torch.logit(flow.sample_times(seeds))
    assert abs(normal.mean().item()) < 4 / 4000**0.5
    assert abs(normal.std().item() - 1) < 4 / 8000**0.5
    # The shift multiplies the odds t / (1 - t).
    torch.testing.assert_close(
        torch.logit(flow.sample_times(seeds, shift=3.0)),
        normal + torch.log(torch.tensor(3.0)),
        atol=1e-3,
        rtol=0,
    )


def test_a_sample_has_its_own_randomness() -> None:
    x = torch.zeros(3, 5, 5)
    noise = flow.noise_like(x, [7, 8, 9])
    assert torch.equal(flow.noise_like(x[:1], [8])[0], noise[1])
    assert not torch.equal(noise[0], noise[1])
    assert flow.sample_times([8]).item() == flow.sample_times([7, 8])[1].item()


def test_time_and_noise_of_one_seed_are_independent() -> None:
    seeds = range(500)
    times = torch.logit(flow.sample_times(seeds))
    noise = flow.noise_like(torch.zeros(500, 1), seeds)[:, 0]
    assert abs(torch.corrcoef(torch.stack([times, noise]))[0, 1].item()) < 4 / 500**0.5


def test_as_many_seeds_as_samples() -> None:
    with pytest.raises(ValueError, match="3 samples need as many seeds, got 1"):
        flow.noise_like(torch.zeros(3, 2), [1])


def test_guidance_leads_away_from_the_unconditional() -> None:
    conditional, unconditional = torch.tensor([1.0]), torch.tensor([0.5])
    assert flow.guided(conditional, unconditional, 1.0).item() == 1.0
    assert flow.guided(conditional, unconditional, 0.0).item() == 0.5
    assert flow.guided(conditional, unconditional, 3.0).item() == 2.0
