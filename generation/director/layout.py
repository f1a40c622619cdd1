"""How a story lies before a language model, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import safetensors.torch
import torch
from torch import Tensor

from generation.core.learner import Row
from generation.core.story import Step, Story

HEADINGS = {"action": "\nStep {number}: ", "caption": "\nSeen: "}
PAD, TEXT, STATE, QUERY, SENTENCE = range(5)


@dataclass(slots=True)
class Layout:
    """Place by place: what stands there, the token's number, and whether it is to be foreseen."""

    kinds: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def text(self, ids: Sequence[int], *, learned: bool = False) -> Layout:
        """Append words."""
        return self._append(TEXT, ids, learned)

    def slots(self, kind: int, count: int) -> Layout:
        """Append places for vectors."""
        return self._append(kind, [0] * count, False)

    def sentence(self, text: str) -> Layout:
        """Append the place of a text's vector."""
        self.sentences.append(text)
        return self.slots(SENTENCE, 1)

    def _append(self, kind: int, ids: Sequence[int], learned: bool) -> Layout:
        self.kinds += [kind] * len(ids)
        self.ids += ids
        self.learned += [learned] * len(ids)
        return self


def story_of(row: Row) -> Story:
    """A row of the ``stories`` table, see :mod:`generation.data.features`."""
    states = safetensors.torch.load(row["tensors"])["states"]
    texts = zip(row["actions"], row["captions"], states, strict=True)
    return Story(
        goal=row["goal"],
        steps=tuple(Step(action=action, caption=caption, state=state) for action, caption, state in texts),
    )


def states_of(story: Story) -> Tensor:
    """Raw states of the steps that have one, ``[steps, tokens, width]``."""
    return torch.stack([step.state for step in story.steps if step.state is not None])
