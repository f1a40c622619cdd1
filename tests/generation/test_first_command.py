"""Every shipped recipe, on tiny weights of the same classes: features to preview or film.

Features of the GPU recipes are made on a cluster with one logical GPU, as these ask for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import ray
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from generation.captioner.conversation import Conversations, load_processor
from generation.captioner.tuning import load_captioner, train_captioner
from generation.config import RECIPES, Features, Recipe
from generation.core.states import Picture
from generation.data.features import make_features
from generation.data.maker import Kind
from generation.data.narrated import FeatureError
from generation.data.ray_features import pool_size
from generation.data.reading import TRAIN, opener, read_rows
from generation.encoders.rolling import RollingDecoder
from generation.film.make import make_film
from generation.film.plan import Request
from generation.film.trained import TrainedModels, film_models
from generation.store import load_learner
from generation.training.job import train_model
from pipeline.dataset.examples import write_part
from pipeline.platform.config import load
from tests.support.narrated import counting_dataset
from tests.support.recipe_weights import FILES
from tests.support.tiny_captioners import example, save_qwen3_vl, save_qwen25_vl
from tests.support.tiny_states import PROJECTION, save_fill, save_flux, save_sdxl, save_unclip, save_wan
from tests.support.tiny_video import save_wan22, words_tokenizer

STEPS = 3
PACKAGED = ("director-closed", "director-small-data", "director-smollm2")
"""Directors whose weights come along; these are used as they are."""
CAPTIONERS = {"captioner-qwen2.5-vl-7b-lora": save_qwen25_vl, "captioner-qwen3-vl-8b-lora": save_qwen3_vl}
SHORT_RUN = {
    "steps": STEPS, "batch_size": 2, "lanes": 1, "accumulate": 1, "processes": 1, "fsdp": False,
    "num_gpus": 0, "preview_every": 0, "checkpoint_every": STEPS, "loader_workers": 0, "warmup_steps": 1,
    "trackers": "[]",
}  # fmt: skip
SHORT_TEXTS = {"director.sampling.max_action_tokens": 3, "director.sampling.max_caption_tokens": 3}
TINY_STATES = {
    "clip_unclip": ("unclip", None, 1, PROJECTION),
    "clip_wan": ("i2v", None, 17, 32),
    "clip_sdxl": ("ip-adapter", "sdxl", 17, 32),
    "siglip_flux": ("redux", "flux", 16, 32),
}
RENDERER = "decoder-flux.1-fill-lora-siglip"
"""Path, base, tokens and width of the states of each family."""
PAINTED_PAIRS = (
    ("director-qwen3-0.6b-ip-adapter", "generator-wan2.1-1.3b-lora-ip-adapter"),
    ("director-qwen3-8b-lora-siglip", "generator-wan2.1-14b-lora-siglip"),
)
OVER_RAY = {"director-qwen3-0.6b", "director-qwen3-vl-8b-lora", "generator-wan2.1-i2v-14b-lora"}
"""One recipe for each kind of feature: an actor takes seconds to start, and recipes share the kinds."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the recipes' /models."""
    folder = tmp_path_factory.mktemp("weights")
    save_unclip(folder / "unclip")
    save_wan22(folder / "t2v", experts=1)
    save_wan(folder / "i2v")
    save_sdxl(folder)
    save_flux(folder)
    save_fill(folder)
    for part in ("text_encoder", "tokenizer"):
        (folder / "i2v" / part).symlink_to(folder / "t2v" / part)
    sizes: dict[str, Any] = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8)).save_pretrained(folder / "qwen3")
    Qwen2ForCausalLM(Qwen2Config(**sizes)).save_pretrained(folder / "qwen2")
    for name in ("qwen3", "qwen2"):
        words_tokenizer(folder / name)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counting_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def one_gpu() -> Iterator[None]:
    """A cluster with four processors and a GPU that is only a number."""
    ray.init("local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def small(file: Path, weights: Path) -> Recipe:
    """A shipped recipe with tiny weights and sizes; what it asks of the cluster for features stays."""
    kind, shipped = file.name.partition("-")[0], load(file, [], Recipe).config
    path, base, tokens, width = TINY_STATES[shipped.state.family]
    state = {"path": weights / path, "tokens": tokens, "width": width, "picture_px": 32, "dtype": "float32"}
    if base is not None:
        state["base"] = weights / ("fill" if kind == "decoder" else base)
    changed = {f"state.{key}": value for key, value in state.items()}
    changed |= {f"{kind}.train.{key}": value for key, value in SHORT_RUN.items()}
    changed |= {"features.num_cpus": 1, "features.held_out": 0}
    if kind == "director":
        changed["director.backbone.path"] = weights / ("qwen2" if "2.5" in file.name else "qwen3")
        changed |= SHORT_TEXTS
    elif kind == "decoder":
        changed |= {"decoder.rolling.lora.rank": 2, "decoder.sample_steps": 1}
    else:
        folder = weights / ("i2v" if "i2v" in file.name else "t2v")
        changed |= {"generator.transformer.path": folder / "transformer",
                    "generator.codec.path": folder / "vae", "generator.text.path": folder / "text_encoder",
                    "generator.text.max_tokens": 8, "generator.frames": 5, "generator.height_px": 16,
                    "generator.width_px": 32, "generator.sample_steps": 2}  # fmt: skip
        if shipped.generator.transformer.train == "lora":
            changed["generator.transformer.lora.rank"] = 2
    return with_changes(file, changed)


def with_changes(file: Path, changed: dict[str, Any]) -> Recipe:
    return load(file, [f"{key}={value}" for key, value in changed.items()], Recipe).config


def test_no_shipped_recipe_is_left_out() -> None:
    covered = {file.stem for file in FILES} | {*PACKAGED, *CAPTIONERS, "embedded"}
    assert covered == {file.stem for file in RECIPES.glob("*.yaml") if not file.stem.startswith("stock-")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_goes_from_features_to_a_preview(
    file: Path, weights: Path, dataset: Path, one_gpu: None, tmp_path: Path
) -> None:
    recipe, kind = small(file, weights), file.name.partition("-")[0]
    assert recipe.features.num_gpus == 1
    runner: Literal["ray", "local"] = "ray" if file.stem in OVER_RAY else "local"
    features = make_features(kind, dataset, tmp_path, recipe, runner=runner)  # type: ignore[arg-type]
    folder = train_model(kind, dataset, tmp_path, recipe, runner="local")  # type: ignore[arg-type]
    assert trained_steps(folder) == [1, 2, 3]
    written = {"director": 1, "generator": 2, "decoder": 1}[kind]
    assert previewed(kind, tmp_path, features, recipe) == written  # type: ignore[arg-type]


def trained_steps(folder: Path) -> list[int]:
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


def previewed(kind: Kind, models: Path, features: Path, recipe: Recipe) -> int:
    """Load the model of a folder and let it preview two rows; return the number of files."""
    learner = load_learner(kind, models)
    folder = models / "preview"
    folder.mkdir()
    rows = map(opener(kind, features, recipe.decoder), list(read_rows(features, TRAIN))[:2])
    learner.preview(list(rows), folder, seed=0)
    return len(list(folder.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGED)
def test_a_director_of_packaged_weights_goes_from_features_to_a_preview(
    name: str, dataset: Path, tmp_path: Path
) -> None:
    run = {f"director.train.{key}": value for key, value in SHORT_RUN.items()}
    recipe = with_changes(RECIPES / f"{name}.yaml", run | SHORT_TEXTS | {"features.held_out": 0})
    features = make_features("director", dataset, tmp_path, recipe, runner="local")
    folder = train_model("director", dataset, tmp_path, recipe, runner="local")
    if recipe.director.kind == "language":
        assert trained_steps(folder) == [1, 2, 3]
    assert previewed("director", tmp_path, features, recipe) == 1


def test_the_embedded_recipe_goes_from_features_to_a_film(dataset: Path, tmp_path: Path) -> None:
    recipe = with_changes(RECIPES / "embedded.yaml", {"features.held_out": 0})
    for kind in ("director", "generator"):
        train_model(kind, dataset, tmp_path, recipe, runner="local")  # type: ignore[arg-type]
    assert_films(tmp_path)


@pytest.mark.parametrize("pair", PAINTED_PAIRS, ids=lambda pair: str(pair[0]))
def test_a_pair_films_with_the_painter_of_its_states(
    pair: tuple[str, str], weights: Path, dataset: Path, tmp_path: Path
) -> None:
    for name in pair:
        recipe, kind = small(RECIPES / f"{name}.yaml", weights), name.partition("-")[0]
        recipe = recipe.model_copy(update={"state": recipe.state.model_copy(update={"sample_steps": 1})})
        train_model(kind, dataset, tmp_path, recipe, runner="local")  # type: ignore[arg-type]
    assert_films(tmp_path)


def test_the_trained_renderer_paints_the_key_frames_of_its_pair(
    weights: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*PAINTED_PAIRS[1], RENDERER):
        recipe, kind = small(RECIPES / f"{name}.yaml", weights), name.partition("-")[0]
        train_model(kind, dataset, tmp_path, recipe, runner="local")  # type: ignore[arg-type]
    seen: list[int] = []
    decode_next = RollingDecoder.decode_next

    def noted(self: RollingDecoder, z: Tensor, earlier: Sequence[Picture], *, seed: int) -> Picture:
        seen.append(len(earlier))
        return decode_next(self, z, earlier, seed=seed)

    monkeypatch.setattr(RollingDecoder, "decode_next", noted)
    assert_films(tmp_path, steps=4)
    assert seen == [0, 1, 2, 2]


def assert_films(models: Path, steps: int = 2) -> None:
    """Make a film with the models of a folder."""
    trained = TrainedModels(models)
    parts = film_models(trained.director(), trained.painter(), trained.generator())
    options = trained.recipe().film
    film = make_film(
        Request(goal="How to make soup?", steps=steps), parts, models / "film", options=options
    )
    assert film.path.is_file() and len(film.plan.steps) == steps


@pytest.mark.parametrize("name", CAPTIONERS)
def test_a_captioner_goes_from_examples_to_an_answer(name: str, tmp_path: Path) -> None:
    write_part(tmp_path / "part-00000.parquet", [example(number) for number in range(4)], "a test")
    weights = CAPTIONERS[name](tmp_path / "base")
    short = {
        "model": weights, "held_out": 0.5, "steps": STEPS, "accumulate": 1, "warmup_steps": 1,
        "evaluate_every": STEPS, "checkpoint_every": STEPS, "loader_workers": 0, "trackers": "[]",
    }  # fmt: skip
    changed = {f"captioner.{key}": value for key, value in short.items()}
    options = with_changes(RECIPES / f"{name}.yaml", changed).captioner
    folder = train_captioner(tmp_path, tmp_path / "models", options)
    assert trained_steps(folder) == [1, 2, 3]
    conversations = Conversations(load_processor(weights), frames=2)
    assert conversations.says(load_captioner(folder), example(3), max_tokens=4)


def test_a_pool_fits_processors_and_gpus_or_is_refused() -> None:
    whole, share = Features(num_gpus=1), Features(num_gpus=0.4)
    assert pool_size(whole, {"CPU": 4, "GPU": 1}, 6) == 1
    assert pool_size(whole, {"CPU": 4, "GPU": 8}, 6) == 4
    assert pool_size(share, {"CPU": 8, "GPU": 2}, 9) == 4
    assert pool_size(Features(), {"CPU": 4, "GPU": 1}, 6) == 4
    with pytest.raises(FeatureError, match=r"1 GPUs, the cluster has 4 and 0: lower"):
        pool_size(whole, {"CPU": 4}, 6)
