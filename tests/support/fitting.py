"""A plain training loop for learners of a few rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from generation.core.learner import Learner, Row


def fit(learner: Learner, rows: Sequence[Row], *, steps: int, lr: float) -> list[float]:
    """Train on all rows at every step; return the losses."""
    optimiser = torch.optim.AdamW([each for each in learner.parameters() if each.requires_grad], lr=lr)
    losses = []
    for step in range(steps):
        batch = learner.collate(rows, range(step * 100, step * 100 + len(rows)))
        loss = learner(batch)["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses
