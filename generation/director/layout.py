"""The order in which a story is laid out before a language model.

A step is read and written as text and visual state in turn: *action, caption, state*, the factorisation of
the paper (section Director). One sequence is::

    GOAL | Step 1: ACTION end [sentence] | Seen: CAPTION end [sentence] | queries | state | Step 2: ...

Headings are given and texts are learned; an empty action ends the story.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import safetensors.torch
import torch
from torch import Tensor

from generation import config
from generation.core.learner import Row
from generation.core.story import Step, Story
from generation.encoders.backbones import Language

HEADINGS = {"action": "\nStep {number}: ", "caption": "\nSeen: "}
PAD, TEXT, STATE, QUERY, SENTENCE = range(5)


@dataclass(slots=True)
class Layout:
    """A sequence of positions.

    Attributes:
        kinds: of each position: PAD, TEXT, STATE, QUERY or SENTENCE.
        ids: token number of each position; 0 where a vector stands.
        learned: whether the position's token carries loss.
        sentences: texts of the SENTENCE positions, in order.
    """

    kinds: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def text(self, ids: Sequence[int], *, learned: bool = False) -> Layout:
        """Append tokens."""
        return self._append(TEXT, ids, learned)

    def slots(self, kind: int, count: int) -> Layout:
        """Append positions for vectors."""
        return self._append(kind, [0] * count, False)

    def sentence(self, text: str) -> Layout:
        """Append the position of a text's sentence vector."""
        self.sentences.append(text)
        return self.slots(SENTENCE, 1)

    def _append(self, kind: int, ids: Sequence[int], learned: bool) -> Layout:
        self.kinds += [kind] * len(ids)
        self.ids += ids
        self.learned += [learned] * len(ids)
        return self


@dataclass(frozen=True, slots=True)
class StoryLayout:
    """Lays stories out by the options of a director.

    Attributes:
        options: of the director.
        language: its tokenizer is used.
        writes: whether texts appear as tokens. Without text loss and with sentence vectors they are
            omitted: the sentence vectors already encode the text.
    """

    options: config.DirectorSettings
    language: Language
    writes: bool

    def opening(self, goal: str, steps: int | None) -> Layout:
        """Return the goal, with the number of steps if it is given."""
        count = "" if steps is None else f" ({steps} steps)"
        return Layout().text(self.language.start + self.language.ids(f"{goal}{count}"))

    def heading(self, name: str, place: int) -> Layout:
        """Return the heading of a text of step ``place``, counted from 0."""
        return self._head(Layout(), name, place)

    def text(self, text: str) -> Layout:
        """Return a known text without its end."""
        return Layout().text(self.language.ids(text) if self.writes else [])

    def end_of(self, text: str, layout: Layout) -> Layout:
        """Append the end of a text."""
        if self.writes:
            layout.text([self.language.end])
        if self.options.sentences != "none":
            layout.sentence(text)
        return layout

    def queries(self) -> Layout:
        """Return the positions that a state is regressed from."""
        return Layout().slots(QUERY, self.options.tokens_out)

    def state(self) -> Layout:
        """Return the positions that a state is read in."""
        return Layout().slots(STATE, self.options.tokens_in)

    def story(self, layout: Layout, story: Story, window: range, *, ends: bool) -> Layout:
        """Append steps; the state of the last one is read only if the story's end follows."""
        end = [self.language.end]
        for place in window:
            for name in self.options.chain:
                text = getattr(story.steps[place], name)
                if self.writes:
                    self._head(layout, name, place).text(self.language.ids(text) + end, learned=True)
                if self.options.sentences != "none":
                    layout.sentence(text)
            last = place == window[-1]
            regress = self.options.regress
            if regress == "every" or (regress == "last" and last):
                layout.slots(QUERY, self.options.tokens_out)
            if regress != "none" and (ends or not last):
                layout.slots(STATE, self.options.tokens_in)
        if ends and self.writes:
            self._head(layout, self.options.chain[0], window.stop).text(end, learned=True)
        return layout

    def _head(self, layout: Layout, name: str, place: int) -> Layout:
        return layout.text(self.language.ids(HEADINGS[name].format(number=place + 1)))


def story_of(row: Row) -> Story:
    """Return the story in a row of the ``stories`` table, see :mod:`generation.data.features`."""
    states = safetensors.torch.load(row["tensors"])["states"].float()
    texts = zip(row["actions"], row["captions"], states, strict=True)
    return Story(
        goal=row["goal"],
        steps=tuple(Step(action=action, caption=caption, state=state) for action, caption, state in texts),
    )


def states_of(story: Story) -> Tensor:
    """Return the raw states of the steps that have one, ``[steps, tokens, width]``."""
    return torch.stack([step.state for step in story.steps if step.state is not None])
