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


def hits(scores: torch.Tensor, places: torch.Tensor) -> float:
    scores = scores.clone()
    for row, place in enumerate(places):
        scores[row, place - 1] = -torch.inf
    return float((scores.argmax(1) == places).float().mean())


def cosines(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    return F.normalize(some, dim=1) @ F.normalize(others, dim=1).T


def test_text_and_earlier_pictures_together_find_the_next_one() -> None:
    said, states, recalled = data()
    head = Alignment(SAID, STEPS, (WIDTH // 2, WIDTH // 2))
    head.fit(said, states, recalled, [STEPS] * STORIES)
    places, pictures = torch.arange(1, len(said), STEPS), head.candidates(states)
    found = torch.stack([head(said[at], 1, recalled[at], states[at - 1 : at], pictures) for at in places])
    both = hits(found, places)
    by_text, by_copy = cosines(recalled[places], states), cosines(states[places - 1], states)
    assert both > hits(by_text, places) and both > hits(by_copy, places)
    assert both > 0.8


def test_with_few_stories_the_recalled_state_alone_ranks() -> None:
    said, states, recalled = data()
    head = Alignment(SAID, STEPS, (WIDTH,))
    head.fit(said[:6], states[:6], recalled[:6], [3, 3])
    found = head(said[1], 1, recalled[1], states[:1], head.candidates(states))
    assert torch.allclose(found, cosines(recalled[1:2], states)[0])
    assert head.order(said[:3], recalled[:3], head.candidates(states)).shape == (3, len(states))


def test_the_place_of_a_picture_in_its_story_is_learned() -> None:
    """Texts say nothing and stories share nothing; only pictures of one number look alike."""
    random = torch.Generator().manual_seed(0)
    of_number = torch.randn(1, STEPS, WIDTH, generator=random)
    states = (of_number + 0.5 * torch.randn(STORIES, STEPS, WIDTH, generator=random)).flatten(0, 1)
    nothing = torch.randn(len(states), SAID, generator=random)
    head = Alignment(SAID, STEPS, (WIDTH,))
    head.fit(nothing, states, torch.zeros_like(states), [STEPS] * STORIES)
    scores = head(nothing[2], 2, torch.zeros(WIDTH), states[:2], head.candidates(states))
    best = scores.topk(STORIES).indices
    assert (best % STEPS == 2).float().mean() > 0.8
