"""A captioner of our own: examples are collected, a tiny vision-language model learns them, is saved."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from generation.captioner import tuning
from generation.captioner.conversation import IGNORED, Conversations, load_processor
from generation.captioner.tiny import save_tiny
from generation.captioner.tuning import base_model, load_captioner, train_captioner
from generation.config import Captioner, Lora, Recipe
from models.errors import EndpointError
from pipeline.captions.collect import Collected, NoExamplesError, collect
from pipeline.cli.main import main
from pipeline.curation.config import Config
from pipeline.dataset.examples import Examples, split_videos, write_part
from pipeline.platform.config import ConfigError, load
from stages.frames import packed_frames
from tests.support.captions import Story, Told, write_dataset
from tests.support.chat import ChatServer, Reply, completion
from tests.support.tiny_captioners import example

STEPS = 12
RECIPE = Captioner(
    lora=Lora(rank=8, targets=Recipe().captioner.lora.targets), frames=2, held_out=0.5, steps=STEPS,
    batch_size=2, lr=5e-3, warmup_steps=1, evaluate_every=6, checkpoint_every=6, trackers=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    write_part(folder / "part-00000.parquet", [example(number) for number in range(4)], "a test")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(examples: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MODELS/captioner."""
    recipe = RECIPE.model_copy(update={"model": str(base)})
    return train_captioner(examples, tmp_path_factory.mktemp("models"), recipe)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_only_the_answer_carries_loss(base: Path) -> None:
    conversations = Conversations(load_processor(base), frames=2)
    tokenizer = conversations.processor.tokenizer
    batch = conversations.collate([example(0), example(1, caption="Eggs."), example(2, frames=7)])
    told = [tokenizer.decode(labels[labels != IGNORED]) for labels in batch["labels"]]
    assert told[:2] == ['{"caption": "A cook cuts an onion."}<|im_end|>', '{"caption": "Eggs."}<|im_end|>']
    # Two pictures each, also of the seven; 4 patches of 28 pixels in each.
    pictures = batch["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert pictures.sum(1).tolist() == [8] * 3
    assert batch["image_grid_thw"].shape == (6, 3)
    assert batch["labels"][batch["attention_mask"] == 0].eq(IGNORED).all()
    asked = tokenizer.decode(batch["input_ids"][0][batch["labels"][0] == IGNORED])
    assert asked.startswith("<|im_start|>system\nDescribe the clip.<|im_end|>\n<|im_start|>user\n")
    assert "onion" not in asked


def test_loss_falls_and_is_told(trained: Path) -> None:
    told = lines(trained)
    losses = [line["loss"] for line in told if "loss" in line]
    held_out = [(line["step"], line["held_out_loss"]) for line in told if "held_out_loss" in line]
    assert len(losses) == STEPS and np.mean(losses[-3:]) < 0.7 * losses[0]
    # The captions differ, but their form is the same.
    assert [step for step, _ in held_out] == [0, 6, 12] and held_out[-1][1] < held_out[0][1]
    facts = json.loads((trained / "captioner.json").read_text())
    assert facts["held_out"] in (["v0"], ["v1"])


def test_adapter_and_merged_model_say_the_same_elsewhere(trained: Path, base: Path, examples: Path) -> None:
    conversations = Conversations(load_processor(base), frames=2)
    asked = example(3)
    captioner = load_captioner(trained)
    logits = logits_of(captioner, conversations, asked)
    said = conversations.says(captioner, asked, max_tokens=12)
    merged = AutoModelForImageTextToText.from_pretrained(trained / "merged")
    assert torch.allclose(logits_of(merged, conversations, asked), logits, atol=1e-4)
    plain = AutoModelForImageTextToText.from_pretrained(base)
    assert not torch.allclose(logits_of(plain, conversations, asked), logits, atol=0.1)
    # What a server needs lies beside the weights, and nothing that would be unpickled.
    assert {path.name for path in base.iterdir()} == {path.name for path in (trained / "merged").iterdir()}
    code = (
        "import sys; from pathlib import Path\n"
        "from generation.captioner.conversation import Conversations, load_processor\n"
        "from generation.captioner.tuning import load_captioner\n"
        "from pipeline.dataset.examples import Examples\n"
        "folder, examples = Path(sys.argv[1]), Examples(Path(sys.argv[2]))\n"
        "conversations = Conversations(load_processor(folder / 'merged'), frames=2)\n"
        "print(repr(conversations.says(load_captioner(folder), examples[3], max_tokens=12)))\n"
    )
    root = Path(__file__).parents[3]
    other = subprocess.run(
        [sys.executable, "-c", code, str(trained), str(examples)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert other.stdout.strip() == repr(said)


def logits_of(model: Any, conversations: Conversations, asked: dict[str, Any]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(**conversations.question(asked)).logits[0, -1]
    return logits


def test_a_killed_run_ends_as_if_it_had_not_been(
    trained: Path, examples: Path, base: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"model": str(base)})
    folder = tmp_path / "captioner"
    shutil.copytree(trained, folder)
    # As after a kill in the middle of the second checkpoint.
    shutil.rmtree(folder / "adapter")
    (folder / "checkpoints" / f"checkpoint-{STEPS}" / "trainer_state.json").unlink()
    train_captioner(examples, tmp_path, recipe)
    before = [line["loss"] for line in lines(trained) if "loss" in line]
    assert [line["loss"] for line in lines(folder) if "loss" in line] == pytest.approx(before, abs=1e-5)
    adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    train_captioner(examples, tmp_path, recipe)
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == adapter
    with pytest.raises(ConfigError, match=r"captioner.lr was 0.005, is 0.1"):
        train_captioner(examples, tmp_path, recipe.model_copy(update={"lr": 0.1}))


def test_an_error_in_the_examples_is_not_reported_as_one_of_the_options(
    examples: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise ValueError("the pictures do not fit the text")

    monkeypatch.setattr(Conversations, "collate", broken)
    with pytest.raises(ValueError, match="pictures do not fit") as caught:
        train_captioner(examples, tmp_path, RECIPE.model_copy(update={"model": str(base)}))
    assert not isinstance(caught.value, ConfigError)


def test_a_twin_whose_making_was_interrupted_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, *, seed: int) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tuning, "save_tiny", interrupted)
        base_model(RECIPE, tmp_path / "captioner")
    made = base_model(RECIPE, tmp_path / "captioner")
    assert (made / "model.safetensors").is_file()


def test_a_video_is_on_one_side() -> None:
    videos = [f"v{number}" for number in range(10)] * 3
    train_on, hold_out = split_videos(videos, 0.2, seed=1)
    assert len(hold_out) == 2 and sorted(train_on + hold_out) == sorted(set(videos))
    assert split_videos(reversed(videos), 0.2, seed=1) == (train_on, hold_out)
    assert split_videos(videos, 0.2, seed=2)[1] != hold_out
    assert split_videos(["v"], 0.0, seed=0) == (["v"], [])
    with pytest.raises(ConfigError, match="of 1 videos: none would be left"):
        split_videos(["v"], 0.1, seed=0)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[3] / "generation" / "recipes").glob("captioner-*")), ids=str
)
def test_ready_recipes_load(file: Path) -> None:
    recipe = load(file, (), Recipe).config.captioner
    assert recipe.model is not None and recipe.precision == "bf16"


def test_command_line_errors_name_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], examples: Path
) -> None:
    assert main(["train", "captioner", str(tmp_path), str(tmp_path / "m")]) == 2
    assert "run `videoauteur collect DATASET" in capsys.readouterr().err
    bad = ["--set", f"captioner.model={tmp_path}"]
    assert main(["train", "captioner", str(examples), str(tmp_path / "m"), *bad]) == 2
    assert f"captioner.model {tmp_path}: no model" in capsys.readouterr().err
    assert main(["collect", str(tmp_path), str(tmp_path / "e")]) == 2
    assert "name an OUTPUT of `curate`" in capsys.readouterr().err
    # Nothing serves a model for pictures from a text model alone.
    assert main(["collect", str(tmp_path), str(tmp_path / "e"), "--set", "caption.merge=true"]) == 2
    assert "caption.merge" in capsys.readouterr().err


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # No two clips look alike, or their questions would be one.
    stories: Story = {"a": [Told(caption=f"Caption {place}.") for place in range(6)]}
    return write_dataset(tmp_path_factory.mktemp("dataset") / "d", stories)


def gathered(
    dataset: Path, folder: Path, server: ChatServer | None, *settings: str, clips: int | None = None
) -> Collected:
    vision = [f"vision.base_url={server.base_url}", "vision.model=strong"] if server else []
    given = ["caption.frames=3", "caption.side_px=64", "vision.concurrency=1", *vision, *settings]
    return collect(dataset, folder, load(None, given, Config).config, clips=clips, seed=0)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("part-*")) for row in pq.read_table(file).to_pylist()]


def numbered(request: dict[str, Any]) -> Reply:
    """A caption that tells how many pictures came with the question."""
    pictures = sum(part["type"] == "image_url" for part in request["messages"][-1]["content"])
    return completion(json.dumps({"caption": f"A bowl with {pictures} eggs in it."}))


def test_examples_hold_question_pictures_and_answer(dataset: Path, tmp_path: Path) -> None:
    with ChatServer(numbered) as server:
        result = gathered(dataset, tmp_path, server)
    assert (result.examples, result.stopped, len(server.requests)) == (6, "", 6)
    assert [(total.stage, total.model, total.requests) for total in result.totals] == [
        ("collect", "strong", 6)
    ]
    rows = rows_in(tmp_path)
    assert {row["clip_id"] for row in rows} == {f"{'a' * 16}-c{number}" for number in range(6)}
    row, request = rows[0], server.requests[0]
    assert row["caption"] == "A bowl with 3 eggs in it." and row["model"] in ("m", "strong")
    system, user = request["messages"]
    assert (row["instructions"], row["material"]) == (system["content"], user["content"][-1]["text"])
    levels = [np.array(Image.open(io.BytesIO(jpeg)))[0, 0, ::-1] for jpeg in row["frames"]]
    grey = 20 * (int(row["clip_id"][-1]) + 1)
    # Packed pictures are blue: (255, grey, grey).
    assert len(levels) == 3 and np.allclose(levels, [(255, grey, grey)] * 3, atol=6)


def test_the_budget_stops_cleanly_and_nothing_is_paid_twice(dataset: Path, tmp_path: Path) -> None:
    with ChatServer(numbered) as server:
        first = gathered(dataset, tmp_path, server, "budget.max_requests=4")
        assert (first.examples, len(server.requests)) == (4, 4)
        assert "max_requests" in first.stopped
        again = gathered(dataset, tmp_path, server, "budget.max_requests=4")
        assert (again.examples, len(server.requests)) == (4, 4)
        whole = gathered(dataset, tmp_path, server, "budget.max_requests=6")
        assert (whole.examples, whole.stopped, len(server.requests)) == (6, "", 6)
        kept = rows_in(tmp_path)
        less = gathered(dataset, tmp_path, server, "budget.max_requests=6", clips=2)
        assert (less.examples, len(server.requests)) == (2, 6)
        assert rows_in(tmp_path) == kept[:2], "the sample of more clips holds that of fewer"
        asked = [json.dumps(request["messages"]) for request in server.requests]
        assert len(set(asked)) == len(asked)


def test_clips_without_a_usable_answer_are_counted(dataset: Path, tmp_path: Path) -> None:
    with (
        ChatServer(lambda request: completion(None, refusal="I cannot.")) as server,
        pytest.raises(NoExamplesError, match=r"none of 2 clips gave an example: refused \(2 clips\)"),
    ):
        gathered(dataset, tmp_path, server, clips=2)
    with (
        ChatServer(lambda request: Reply({"error": {"message": "no key"}}, 401)) as server,
        pytest.raises(EndpointError, match="api_key_env"),
    ):
        gathered(dataset, tmp_path, server)


def test_clips_whose_pictures_are_gone_are_counted(tmp_path: Path) -> None:
    stories: Story = {"a": [Told(caption="A pan.")], "b": [Told(caption="A pot.")]}
    folder = write_dataset(tmp_path / "d", stories)
    packed_frames(folder / "_work", "b" * 16).unlink()
    (folder / "media/b.mp4").unlink()
    found = gathered(folder, tmp_path / "e", None)
    assert found.examples == 1 and found.problems.total() == 1
    packed_frames(folder / "_work", "a" * 16).unlink()
    (folder / "media/a.mp4").unlink()
    for _ in range(2):
        with pytest.raises(NoExamplesError, match=r"none of 2 clips gave an example: .*\.mp4"):
            gathered(folder, tmp_path / "f", None)


def test_captions_of_the_dataset_cost_nothing(dataset: Path, tmp_path: Path) -> None:
    assert gathered(dataset, tmp_path, None).examples == 6
    said = {row["clip_id"]: (row["caption"], row["model"], len(row["frames"])) for row in rows_in(tmp_path)}
    assert said[f"{'a' * 16}-c2"] == ("Caption 2.", "secret", 3)


def test_examples_of_some_videos(examples: Path) -> None:
    assert [row["clip_id"] for row in Examples(examples)] == ["c0", "c1", "c2", "c3"]
    some = Examples(examples, ["v1"])
    assert [row["clip_id"] for row in some] == ["c1", "c3"] and some.video_ids == ["v1", "v1"]
