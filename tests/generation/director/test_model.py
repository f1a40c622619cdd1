"""The director: no leak, cached writing equals reading at once, stories learned, loops broken."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import ValidationError
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM

from generation import config
from generation.core.states import Statistics
from generation.core.story import Step, Story
from generation.director.layout import story_of
from generation.director.model import DirectorModel
from generation.director.recalling import new_director
from generation.director.repetition import apart, overlap
from pipeline.platform.config import ConfigError, load
from tests.support.fitting import fit
from tests.support.tiny_video import words_tokenizer

STATE = config.State(tokens=2, width=8)
STATISTICS = Statistics(torch.full((2, 8), 0.5), torch.full((2, 8), 2.0))
SMALL = config.Backbone(width=32, layers=2, heads=2)


def row(number: int, steps: int) -> dict[str, Any]:
    random = torch.Generator().manual_seed(number)
    return {
        "video_id": str(number),
        "goal": ("rice", "bread")[number % 2] + str(number),
        "actions": [f"{verb} {number}" for verb in VERBS[number % 2][:steps]],
        "captions": [f"a pan {place}" for place in range(steps)],
        "tensors": safetensors.torch.save({"states": torch.randn(steps, 2, 8, generator=random)}),
    }


def director(**options: Any) -> DirectorModel:
    torch.manual_seed(0)
    made = new_director(config.DirectorSettings(**{"backbone": SMALL, **options}), STATE, STATISTICS)
    return made.eval()


VERBS = (("cut", "fry", "rub", "boil", "eat"), ("mix", "knead", "wait", "bake", "eat"))


def changed(story: Story, place: int, **values: Any) -> Story:
    steps = list(story.steps)
    old = steps[place]
    fresh = {"action": old.action, "caption": old.caption, "state": old.state} | values
    steps[place] = Step(**fresh)
    return Story(goal=story.goal, steps=tuple(steps))


@pytest.mark.parametrize("regress", ["every", "last"])
def test_a_state_is_regressed_from_what_comes_before_it_alone(regress: str) -> None:
    model = director(regress=regress)
    story = story_of(row(1, 5))
    (before,) = model.predict([story], history="true")
    (after,) = model.predict([changed(story, 2, state=torch.ones(2, 8) * 9)], history="true")
    assert torch.equal(before[:3], after[:3])
    assert (before[3:] - after[3:]).abs().amax(dim=(1, 2)).min() > 1e-4
    (after,) = model.predict([changed(story, 2, caption="something else")], history="true")
    assert torch.equal(before[:2], after[:2])
    assert (before[2:] - after[2:]).abs().amax(dim=(1, 2)).min() > 1e-4


def test_in_training_no_state_is_seen_by_its_own_or_an_earlier_query() -> None:
    model = director(min_context=5, max_context=5)
    batch = model.collate([row(1, 5)], [0])
    states = model.statistics.standardise(batch["states"]).requires_grad_()
    found = model._predicted(model._hidden(batch, states), batch)
    for place in range(5):
        (gradient,) = torch.autograd.grad(found[place].sum(), states, retain_graph=True)
        reached = gradient[0].abs().amax(dim=(1, 2)) > 0
        assert reached.tolist() == [earlier < place for earlier in range(5)]


@pytest.mark.parametrize("regress", ["every", "last"])
@pytest.mark.parametrize("head", ["regression", "flow"])
@pytest.mark.parametrize("max_context", [8, 3])
def test_writing_with_the_cache_gives_what_reading_at_once_gives(
    regress: str, head: str, max_context: int
) -> None:
    """Given all texts, the states that ``plan`` makes one by one are those of ``predict``."""
    sampling = {"max_state_cosine": 1.0}
    model = director(regress=regress, head=head, max_context=max_context, sampling=sampling)
    story = story_of(row(3, 5))
    texts = [Step(action=step.action, caption=step.caption) for step in story.steps]
    planned = list(islice(model.plan(story.goal, given=texts), 5))
    (found,) = model.predict([story], history="own")
    made = torch.stack([step.state for step in planned if step.state is not None])
    torch.testing.assert_close(STATISTICS.standardise(made), found, rtol=1e-4, atol=1e-5)


def test_a_sample_s_losses_do_not_depend_on_its_neighbours() -> None:
    model = director()
    rows = [row(number, 2 + number) for number in range(4)]
    together = model(model.collate(rows, [5, 6, 7, 8]))
    for place, each in enumerate(rows):
        alone = model(model.collate([each], [5 + place]))
        for name, loss in alone.items():
            torch.testing.assert_close(loss[0], together[name][place], rtol=1e-4, atol=1e-5)


def test_losses_are_the_formulas_of_the_paper() -> None:
    model = director(alpha=0.25, beta=3.0, text_weight=2.0, min_context=3, max_context=3)
    batch = model.collate([row(1, 3)], [4])
    losses = model(batch)
    story = story_of(row(1, 3))
    # The same goal as in the batch, which may tell the number of steps.
    shown = model.language.words(batch["ids"][0][: batch["learned"][0].int().argmax()].tolist())
    (found,) = model.predict([Story(goal=shown.split("\n")[0], steps=story.steps)], history="true")
    truth = STATISTICS.standardise(torch.stack([s.state for s in story.steps if s.state is not None]))
    cosine = 1 - F.cosine_similarity(found.flatten(1), truth.flatten(1))
    torch.testing.assert_close(losses["cosine"][0], cosine.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["mse"][0], (found - truth).square().mean(), rtol=1e-4, atol=1e-5)
    total = 2.0 * losses["text"] + 0.25 * losses["cosine"] + 3.0 * losses["mse"]
    torch.testing.assert_close(losses["loss"], total)


def _learned_and_planned(model: DirectorModel) -> list[tuple[dict[str, Any], list[Step]]]:
    """Train on two stories; return them with what is planned for their goals, word for word the same."""
    rows = [row(0, 3), row(1, 4)]
    losses = fit(model.train(), rows, steps=180, lr=5e-3)
    assert losses[-1] < losses[0] / 4
    model.eval()
    found = [(each, list(model.plan(each["goal"]))) for each in rows]
    for each, planned in found:
        assert [step.action for step in planned] == each["actions"]
        assert [step.caption for step in planned] == each["captions"]
    return found


def test_a_learned_story_is_planned_again_and_ends_by_itself() -> None:
    model = director(min_context=4, max_context=4)
    for each, planned in _learned_and_planned(model):
        assert all(step.state is not None for step in planned)
        true = story_of(each)
        (found,) = model.predict([true], history="own")
        similarity = F.cosine_similarity(
            STATISTICS.restore(found).flatten(1) - 0.5,
            torch.stack([step.state for step in true.steps if step.state is not None]).flatten(1) - 0.5,
        )
        assert similarity.min() > 0.5


def test_a_director_of_texts_alone_reads_and_writes_no_states() -> None:
    model = director(regress="none", min_context=4, max_context=4)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith("model.") for name in trained)
    for _, planned in _learned_and_planned(model):
        assert all(step.state is None for step in planned)
    with pytest.raises(ConfigError, match="writes texts and predicts no states"):
        model.predict([story_of(row(0, 3))], history="own")
    with pytest.raises(ValidationError, match="set text_weight"):
        director(regress="none", text_weight=0.0)


@pytest.mark.parametrize("steps", [1, 4, 11])
def test_the_number_of_steps_is_kept(steps: int) -> None:
    """By an untrained model, which knows no end, and past the context."""
    model = director(max_context=3, sampling={"max_action_tokens": 4, "max_caption_tokens": 4})
    planned = list(model.plan("How to cook rice?", steps=steps))
    assert len(planned) == steps


def test_given_steps_stand_and_the_rest_is_written() -> None:
    model = director(sampling={"max_action_tokens": 4, "max_caption_tokens": 6})
    known = torch.full((2, 8), 3.0)
    given = [Step(action="cut", caption="", state=known), Step(action="fry", caption="a pan")]
    planned = list(model.plan("How to cook rice?", steps=3, given=given))
    assert [step.action for step in planned][:2] == ["cut", "fry"]
    assert planned[1].caption == "a pan"
    assert planned[0].state is not None and torch.equal(planned[0].state, known)
    other = [Step(action="cut", caption=planned[0].caption, state=-known), given[1]]
    again = list(model.plan("How to cook rice?", steps=3, given=other))
    assert planned[1].state is not None and again[1].state is not None
    assert not torch.allclose(planned[1].state, again[1].state)


SENTENCES = {"sentences": "minilm", "order_weight": 0.5, "memory": 6}


@pytest.mark.parametrize("text_weight", [0.0, 1.0])
@pytest.mark.parametrize("max_context", [8, 3])
def test_with_a_memory_planning_is_predicting(text_weight: float, max_context: int) -> None:
    """Also where states are given that differ from the predictions, whose difference is carried on."""
    options = SENTENCES | {"text_weight": text_weight, "max_context": max_context}
    model = director(**options, sampling={"max_state_cosine": 1.0})
    model.prepare([row(number, 3 + number % 3) for number in range(4)], {})
    nn.init.normal_(model.gather.leave.weight)
    story = story_of(row(3, 5))
    (found,) = model.predict([story], history="true")
    for number in range(5):
        given = [
            *story.steps[:number],
            Step(action=story.steps[number].action, caption=story.steps[number].caption),
        ]
        *_, last = islice(model.plan(story.goal, given=given), number + 1)
        assert last.state is not None
        torch.testing.assert_close(STATISTICS.standardise(last.state), found[number], rtol=1e-4, atol=1e-5)


def test_the_order_of_a_story_is_told_from_its_own_states_alone() -> None:
    """Neighbours in the batch are no alternatives: the loss is the same without them."""
    model = director(**SENTENCES, min_context=4, max_context=4)
    rows = [row(0, 4), row(1, 4)]
    model.prepare(rows, {})
    together = model(model.collate(rows, [1, 2]))["order"]
    alone = model(model.collate(rows[:1], [1]))["order"]
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_a_director_that_learns_no_words_says_so() -> None:
    model = director(**SENTENCES | {"text_weight": 0.0})
    with pytest.raises(ConfigError, match="text_weight"):
        next(model.plan("How to cook rice?"))


def test_sampling_is_a_function_of_the_seed() -> None:
    model = director(sampling={"temperature": 1.0, "max_action_tokens": 12, "max_caption_tokens": 4})

    def actions(seed: int) -> list[str]:
        return [step.action for step in model.plan("How to cook rice?", steps=3, seed=seed)]

    assert actions(1) == actions(1)
    assert actions(1) != actions(2)


def test_a_repeated_action_is_written_anew() -> None:
    """A model that knows one action only, and greedily says it again, is made to say something else."""
    rows = [row(0, 4) | {"actions": ["a b c"] * 4, "captions": [""] * 4}]
    stubborn = {"min_context": 4, "max_context": 4, "chain": ("action",), "alpha": 0, "beta": 0}
    loose, strict = (director(**stubborn, sampling={"max_text_overlap": limit}) for limit in (1.0, 0.7))
    fit(loose.train(), rows, steps=60, lr=5e-3)
    strict.load_state_dict(loose.state_dict())
    for model, repeats in ((loose, True), (strict, False)):
        planned = [step.action for step in model.eval().plan(rows[0]["goal"], steps=4)]
        assert (planned == ["a b c"] * 4) == repeats


def test_states_are_kept_apart() -> None:
    one, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.5]])
    moved = apart(one, other, 0.9)
    assert F.cosine_similarity(moved.flatten(), other.flatten(), dim=0) == pytest.approx(0.9, abs=1e-5)
    assert moved.norm() == pytest.approx(5.0, abs=1e-5)
    assert torch.equal(apart(one, torch.tensor([[-4.0, 3.0]]), 0.9), one)
    assert torch.equal(apart(one, one, 0.9), one)


def test_overlap_counts_the_words_of_the_new_text() -> None:
    assert overlap("Cut the bread", "cut the bread thinly") == 1.0
    assert overlap("cut the bread thinly", "cut the bread") == 0.75
    assert overlap("", "cut") == 0.0


def test_adapters_alone_are_trained(tmp_path: Path) -> None:
    model = director(backbone=SMALL.model_copy(update={"train": "lora"}))
    names = {name for name, each in model.named_parameters() if each.requires_grad and "model." in name}
    assert names
    assert all("lora_" in name for name in names)
    kept = {name: each.clone() for name, each in model.named_parameters() if not each.requires_grad}
    losses = fit(model.train(), [row(0, 3)], steps=10, lr=5e-3)
    assert losses[-1] < losses[0]
    assert all(torch.equal(each, kept[name]) for name, each in model.named_parameters() if name in kept)


def tiny_qwen(folder: Path) -> None:
    sizes = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    }  # fmt: skip
    torch.manual_seed(1)
    Qwen3ForCausalLM(Qwen3Config(**sizes)).save_pretrained(folder)
    words_tokenizer(folder)


def tiny_qwen_vl(folder: Path) -> None:
    text = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}
    torch.manual_seed(1)
    made = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
    made.save_pretrained(folder)
    words_tokenizer(folder)


@pytest.mark.parametrize("make", [tiny_qwen, tiny_qwen_vl])
@pytest.mark.parametrize("train", ["full", "lora"])
def test_language_models_of_the_real_classes(tmp_path: Path, make: Any, train: str) -> None:
    make(tmp_path)
    backbone = config.Backbone(kind="pretrained", path=tmp_path, train=train)
    model = director(backbone=backbone)
    rows = [row(0, 3), row(1, 4)]
    losses = fit(model.train(), rows, steps=12, lr=5e-3)
    assert losses[-1] < losses[0]
    story = story_of(rows[1])
    (found,) = model.eval().predict([story], history="own")
    again = director(backbone=backbone)
    assert not torch.allclose(found, again.predict([story], history="own")[0])
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    safetensors.torch.save_file({name: each.detach() for name, each in trained.items()}, tmp_path / "t")
    missing = again.load_state_dict(safetensors.torch.load_file(tmp_path / "t"), strict=False)
    assert not missing.unexpected_keys
    assert torch.equal(found, again.predict([story], history="own")[0])
    steps = [step.action for step in model.plan("How to make dish 1?", steps=2)]
    assert len(steps) == 2


@pytest.mark.parametrize("file", sorted(config.RECIPES.glob("director-*.yaml")), ids=lambda file: file.stem)
def test_ready_recipes_load(file: Path) -> None:
    recipe = load(file, (), config.Recipe).config
    assert recipe.director != config.DirectorSettings()
