"""The interleaved director: a language model that plans a narrative step by step.

A step is read and written as text and visual state in turn: *action, caption, state*, the factorisation of
the paper (section Director). One sequence is::

    GOAL | Step 1: ACTION end [sentence] | Seen: CAPTION end [sentence] | queries | state | Step 2: ...

Headings are given and texts are learned; an empty action ends the story. Queries are learned vectors: from
what the language model makes of them a head regresses the step's state. States of earlier steps are read
through a resampler; a text may be followed by its vector of a frozen sentence encoder. The model being
causal, the queries of a step see nothing of its own state or of what follows, so every step's state can
carry loss without a leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import DynamicCache

from generation import config
from generation.core.flow import stream
from generation.core.learner import Batch, Learner, Row
from generation.core.states import Statistics
from generation.core.story import Step, Story
from generation.director.heads import FlowHead
from generation.director.layout import HEADINGS, PAD, QUERY, SENTENCE, STATE, Layout, states_of, story_of
from generation.director.memory import Memory
from generation.director.repetition import apart, overlap
from generation.director.resampler import Resampler
from generation.encoders.backbones import choose, load_backbone
from generation.encoders.sentences import load_sentences
from pipeline.platform.config import ConfigError

COUNT_TOLD = 0.5
ORDER_TEMPERATURE = 0.1
RETRIES = 4


class Director(Learner):
    """Plans stories.

    Args:
        options: of the recipe.
        state: what a visual state is.
        statistics: of raw states; inside, states are standardised.
    """

    def __init__(self, options: config.Director, state: config.State, statistics: Statistics) -> None:
        super().__init__()
        self.options = options
        self.statistics = statistics
        self.language = load_backbone(options.backbone)
        self.model = self.language.model
        width = self.language.width
        self.read_state = Resampler(
            width_in=state.width, width=width, width_out=width,
            tokens=options.tokens_in, depth=options.resampler_depth,
        )  # fmt: skip
        # Vectors that come from elsewhere enter at the size of the word vectors.
        self._size = self.language.embedding.weight.detach().float().std().item()
        self.queries = nn.Parameter(torch.randn(options.tokens_out, width) * self._size)
        self.sentences = load_sentences(options.sentences) if options.sentences != "none" else None
        self.read_sentence = nn.Linear(self.sentences.width, width) if self.sentences else None
        self.memory: Memory | None = None
        if self.sentences and options.memory:
            said = self.sentences.width * len(options.chain)
            self.memory = Memory(said, options.max_context, (state.tokens, state.width), options.memory)
        self._left_out: dict[str, Tensor] = {}
        self.dropout = nn.Dropout(options.dropout)
        # Words that nothing is learned of would only blur what the sentences say.
        self._writes = options.text_weight > 0 or self.sentences is None
        self.gather = Resampler(
            width_in=width, width=width, width_out=state.width if options.head == "regression" else width,
            tokens=state.tokens, depth=options.resampler_depth,
        )  # fmt: skip
        if self.memory:
            # What is recalled stands until something beyond it is learned.
            nn.init.zeros_(self.gather.leave.weight)
            nn.init.zeros_(self.gather.leave.bias)
        self.flow_head = FlowHead(state.width, width) if options.head == "flow" else None

    # Training

    @torch.no_grad()
    def prepare(self, rows: Iterable[Row]) -> None:
        """Fill the memory, and note what it recalls of each story when that one is left out."""
        if self.memory is None:
            return
        stories = {row["video_id"]: story_of(row) for row in rows}
        counts = [len(story.steps) for story in stories.values()]
        said = torch.cat([self._said(story, range(len(story.steps))) for story in stories.values()])
        places = torch.cat([torch.arange(count) for count in counts])
        states = torch.cat([self.statistics.standardise(states_of(story)) for story in stories.values()])
        recalled = torch.split(self.memory.fit(said, places, states, counts), counts)
        self._left_out = dict(zip(stories, recalled, strict=True))

    def kept(self) -> dict[str, Tensor]:
        """See :meth:`Learner.kept`."""
        memory = self.memory.named_buffers(prefix="memory") if self.memory else ()
        return super().kept() | dict(memory)

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Windows of ``min_context`` to ``max_context`` steps of ``stories`` rows, chosen by the seeds.

        Returns:
            ``kinds``, ``ids``, ``learned`` ``[batch, length]``; raw ``states``
            ``[batch, steps, tokens, width]``, and which of them are ``read`` and ``regressed``
            ``[batch, steps]``; ``seeds`` and whose history is ``hidden`` ``[batch]``.
        """
        layouts, states, read = [], [], []
        hidden: list[bool] = []
        recalled: list[Tensor] = []
        for row, seed in zip(rows, seeds, strict=True):
            story, random = story_of(row), Random(seed)
            length = min(
                random.randint(self.options.min_context, self.options.max_context), len(story.steps)
            )
            start = random.randint(0, len(story.steps) - length)
            window = range(start, start + length)
            ends = window.stop == len(story.steps)
            layout = self._opening(story.goal, len(story.steps) if random.random() < COUNT_TOLD else None)
            layouts.append(self._lay(layout, story, window, ends=ends))
            states.append(states_of(story)[start : window.stop])
            read.append(torch.arange(length) < length - 1 + ends)
            hidden.append(random.random() < self.options.hide_history)
            if self.memory:
                recalled.append(self._left_out[row["video_id"]][start : window.stop])
        batch = self._batch(layouts, states, read)
        if self.memory:
            batch["recalled"] = torch.cat(recalled)
        seeded = torch.tensor([seed % 2**62 for seed in seeds])
        return batch | {"seeds": seeded, "hidden": torch.tensor(hidden)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and its parts ``text``, ``cosine`` (1 - cos) and ``mse``, or ``text`` and ``flow``."""
        states, regressed = self.statistics.standardise(batch["states"]), batch["regressed"]
        shown = states.masked_fill(batch["hidden"][:, None, None, None], 0)
        hidden = self._hidden(batch, shown)
        losses = {"text": self._text_loss(hidden, batch)}
        found, truth = self._gathered(hidden, batch), states[regressed]
        owner = regressed.nonzero()[:, 0]
        if self.flow_head is None:
            parts = {
                "cosine": 1 - F.cosine_similarity(found.flatten(1), truth.flatten(1)),
                "mse": (found - truth).square().flatten(1).mean(1),
            }
            if self.options.order_weight:
                parts["order"] = _order_loss(found, truth, owner)
        else:
            place = regressed.cumsum(1)[regressed]
            parts = {"flow": self.flow_head.loss(truth, found, (batch["seeds"][owner] + place).tolist())}
        for name, each in parts.items():
            total = torch.zeros_like(losses["text"]).index_add(0, owner, each.float())
            losses[name] = total / regressed.sum(1)
        options = self.options
        weights = {
            "text": options.text_weight, "cosine": options.alpha, "mse": options.beta,
            "order": options.order_weight, "flow": 1.0,
        }  # fmt: skip
        return {
            "loss": torch.stack([weights[name] * loss for name, loss in losses.items()]).sum(0),
            **losses,
        }

    def preview(self, rows: Sequence[Row], folder: Path, *, seed: int) -> None:
        """``stories.txt``: for each row the true actions, and those planned for the same goal."""
        lines: list[str] = []
        for row in rows:
            story = story_of(row)
            lines += [story.goal, *(f"  true  {step.action}" for step in story.steps)]
            planned = self.plan(story.goal, steps=len(story.steps), seed=seed)
            lines += [f"  plan  {step.action}" for step in planned]
        (folder / "stories.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    # Use

    @property
    def device(self) -> torch.device:
        """Where the weights lie; stories come from the CPU and go there."""
        return self.queries.device

    @torch.inference_mode()
    def predict(
        self, stories: Sequence[Story], *, history: Literal["true", "own"], seed: int = 0
    ) -> list[Tensor]:
        """States of steps whose texts are known.

        Args:
            stories: with texts; history ``true`` needs their raw states, too.
            history: what is read of earlier steps: their true states, or those predicted here.
            seed: of the flow head; a regression has no chance in it.

        Returns:
            standardised states ``[steps, tokens, width]`` of each story.
        """
        longest = max(len(story.steps) for story in stories)
        found = torch.zeros(len(stories), longest, *self.statistics.mean.shape, device=self.device)
        past = found
        if history == "true":
            raw = nn.utils.rnn.pad_sequence([states_of(story) for story in stories], batch_first=True)
            past = self.statistics.standardise(raw).to(self.device)
        for number in range(longest):
            rows = [row for row, story in enumerate(stories) if len(story.steps) > number]
            window = range(max(0, number + 1 - self.options.max_context), number + 1)
            layouts = [
                self._lay(self._opening(stories[row].goal, None), stories[row], window, ends=False)
                for row in rows
            ]
            read = [torch.arange(len(window)) < len(window) - 1] * len(rows)
            states = past[rows, window.start : window.stop]
            made = self._batch(layouts, list(states), read)
            batch = {name: tensor.to(self.device) for name, tensor in made.items()}
            if self.memory:
                said = torch.cat([self._said(stories[row], window) for row in rows]).to(self.device)
                places = torch.tensor([*window] * len(rows), device=self.device)
                batch["recalled"] = self.memory(said, places)
            gathered = self._gathered(self._hidden(batch, states), batch)
            gathered = gathered.view(len(rows), -1, *gathered.shape[1:])
            newest = gathered[:, -1]
            if self.memory and len(window) > 1:
                newest = newest + self.memory.carried(states[:, :-1] - gathered[:, :-1])
            found[rows, number] = self._state_of(newest, [seed + 1009 * row + number for row in rows])
        return [found[row, : len(story.steps)].cpu() for row, story in enumerate(stories)]

    @torch.inference_mode()
    def plan(
        self, goal: str, *, steps: int | None = None, given: Sequence[Step] = (), seed: int = 0
    ) -> Iterator[Step]:
        """Write a story, step by step, as it appears.

        What is written is kept in the language model's cache, so a step costs its own tokens. Past
        ``max_context`` steps the oldest are forgotten and the rest is read once more.

        Args:
            goal: "How to cook X?".
            steps: how many; None lets the model end the story, within ``sampling.min_steps`` and
                ``max_steps``.
            given: first steps, in order; of each, empty texts are written and a missing state is regressed.
            seed: of sampling.

        Yields:
            steps with raw states.
        """
        options = self.options.sampling
        least, most = (steps, steps) if steps is not None else (options.min_steps, options.max_steps)
        done: list[Step] = []
        tape = Tape(self, goal, steps)
        for number in range(max(most, len(given))):
            if number >= self.options.max_context:
                tape = Tape(self, goal, steps)
                for place in range(number - self.options.max_context + 1, number):
                    tape.read(done[place], place)
            # Of its own for each step, so that a story that is taken up again goes on the same way.
            random = stream(seed, f"step {number}")
            step = given[number] if number < len(given) else Step(action="", caption="")
            texts = {"action": step.action, "caption": step.caption}
            for name in self.options.chain:
                tape.heading(name, number)
                if texts[name]:
                    tape.text(texts[name])
                    continue
                may_end = name == self.options.chain[0] and least <= number and number >= len(given)
                if not self._writes:
                    raise ConfigError("director.text_weight 0: this director reads texts and writes none")
                earlier = [getattr(each, name) for each in done]
                texts[name] = tape.write(name, earlier, random, may_end=may_end)
                if not texts[name] and may_end:
                    return
            found = tape.state(seed + number, [each.state for each in done if each.state is not None]).cpu()
            state = found if step.state is None else step.state
            tape.show(state)
            done.append(Step(action=texts["action"], caption=texts["caption"], state=state))
            yield done[-1]

    # Inside

    def _opening(self, goal: str, steps: int | None) -> Layout:
        told = "" if steps is None else f" ({steps} steps)"
        return Layout().text(self.language.ids(f"{goal}{told}"))

    def _lay(self, layout: Layout, story: Story, window: range, *, ends: bool) -> Layout:
        """Append steps; the last one's state is read only where the story's end follows."""
        end = [self.language.end]
        for place in window:
            for name in self.options.chain:
                text = getattr(story.steps[place], name)
                if self._writes:
                    layout.text(self._heading(name, place))
                    layout.text(self.language.ids(text) + end, learned=True)
                if self.sentences:
                    layout.sentence(text)
            last = place == window[-1]
            if last or self.options.regress == "every":
                layout.slots(QUERY, self.options.tokens_out)
            if ends or not last:
                layout.slots(STATE, self.options.tokens_in)
        if ends and self._writes:
            layout.text(self._heading(self.options.chain[0], window.stop)).text(end, learned=True)
        return layout

    def _batch(self, layouts: Sequence[Layout], states: Sequence[Tensor], read: Sequence[Tensor]) -> Batch:
        def padded(rows: Sequence[Tensor]) -> Tensor:
            return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)

        regressed = []
        for window in states:
            places = torch.arange(len(window))
            regressed.append(places >= (0 if self.options.regress == "every" else len(window) - 1))
        return {
            "kinds": padded([torch.tensor(layout.kinds) for layout in layouts]),
            "ids": padded([torch.tensor(layout.ids) for layout in layouts]),
            "learned": padded([torch.tensor(layout.learned) for layout in layouts]),
            "states": padded(states),
            "read": padded(read),
            "regressed": padded(regressed),
            "sentences": self._vectors([text for layout in layouts for text in layout.sentences]),
        }

    def _said(self, story: Story, window: range) -> Tensor:
        """Sentence vectors of steps, those of a step's texts side by side: ``[n, texts x width]``."""
        texts = [getattr(story.steps[place], name) for place in window for name in self.options.chain]
        return self._vectors(texts).view(len(window), -1)

    def _vectors(self, texts: Sequence[str]) -> Tensor:
        """``[n, width]`` of the frozen encoder; without one, nothing."""
        return self.sentences.encode(texts) if self.sentences else torch.zeros(0, 1)

    def _heading(self, name: str, place: int) -> list[int]:
        return self.language.ids(HEADINGS[name].format(number=place + 1))

    def _embed(self, kinds: Tensor, ids: Tensor, states: Tensor, sentences: Tensor) -> Tensor:
        """Vectors ``[n, length, width]``; ``states [m, tokens, width]`` are standardised, in order."""
        vectors = self.language.embedding(ids)
        if len(states):
            seen = (self.read_state(self.dropout(states)) * self._size).flatten(0, 1)
            vectors = vectors.masked_scatter((kinds == STATE)[..., None], seen.to(vectors.dtype))
        if self.read_sentence is not None and len(sentences):
            said = self.read_sentence(self.dropout(sentences)) * self._size
            vectors = vectors.masked_scatter((kinds == SENTENCE)[..., None], said.to(vectors.dtype))
        asked = self.queries.repeat(int((kinds == QUERY).sum()) // len(self.queries), 1)
        filled: Tensor = vectors.masked_scatter((kinds == QUERY)[..., None], asked.to(vectors.dtype))
        return filled

    def _hidden(self, batch: Batch, states: Tensor) -> Tensor:
        """What the language model makes of a batch, ``[batch, length, width]``."""
        vectors = self._embed(batch["kinds"], batch["ids"], states[batch["read"]], batch["sentences"])
        mask = (batch["kinds"] != PAD).long()
        made = self.language.decoder(inputs_embeds=vectors, attention_mask=mask, use_cache=False)
        hidden: Tensor = made.last_hidden_state.float()
        return hidden

    def _gathered(self, hidden: Tensor, batch: Batch) -> Tensor:
        """What the queries found, for each regressed state in order: ``[m, tokens, width]``."""
        asked = hidden[batch["kinds"] == QUERY].view(-1, self.options.tokens_out, hidden.shape[-1])
        gathered: Tensor = self.gather(self.dropout(asked))
        return gathered + batch["recalled"] if self.memory else gathered

    def _state_of(self, gathered: Tensor, seeds: Sequence[int]) -> Tensor:
        if self.flow_head is None:
            return gathered
        return self.flow_head.sample(gathered, seeds, steps=self.options.sampling.flow_steps)

    def _text_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy over the learned tokens of each sample."""
        learned = batch["learned"][:, 1:]
        if not self._writes:
            return hidden.new_zeros(len(hidden))
        before = hidden[:, :-1][learned]
        logits = self.language.logits(before)
        each = F.cross_entropy(logits, batch["ids"][:, 1:][learned], reduction="none")
        owner = learned.nonzero()[:, 0]
        total = torch.zeros(len(hidden), device=hidden.device).index_add(0, owner, each)
        return total / learned.sum(1)


class Tape:
    """A story being written: the language model's cache and what was appended last."""

    def __init__(self, director: Director, goal: str, steps: int | None) -> None:
        self._director = director
        self._cache = DynamicCache()
        self._beyond: list[Tensor] = []
        self._texts: list[str] = []
        self._place = 0
        self._last = self._append(director._opening(goal, steps))

    def heading(self, name: str, place: int) -> None:
        """What stands before a text."""
        if name == self._director.options.chain[0]:
            self._texts, self._place = [], place
        if self._director._writes:
            self._last = self._append(Layout().text(self._director._heading(name, place)))

    def text(self, text: str) -> None:
        """A text that is known."""
        ids = self._director.language.ids(text) if self._director._writes else []
        self._finish(Layout().text(ids), text)

    def read(self, step: Step, place: int) -> None:
        """A step that is known."""
        for name in self._director.options.chain:
            self.heading(name, place)
            self.text(getattr(step, name))
        if self._director.options.regress == "every":
            self._ask()
        assert step.state is not None
        self.show(step.state)

    def show(self, state: Tensor) -> None:
        """The raw state of the step, as it will be read later."""
        standard = self._director.statistics.standardise(state)[None].to(self._director.device)
        if self._director.memory:
            self._beyond.append(standard - self._gathered)
        self._last = self._append(Layout().slots(STATE, self._director.options.tokens_in), standard)

    def write(self, name: str, earlier: Sequence[str], random: torch.Generator, *, may_end: bool) -> str:
        """A new text; one that says too much of an earlier one again is tried anew with another beginning.

        When every try repeats, the story ends if it may; else the least repetitive try stands.
        """
        options = self._director.options.sampling
        length, last = self._cache.get_seq_length(), self._last
        limit = options.max_action_tokens if name == "action" else options.max_caption_tokens
        barred = [] if may_end else [self._director.language.end]
        tries: list[tuple[float, list[int]]] = []
        for _ in range(RETRIES + 1):
            self._back_to(length)
            self._last = last
            ids = self._sample(limit, random, barred)
            text = self._director.language.words(ids)
            repeated = max((overlap(text, other) for other in earlier), default=0.0)
            if repeated <= options.max_text_overlap:
                self._finish(Layout(), text)
                return text
            tries.append((repeated, ids))
            barred.append(ids[0])
        if may_end:
            return ""
        _, ids = min(tries)
        self._back_to(length)
        text = self._director.language.words(ids)
        self._finish(Layout().text(ids), text)
        return text

    def state(self, seed: int, earlier: Sequence[Tensor]) -> Tensor:
        """The raw state regressed from the queries, kept apart from the earlier ones."""
        director, limit = self._director, self._director.options.sampling.max_state_cosine
        length = self._cache.get_seq_length()
        gathered = self._ask()
        if director.options.regress == "last":
            # In training no queries of earlier steps were there.
            self._back_to(length)
        if director.memory and self._beyond:
            gathered = gathered + director.memory.carried(torch.stack(self._beyond, 1))
        others = [director.statistics.standardise(other).to(director.device) for other in earlier]
        state = torch.zeros(0)
        for attempt in range(RETRIES if director.flow_head is not None else 1):
            state = director._state_of(gathered, [seed + 7919 * attempt])[0]
            if all(
                F.cosine_similarity(state.flatten(), other.flatten(), dim=0) <= limit for other in others
            ):
                break
        for other in others:
            state = apart(state, other, limit)
        return director.statistics.restore(state)

    def _ask(self) -> Tensor:
        """What the queries find here, ``[1, tokens, width]``."""
        hidden = self._append(Layout().slots(QUERY, self._director.options.tokens_out))
        found: Tensor = self._director.gather(hidden)
        if self._director.memory:
            said = self._director._vectors(self._texts).view(1, -1).to(found.device)
            found = found + self._director.memory(said, torch.tensor([self._place], device=found.device))
        self._gathered = found
        return found

    def _sample(self, limit: int, random: torch.Generator, barred: Sequence[int]) -> list[int]:
        """Tokens of a text that begins with none of ``barred``; its end is left to :meth:`_finish`."""
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
        """End a text."""
        self._texts.append(text)
        if self._director._writes:
            layout.text([self._director.language.end])
        if self._director.sentences:
            layout.sentence(text)
        self._last = self._append(layout)

    def _back_to(self, length: int) -> None:
        surplus = self._cache.get_seq_length() - length
        if surplus:
            self._cache.crop(-surplus)

    def _append(self, layout: Layout, states: Tensor | None = None) -> Tensor:
        """Read on; hidden states ``[1, length, width]`` of what was appended."""
        director = self._director
        kinds = torch.tensor([layout.kinds], device=director.device)
        ids = torch.tensor([layout.ids], device=director.device)
        none = torch.zeros(0, *director.statistics.mean.shape, device=director.device)
        said = director._vectors(layout.sentences).to(director.device)
        vectors = director._embed(kinds, ids, none if states is None else states, said)
        result = director.language.decoder(
            inputs_embeds=vectors, past_key_values=self._cache, use_cache=True
        )
        return cast(Tensor, result.last_hidden_state.float())


def _order_loss(found: Tensor, truth: Tensor, owner: Tensor) -> Tensor:
    """Of each state ``[n]``: cross-entropy of telling it from the others of its story by cosine."""
    similarity = F.normalize(found.flatten(1), dim=1) @ F.normalize(truth.flatten(1), dim=1).T
    others = owner[:, None] != owner
    logits = (similarity / ORDER_TEMPERATURE).masked_fill(others, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(found), device=found.device), reduction="none")
