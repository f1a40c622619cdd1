"""A director in closed form: sentences of the dataset, states by kernel regression; nothing is optimised.

On a few hundred stories a transformer adds nothing that a held-out split can measure to the regression of
:mod:`generation.director.memory`, and one that learns to spell from five stories writes words that do not
exist. This director writes no words of its own. It answers a question with the story of the dataset that is
most relevant to it, or, where no story is, with an outline by the packaged language model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from generation import config
from generation.core.learner import Batch, Learner, Row
from generation.core.packing import packed, unpacked
from generation.core.states import Statistics
from generation.core.story import Step, Story
from generation.director.alignment import Alignment
from generation.director.layout import states_of, story_of
from generation.director.memory import Memory
from generation.director.outline import outline
from generation.encoders.colour import PARTS
from generation.encoders.sentences import load_sentences

RELEVANT = 0.4
"""Least cosine of a question and a story that answers it (MiniLM; unrelated recipes reach about 0.3)."""
SAME_ACTION = 0.7
"""Least cosine of two actions that share a caption, and of one that repeats another."""
QUESTION = re.compile(
    r"^(how (do|can|to|would|should)( i| you| we)?|please|show me( how to)?)\b", re.IGNORECASE
)


class ClosedFormDirector(Learner):
    """Plans stories from those of its training data.

    Args:
        options: see ``kind`` there; ``max_context`` step numbers are distinguished.
        state: the visual state.
        statistics: of raw states.
    """

    predicts_states = writes_texts = True
    stories: Tensor

    def __init__(
        self, options: config.DirectorSettings, state: config.State, statistics: Statistics
    ) -> None:
        super().__init__()
        self.options, self.statistics = options, statistics
        self.sentences = load_sentences("minilm" if options.sentences == "none" else options.sentences)
        self._relevance = load_sentences("minilm")
        self._shape = (state.tokens, state.width)
        self.register_buffer("stories", packed([]))
        self.memory = self._memory(0)
        parts = PARTS if state.family == "colour" else (state.tokens * state.width,)
        width = self.sentences.width * len(options.chain)
        self.alignment = Alignment(width, options.max_context, parts)

    # Training

    def prepare(self, rows: Iterable[Row], constants: Mapping[str, Tensor]) -> None:
        """Store the stories' texts and solve the regression of their states."""
        stories = [story_of(row) for row in rows]
        self.stories = packed(
            [[story.goal, [[step.action, step.caption] for step in story.steps]] for story in stories]
        )
        counts = [len(story.steps) for story in stories]
        states = torch.cat([self.statistics.standardise(states_of(story)) for story in stories])
        said = torch.cat([self._said(story.steps) for story in stories])
        places = torch.cat([torch.arange(count) for count in counts])
        self.memory = self._memory(len(said))
        recalled = self.memory.fit(said, places, states, counts)
        self.alignment.fit(said, states.flatten(1), recalled.flatten(1), counts)

    def kept(self) -> dict[str, Tensor]:
        """See :meth:`generation.core.learner.Learner.kept`."""
        return dict(self.named_buffers())

    def allocate(self, shapes: dict[str, Sequence[int]]) -> None:
        """See :meth:`generation.core.learner.Learner.allocate`."""
        if shapes.keys() >= {"stories", "memory.keys"}:
            self.stories = torch.zeros(*shapes["stories"], dtype=torch.uint8)
            self.memory = self._memory(shapes["memory.keys"][0])

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Raise, since nothing is trained step by step."""
        raise NotImplementedError("a director in closed form has no batches")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Raise, since nothing is trained step by step."""
        raise NotImplementedError("a director in closed form has no loss")

    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        """Write ``stories.txt``: for each row the true actions, and those planned for the same goal."""
        lines: list[str] = []
        for row in rows:
            story = story_of(row)
            lines += [story.goal, *(f"  true  {step.action}" for step in story.steps)]
            lines += [f"  plan  {step.action}" for step in self.plan(story.goal, steps=None, seed=seed)]
        (folder / "stories.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    # Use

    @torch.inference_mode()
    def plan(
        self, goal: str, *, steps: int | None = None, given: Sequence[Step] = (), seed: int = 0
    ) -> Iterator[Step]:
        """Yield the steps of a story; see :meth:`generation.director.model.DirectorModel.plan`.

        The seed chooses nothing here: the most relevant story is the answer.
        """
        texts = self._texts(goal, steps, given)
        shown: list[Tensor] = []
        predicted: list[Tensor] = []
        for place, (action, caption) in enumerate(texts):
            step = Step(action=action, caption=caption)
            expected = self.memory(self._said([step]), torch.tensor([place]))
            predicted.append(expected)
            if shown:
                beyond = torch.stack(shown, 1) - torch.stack(predicted[:-1], 1)
                expected = expected + self.memory.carried(beyond)
            state = given[place].state if place < len(given) else None
            if state is None:
                state = self.statistics.restore(expected[0])
            shown.append(self.statistics.standardise(state)[None])
            yield Step(action=action, caption=caption, state=state)

    @torch.inference_mode()
    def predict(self, stories: Sequence[Story], *, history: str, seed: int = 0) -> list[Tensor]:
        """Return standardised states; see :meth:`generation.director.model.DirectorModel.predict`."""
        found = []
        for story in stories:
            expected = self.memory(self._said(story.steps), torch.arange(len(story.steps)))
            if history == "true":
                beyond = self.statistics.standardise(states_of(story)) - expected
                carried = [
                    self.memory.carried(beyond[None, :place])[0] for place in range(1, len(expected))
                ]
                expected = torch.cat([expected[:1], *(expected[1:] + torch.stack(carried)).split(1)])
            found.append(expected)
        return found

    @torch.inference_mode()
    def rank(
        self, stories: Sequence[Story], pictures: Tensor, *, history: Literal["true", "own"]
    ) -> list[Tensor]:
        """Return scores ``[steps, c]`` of pictures for each step of each story.

        Args:
            pictures: standardised states ``[c, d]`` to choose from.
            history: with ``true`` the true pictures of the steps before are known; with ``own``, and for
                first steps, texts alone decide.
        """
        found, candidates = [], self.alignment.candidates(pictures)
        for story in stories:
            said = self._said(story.steps)
            recalled = self.memory(said, torch.arange(len(said))).flatten(1)
            scores = self.alignment.order(said, recalled, candidates)
            if history == "true":
                states = self.statistics.standardise(states_of(story)).flatten(1)
                for place in range(1, len(said)):
                    earlier = states[:place]
                    scores[place] = self.alignment(said[place], place, recalled[place], earlier, candidates)
            found.append(scores)
        return found

    # Texts

    def _texts(self, goal: str, count: int | None, given: Sequence[Step]) -> list[tuple[str, str]]:
        """Return action and caption of each step, those given first."""
        library: list[tuple[str, list[tuple[str, str]]]] = unpacked(self.stories)
        known = [(step.action, step.caption) for step in given]
        wanted = None if count is None else max(0, count - len(known))
        if wanted is None or wanted:
            known_actions = [action for action, _ in known]
            known += self._chosen(goal, library, wanted, known_actions)
        return [self._filled(action, caption, library) for action, caption in known]

    def _chosen(
        self,
        goal: str,
        library: Sequence[tuple[str, list[tuple[str, str]]]],
        count: int | None,
        known_actions: Sequence[str],
    ) -> list[tuple[str, str]]:
        """Return new steps that answer the goal, in order."""
        relevance = self._relevance_of(goal, library)
        best = int(np.argmax(relevance))
        sampling = self.options.sampling
        if relevance[best] >= RELEVANT:
            steps = self._new(library[best][1], known_actions)
        else:
            written = outline(goal, count or max(1, sampling.max_steps // 2))
            steps = self._new([(action, "") for action in written], known_actions)
        count = min(len(steps), sampling.max_steps - len(known_actions)) if count is None else count
        if count <= len(steps):
            return [steps[round(place)] for place in np.linspace(0, len(steps) - 1, count)]
        # The story is too short: its last steps are those of the next most relevant ones.
        for other in np.argsort(-relevance):
            if other != best:
                steps += self._new(
                    library[int(other)][1], [*known_actions, *(action for action, _ in steps)]
                )
        return steps[:count]

    def _relevance_of(
        self, goal: str, library: Sequence[tuple[str, list[tuple[str, str]]]]
    ) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Return the cosine of a question with each story: the better of its title and its actions."""
        question = self._vectors([_subject(goal)])
        titles = self._vectors([_subject(title) for title, _ in library])
        actions = self._vectors([" ".join(action for action, _ in steps) for _, steps in library])
        found = torch.maximum(titles @ question[0], actions @ question[0])
        # Of two that are equally near in one part, the one that is nearer in the other.
        return (found + 0.1 * torch.minimum(titles @ question[0], actions @ question[0])).numpy()

    def _new(self, steps: Sequence[tuple[str, str]], known_actions: Sequence[str]) -> list[tuple[str, str]]:
        """Return the steps that repeat none of the known actions."""
        if not known_actions or not steps:
            return list(steps)
        alike = self._vectors([action for action, _ in steps]) @ self._vectors(list(known_actions)).T
        return [step for step, most in zip(steps, alike.amax(1), strict=True) if most < SAME_ACTION]

    def _filled(
        self, action: str, caption: str, library: Sequence[tuple[str, list[tuple[str, str]]]]
    ) -> tuple[str, str]:
        """Give an action without caption that of the nearest known action, or its own text."""
        if action and caption:
            return action, caption
        if not action:
            return caption, caption
        steps = [step for _, steps in library for step in steps if step[1]]
        if not steps:
            return action, action
        alike = self._vectors([known for known, _ in steps]) @ self._vectors([action])[0]
        best = int(alike.argmax())
        return action, steps[best][1] if alike[best] >= SAME_ACTION else action

    def _vectors(self, texts: Sequence[str]) -> Tensor:
        """Return MiniLM vectors of length one, ``[n, width]``."""
        return F.normalize(self._relevance.encode(texts), dim=1)

    def _said(self, steps: Sequence[Step]) -> Tensor:
        """Return the sentence vectors of each step's texts side by side, ``[n, texts x width]``."""
        texts = [getattr(step, name) for step in steps for name in self.options.chain]
        return self.sentences.encode(texts).view(len(steps), -1)

    def _memory(self, size: int) -> Memory:
        width = self.sentences.width * len(self.options.chain)
        return Memory(width, self.options.max_context, self._shape, size)


def _subject(question: str) -> str:
    """Return a question without the words that all questions share."""
    return QUESTION.sub("", question.strip()).strip(" ?.!") or question
