"""A director that adds what it learns to states recalled in closed form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from generation import config
from generation.core.learner import Batch, Row
from generation.core.states import Statistics
from generation.core.story import Step
from generation.director.layout import states_of, story_of
from generation.director.memory import Memory
from generation.director.model import DirectorModel
from generation.director.resampler import Resampler


def new_director(
    options: config.DirectorSettings, state: config.State, statistics: Statistics
) -> DirectorModel:
    """Return the director of a recipe, untrained; with ``options.memory`` one that recalls."""
    kind = RecallingDirector if options.memory else DirectorModel
    return kind(options, state, statistics)


class RecallingDirector(DirectorModel):
    """A director whose output is added to the states that :class:`Memory` recalls for the same texts.

    Until the language model has learned something beyond them, the recalled states stand unchanged.
    """

    def __init__(
        self, options: config.DirectorSettings, state: config.State, statistics: Statistics
    ) -> None:
        super().__init__(options, state, statistics)
        assert self.sentences is not None
        width = self.sentences.width * len(options.chain)
        self.memory = Memory(width, options.max_context, (state.tokens, state.width), options.memory)
        self._left_out: dict[str, Tensor] = {}
        assert isinstance(self.gather, Resampler)
        nn.init.zeros_(self.gather.leave.weight)
        nn.init.zeros_(self.gather.leave.bias)

    @torch.no_grad()
    def prepare(self, rows: Iterable[Row], constants: Mapping[str, Tensor]) -> None:
        """Fill the memory, and recall each story's states with that story left out."""
        stories = {row["video_id"]: story_of(row) for row in rows}
        counts = [len(story.steps) for story in stories.values()]
        steps = [(step, place) for story in stories.values() for place, step in enumerate(story.steps)]
        states = torch.cat([self.statistics.standardise(states_of(story)) for story in stories.values()])
        places = torch.tensor([place for _, place in steps])
        recalled = torch.split(self.memory.fit(self._vectors(steps), places, states, counts), counts)
        self._left_out = dict(zip(stories, recalled, strict=True))

    def kept(self) -> dict[str, Tensor]:
        """See :meth:`generation.core.learner.Learner.kept`; the memory's buffers are saved too."""
        return super().kept() | dict(self.memory.named_buffers(prefix="memory"))

    def expected(self, steps: Sequence[tuple[Step, int]]) -> Tensor:
        """Return the recalled states; see :meth:`DirectorModel.expected`."""
        places = torch.tensor([place for _, place in steps], device=self.device)
        found: Tensor = self.memory(self._vectors(steps).to(self.device), places)
        return found

    def carried(self, shown: Sequence[Tensor], predicted: Sequence[Tensor]) -> Tensor:
        """Return the share of earlier errors that the next step inherits; see :meth:`Memory.carried`."""
        if not shown:
            return torch.zeros(())
        return self.memory.carried(torch.stack(list(shown), 1) - torch.stack(list(predicted), 1))

    def collate_expected(self, windows: Sequence[tuple[Row, range]]) -> Batch:
        """Return states recalled without the story itself: on its own stories the memory is too good."""
        return {"expected": torch.cat([self._recalled(row, window) for row, window in windows])}

    def _recalled(self, row: Row, window: range) -> Tensor:
        """Return recalled states of some steps; a story that was not trained on needs no leaving out."""
        if row["video_id"] in self._left_out:
            return self._left_out[row["video_id"]][window.start : window.stop]
        steps = story_of(row).steps
        with torch.no_grad():
            return self.expected([(steps[place], place) for place in window]).cpu()

    def _vectors(self, steps: Sequence[tuple[Step, int]]) -> Tensor:
        """Return the sentence vectors of each step's texts side by side, ``[n, texts x width]``."""
        texts = [getattr(step, name) for step, _ in steps for name in self.options.chain]
        return self.sentence_vectors(texts).view(len(steps), -1)
