"""Writing a story step by step with the language model's cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import DynamicCache

from generation.core.story import Step
from generation.director.layout import Layout
from generation.director.repetition import apart, overlap
from generation.encoders.backbones import choose

if TYPE_CHECKING:
    from generation.director.model import DirectorModel

RETRIES = 4


class StoryWriter:
    """A story in the making: the language model's cache, and the hidden states of its last positions.

    Args:
        director: whose weights write.
        goal: of the story.
        steps: announced number of steps, if any.
    """

    def __init__(self, director: DirectorModel, goal: str, steps: int | None) -> None:
        self._director = director
        self._layouts = director.layouts
        self._cache = DynamicCache()
        self._shown: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._texts: dict[str, str] = {}
        self._place = 0
        self._last = self._append(self._layouts.opening(goal, steps))

    def heading(self, name: str, place: int) -> None:
        """Read the heading of a text; the first heading of the chain begins a step."""
        if name == self._director.options.chain[0]:
            self._texts, self._place = {}, place
        self._name = name
        if self._layouts.writes:
            self._last = self._append(self._layouts.heading(name, place))

    def text(self, text: str) -> None:
        """Read a known text."""
        self._finish(self._layouts.text(text), text)

    def read(self, step: Step, place: int) -> None:
        """Read a known step, its state included."""
        for name in self._director.options.chain:
            self.heading(name, place)
            self.text(getattr(step, name))
        if self._director.options.regress == "every":
            self._query()
        if step.state is not None:
            self.show(step.state)

    def show(self, state: Tensor) -> None:
        """Read the raw state of the step; later steps attend to it."""
        standard = self._director.statistics.standardise(state)[None].to(self._director.device)
        self._shown.append(standard)
        self._last = self._append(self._layouts.state(), standard)

    def write(self, name: str, earlier: Sequence[str], random: torch.Generator, *, may_end: bool) -> str:
        """Write a text; one that repeats an earlier one is resampled with another first token.

        When every attempt repeats, the story ends if it may; else the least repetitive attempt is used.

        Returns:
            the text; empty if the story ends.
        """
        options = self._director.options.sampling
        language = self._director.language
        length, last = self._cache.get_seq_length(), self._last
        limit = options.max_action_tokens if name == "action" else options.max_caption_tokens
        barred = [] if may_end else [language.end]
        attempts: list[tuple[float, list[int]]] = []
        for _ in range(RETRIES + 1):
            self._crop(length)
            self._last = last
            ids = self._sample(limit, random, barred)
            text = language.words(ids)
            repeated = max((overlap(text, other) for other in earlier), default=0.0)
            if repeated <= options.max_text_overlap:
                self._finish(Layout(), text)
                return text
            attempts.append((repeated, ids))
            barred.append(ids[0])
        if may_end:
            return ""
        _, ids = min(attempts)
        self._crop(length)
        text = language.words(ids)
        self._finish(Layout().text(ids), text)
        return text

    def state(self, seed: int, earlier: Sequence[Tensor]) -> Tensor:
        """Return the raw state regressed from the queries, turned away from earlier ones if too alike."""
        director, limit = self._director, self._director.options.sampling.max_state_cosine
        length = self._cache.get_seq_length()
        predicted = self._query()
        if director.options.regress == "last":
            # In training, earlier steps have no queries.
            self._crop(length)
        predicted = predicted + director.carried(self._shown, self._predicted[:-1]).to(predicted)
        others = [director.statistics.standardise(other).to(director.device) for other in earlier]
        state = torch.zeros(0)
        for attempt in range(RETRIES if director.flow_head is not None else 1):
            state = director.draw(predicted, [seed + 7919 * attempt])[0]
            if all(
                F.cosine_similarity(state.flatten(), other.flatten(), dim=0) <= limit for other in others
            ):
                break
        for other in others:
            state = apart(state, other, limit)
        return director.statistics.restore(state)

    def _query(self) -> Tensor:
        """Return the prediction from queries at this position, ``[1, tokens, width]``."""
        hidden = self._append(self._layouts.queries())
        step = Step(action=self._texts.get("action", ""), caption=self._texts.get("caption", ""))
        expected = self._director.expected([(step, self._place)])
        predicted: Tensor = self._director.gather(hidden) + expected.to(hidden)
        self._predicted.append(predicted)
        return predicted

    def _sample(self, limit: int, random: torch.Generator, barred: Sequence[int]) -> list[int]:
        """Return the tokens of a text that begins with none of ``barred``, without its end."""
        language, options = self._director.language, self._director.options.sampling
        ids: list[int] = []
        while len(ids) < limit:
            logits = language.logits(self._last[0, -1])
            if not ids:
                logits[list(barred)] = -torch.inf
            token = choose(logits, options.temperature, options.top_p, random)
            if token == language.end:
                break
            ids.append(token)
            self._last = self._append(Layout().text([token]))
        return ids

    def _finish(self, layout: Layout, text: str) -> None:
        """Read what is left of a text, and its end."""
        self._texts[self._name] = text
        self._last = self._append(self._layouts.end_of(text, layout))

    def _crop(self, length: int) -> None:
        surplus = self._cache.get_seq_length() - length
        if surplus:
            self._cache.crop(-surplus)

    def _append(self, layout: Layout, states: Tensor | None = None) -> Tensor:
        """Return the hidden states ``[1, length, width]`` of positions that are read now."""
        director = self._director
        kinds = torch.tensor([layout.kinds], dtype=torch.long, device=director.device)
        ids = torch.tensor([layout.ids], dtype=torch.long, device=director.device)
        none = torch.zeros(0, *director.statistics.mean.shape, device=director.device)
        sentences = director.sentence_vectors(layout.sentences).to(director.device)
        vectors = director.embed(kinds, ids, none if states is None else states, sentences)
        result = director.language.decoder(
            inputs_embeds=vectors, past_key_values=self._cache, use_cache=True
        )
        return cast(Tensor, result.last_hidden_state.float())
