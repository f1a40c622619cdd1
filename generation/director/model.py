"""The interleaved director: a language model that plans a narrative step by step.

A step is read and written as text and visual state in turn, see :mod:`generation.director.layout`. Queries
are learned vectors: a head regresses the step's state from the hidden states at their positions. States of
earlier steps are read through a resampler; a text may be followed by its vector from a frozen sentence
encoder. The model is causal, so the queries of a step attend neither to its own state nor to what follows,
and every step's state can carry loss without a leak.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from generation import config
from generation.core.flow import stream
from generation.core.learner import Batch, Learner, Row
from generation.core.states import Statistics
from generation.core.story import Step, Story
from generation.director.heads import FlowHead
from generation.director.layout import PAD, QUERY, SENTENCE, STATE, Layout, StoryLayout, states_of, story_of
from generation.director.resampler import Resampler
from generation.director.writer import StoryWriter
from generation.encoders.backbones import load_backbone
from generation.encoders.sentences import load_sentences
from pipeline.platform.config import ConfigError

COUNT_GIVEN = 0.5
"""Share of the training windows whose goal names the number of steps."""
ORDER_TEMPERATURE = 0.1


class DirectorModel(Learner):
    """Plans stories.

    Args:
        options: of the recipe.
        state: shape of a visual state.
        statistics: of raw states; inside, states are standardised.

    Attributes:
        predicts_states: whether steps get visual states; a language-centric director gives none.
        writes_texts: whether it writes texts; one that learns no text reads those it is given.
    """

    def __init__(
        self, options: config.DirectorSettings, state: config.State, statistics: Statistics
    ) -> None:
        super().__init__()
        self.options = options
        self.statistics = statistics
        self.language = load_backbone(options.backbone)
        self.model = self.language.model
        width = self.language.width
        self.predicts_states = sees = options.regress != "none"
        self.read_state: nn.Module = nn.Identity()
        self.gather: nn.Module = nn.Identity()
        if sees:
            self.read_state = Resampler(
                width_in=state.width, width=width, width_out=width,
                tokens=options.tokens_in, depth=options.resampler_depth,
            )  # fmt: skip
        # Vectors from other encoders enter at the scale of the token embeddings.
        self._scale = self.language.embedding.weight.detach().float().std().item()
        queries = torch.randn(options.tokens_out, width) * self._scale
        self.queries = nn.Parameter(queries, requires_grad=sees)
        self.sentences = load_sentences(options.sentences) if options.sentences != "none" else None
        self.read_sentence = nn.Linear(self.sentences.width, width) if self.sentences else None
        self.dropout = nn.Dropout(options.dropout)
        self.writes_texts = options.text_weight > 0 or self.sentences is None
        self.layouts = StoryLayout(options, self.language, self.writes_texts)
        if sees:
            self.gather = Resampler(
                width_in=width, width=width,
                width_out=state.width if options.head == "regression" else width,
                tokens=state.tokens, depth=options.resampler_depth,
            )  # fmt: skip
        self.flow_head = FlowHead(state.width, width) if options.head == "flow" else None

    # States that are known without the language model; see generation.director.recalling

    def expected(self, steps: Sequence[tuple[Step, int]]) -> Tensor:
        """Return states that the language model's output is added to, zero here.

        Args:
            steps: with their texts, each with its place in the story, from 0.

        Returns:
            standardised ``[n, tokens, width]``, or the scalar 0.
        """
        return torch.zeros(())

    def carried(self, shown: Sequence[Tensor], predicted: Sequence[Tensor]) -> Tensor:
        """Return what the errors of earlier steps add to the next prediction, zero here.

        Args:
            shown: standardised states ``[n, tokens, width]`` of earlier steps.
            predicted: predictions of the same steps.
        """
        return torch.zeros(())

    # Training

    def collate(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Cut windows of ``min_context`` to ``max_context`` steps out of ``stories`` rows, by the seeds.

        Returns:
            ``kinds``, ``ids``, ``learned`` ``[batch, length]``; raw ``states``
            ``[batch, steps, tokens, width]``, and which of them are ``read`` and ``regressed``
            ``[batch, steps]``; ``seeds`` and whose history is ``hidden`` ``[batch]``.
        """
        layouts, states, read = [], [], []
        hidden: list[bool] = []
        windows: list[tuple[Row, range]] = []
        for row, seed in zip(rows, seeds, strict=True):
            story, random = story_of(row), Random(seed)
            length = min(
                random.randint(self.options.min_context, self.options.max_context), len(story.steps)
            )
            start = random.randint(0, len(story.steps) - length)
            window = range(start, start + length)
            ends = window.stop == len(story.steps)
            count = len(story.steps) if random.random() < COUNT_GIVEN else None
            layout = self.layouts.opening(story.goal, count)
            layouts.append(self.layouts.story(layout, story, window, ends=ends))
            states.append(states_of(story)[start : window.stop])
            seen = 0 if self.options.regress == "none" else length - 1 + ends
            read.append(torch.arange(length) < seen)
            hidden.append(random.random() < self.options.hide_history)
            windows.append((row, window))
        batch = self._batch(layouts, states, read)
        seeded = torch.tensor([seed % 2**62 for seed in seeds])
        batch |= {"seeds": seeded, "hidden": torch.tensor(hidden)}
        return batch | self.collate_expected(windows)

    def collate_expected(self, windows: Sequence[tuple[Row, range]]) -> Batch:
        """Return ``expected``: states for training that the output is added to; nothing here.

        Args:
            windows: rows of ``stories``, each with the steps that are trained on.
        """
        return {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` and its parts: ``text``, ``cosine`` (1 - cos), ``mse``; or ``text``, ``flow``."""
        states, regressed = self.statistics.standardise(batch["states"]), batch["regressed"]
        shown = states.masked_fill(batch["hidden"][:, None, None, None], 0)
        hidden = self._hidden(batch, shown)
        losses = {"text": self._text_loss(hidden, batch)}
        if self.options.regress == "none":
            return {"loss": self.options.text_weight * losses["text"], **losses}
        found, truth = self._predicted(hidden, batch), states[regressed]
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
        """Write ``stories.txt``: for each row the true actions, and those planned for the same goal."""
        lines: list[str] = []
        for row in rows:
            story = story_of(row)
            lines += [story.goal, *(f"  true  {step.action}" for step in story.steps)]
            # A director that writes no text plans the states of the given steps.
            texts = [Step(action=step.action, caption=step.caption) for step in story.steps]
            given = () if self.writes_texts else texts
            planned = self.plan(story.goal, steps=len(story.steps), given=given, seed=seed)
            lines += [f"  plan  {step.action}" for step in planned]
        (folder / "stories.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    # Use

    @property
    def device(self) -> torch.device:
        """Return the device of the weights; stories come from the CPU and go there."""
        return self.queries.device

    @torch.inference_mode()
    def predict(
        self, stories: Sequence[Story], *, history: Literal["true", "own"], seed: int = 0
    ) -> list[Tensor]:
        """Predict states of steps whose texts are known.

        Args:
            stories: with texts; history ``true`` needs their raw states, too.
            history: what is read of earlier steps: their true states, or those predicted here.
            seed: of the flow head; a regression has no chance in it.

        Returns:
            standardised states ``[steps, tokens, width]`` of each story.

        Raises:
            ConfigError: this is a director of texts alone.
        """
        if not self.predicts_states:
            raise ConfigError("director.regress none: this director writes texts and predicts no states")
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
                self.layouts.story(
                    self.layouts.opening(stories[row].goal, None), stories[row], window, ends=False
                )
                for row in rows
            ]
            read = [torch.arange(len(window)) < len(window) - 1] * len(rows)
            states = past[rows, window.start : window.stop]
            made = self._batch(layouts, list(states), read)
            batch = {name: tensor.to(self.device) for name, tensor in made.items()}
            batch["expected"] = self.expected(
                [(stories[row].steps[place], place) for row in rows for place in window]
            ).to(self.device)
            predicted = self._predicted(self._hidden(batch, states), batch)
            predicted = predicted.view(len(rows), -1, *predicted.shape[1:])
            earlier = predicted[:, :-1].unbind(1)
            newest = predicted[:, -1]
            if earlier:
                newest = newest + self.carried(states[:, :-1].unbind(1), earlier).to(newest)
            found[rows, number] = self.draw(newest, [seed + 1009 * row + number for row in rows])
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
            steps with raw states; without, by a director of texts alone.
        """
        options = self.options.sampling
        least, most = (steps, steps) if steps is not None else (options.min_steps, options.max_steps)
        done: list[Step] = []
        writer = StoryWriter(self, goal, steps)
        for number in range(max(most, len(given))):
            if number >= self.options.max_context:
                writer = StoryWriter(self, goal, steps)
                for place in range(number - self.options.max_context + 1, number):
                    writer.read(done[place], place)
            # Of its own for each step, so that a story that is taken up again goes on the same way.
            random = stream(seed, f"step {number}")
            step = given[number] if number < len(given) else Step(action="", caption="")
            texts = {"action": step.action, "caption": step.caption}
            for name in self.options.chain:
                writer.heading(name, number)
                # A director that writes no text reads a given step's missing one as it was trained to.
                if texts[name] or (number < len(given) and not self.layouts.writes):
                    writer.text(texts[name])
                    continue
                may_end = name == self.options.chain[0] and least <= number and number >= len(given)
                if not self.layouts.writes:
                    raise ConfigError("director.text_weight 0: this director reads texts and writes none")
                earlier = [getattr(each, name) for each in done]
                texts[name] = writer.write(name, earlier, random, may_end=may_end)
                if not texts[name] and may_end:
                    return
            state = None
            if self.options.regress != "none":
                found = writer.state(
                    seed + number, [each.state for each in done if each.state is not None]
                ).cpu()
                state = found if step.state is None else step.state
                writer.show(state)
            done.append(Step(action=texts["action"], caption=texts["caption"], state=state))
            yield done[-1]

    # Inside

    def _batch(self, layouts: Sequence[Layout], states: Sequence[Tensor], read: Sequence[Tensor]) -> Batch:
        def padded(rows: Sequence[Tensor]) -> Tensor:
            return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)

        regressed = []
        for window in states:
            places = torch.arange(len(window))
            first = {"every": 0, "last": len(window) - 1, "none": len(window)}[self.options.regress]
            regressed.append(places >= first)
        return {
            "kinds": padded([torch.tensor(layout.kinds) for layout in layouts]),
            "ids": padded([torch.tensor(layout.ids) for layout in layouts]),
            "learned": padded([torch.tensor(layout.learned) for layout in layouts]),
            "states": padded(states),
            "read": padded(read),
            "regressed": padded(regressed),
            "sentences": self.sentence_vectors([text for layout in layouts for text in layout.sentences]),
        }

    def sentence_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return ``[n, width]`` of the frozen sentence encoder; ``[0, 1]`` without one."""
        return self.sentences.encode(texts) if self.sentences else torch.zeros(0, 1)

    def embed(self, kinds: Tensor, ids: Tensor, states: Tensor, sentences: Tensor) -> Tensor:
        """Return vectors ``[n, length, width]``; ``states [m, tokens, width]`` are standardised."""
        vectors = self.language.embedding(ids)
        if len(states):
            seen = (self.read_state(self.dropout(states)) * self._scale).flatten(0, 1)
            vectors = vectors.masked_scatter((kinds == STATE)[..., None], seen.to(vectors.dtype))
        if self.read_sentence is not None and len(sentences):
            said = self.read_sentence(self.dropout(sentences)) * self._scale
            vectors = vectors.masked_scatter((kinds == SENTENCE)[..., None], said.to(vectors.dtype))
        asked = self.queries.repeat(int((kinds == QUERY).sum()) // len(self.queries), 1)
        filled: Tensor = vectors.masked_scatter((kinds == QUERY)[..., None], asked.to(vectors.dtype))
        return filled

    def _hidden(self, batch: Batch, states: Tensor) -> Tensor:
        """Return the language model's hidden states of a batch, ``[batch, length, width]``."""
        vectors = self.embed(batch["kinds"], batch["ids"], states[batch["read"]], batch["sentences"])
        mask = (batch["kinds"] != PAD).long()
        made = self.language.decoder(inputs_embeds=vectors, attention_mask=mask, use_cache=False)
        hidden: Tensor = made.last_hidden_state.float()
        return hidden

    def _predicted(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the queries' outputs, for each regressed state in order: ``[m, tokens, width]``."""
        asked = hidden[batch["kinds"] == QUERY].view(-1, self.options.tokens_out, hidden.shape[-1])
        gathered: Tensor = self.gather(self.dropout(asked))
        return gathered + batch["expected"] if "expected" in batch else gathered

    def draw(self, gathered: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return standardised states of gathered vectors: those themselves, or samples of the flow head."""
        if self.flow_head is None:
            return gathered
        return self.flow_head.sample(gathered, seeds, steps=self.options.sampling.flow_steps)

    def _text_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over the learned tokens of each sample."""
        learned = batch["learned"][:, 1:]
        if not self.layouts.writes:
            return hidden.new_zeros(len(hidden))
        before = hidden[:, :-1][learned]
        logits = self.language.logits(before)
        each = F.cross_entropy(logits, batch["ids"][:, 1:][learned], reduction="none")
        owner = learned.nonzero()[:, 0]
        total = torch.zeros(len(hidden), device=hidden.device).index_add(0, owner, each)
        return total / learned.sum(1)


def _order_loss(found: Tensor, truth: Tensor, owner: Tensor) -> Tensor:
    """Return the cross-entropy of telling each state ``[n]`` from the others of its story by cosine."""
    similarity = F.normalize(found.flatten(1), dim=1) @ F.normalize(truth.flatten(1), dim=1).T
    others = owner[:, None] != owner
    logits = (similarity / ORDER_TEMPERATURE).masked_fill(others, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(found), device=found.device), reduction="none")
