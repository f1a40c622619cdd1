"""The alignment head ranks pictures better than a regressed state does."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from generation.director.alignment import Alignment

STORIES, STEPS, WIDTH, SAID = 60, 3, 24, 8


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sentences, states that are half text, half kitchen, and recalled states of the text half."""
    random = torch.Generator().manual_seed(0)
    said = torch.randn(STORIES * STEPS, SAID, generator=random)
    text = said @ torch.randn(SAID, WIDTH // 2, generator=random)
    kitchen = (
        torch.randn(STORIES, 1, WIDTH // 2, generator=random).expand(-1, STEPS, -1).reshape(len(said), -1)
    )
    noise = 0.3 * torch.randn(len(said), WIDTH, generator=random)
    states = torch.cat([text / text.std(), kitchen], 1) + noise
    recalled = torch.cat([text / text.std(), torch.zeros_like(kitchen)], 1)
    return said, states, 0.5 * recalled


def hits(queries: torch.Tensor, states: torch.Tensor, places: torch.Tensor) -> float:
    scores = F.normalize(queries, dim=1) @ F.normalize(states, dim=1).T
    for row, place in enumerate(places):
        scores[row, place - 1] = -2
    return float((scores.argmax(1) == places).float().mean())


def test_text_and_earlier_pictures_together_find_the_next_one() -> None:
    said, states, recalled = data()
    head = Alignment(SAID, (WIDTH // 2, WIDTH // 2))
    head.fit(said, states, recalled, [STEPS] * STORIES)
    places = torch.arange(1, len(said), STEPS)
    found = torch.stack([head(said[at], recalled[at], states[at - 1 : at]) for at in places])
    both = hits(found, states, places)
    assert both > hits(recalled[places], states, places) and both > hits(states[places - 1], states, places)
    assert both > 0.8


def test_with_few_stories_the_recalled_state_stands() -> None:
    said, states, recalled = data()
    head = Alignment(SAID, (WIDTH,))
    head.fit(said[:6], states[:6], recalled[:6], [3, 3])
    assert torch.equal(head(said[1], recalled[1], states[:1]), recalled[1])
    assert head.order(said[:3], recalled[:3]).shape == (3, WIDTH)
