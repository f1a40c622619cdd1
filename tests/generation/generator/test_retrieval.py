"""Clips from training clips: the path, the modes, and their honest shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from generation import config
from generation.config import Recipe
from generation.core.learner import Row
from generation.core.states import Statistics
from generation.core.story import Step
from generation.encoders.codecs import DctCodec
from generation.encoders.colour import ColourEncoder, colours_of
from generation.film.make import make_film
from generation.film.parts import FilmModels
from generation.film.plan import Request
from generation.generator.retrieval import RetrievalGenerator, best_path
from generation.store import load_generator, save_learner
from tests.support.film_parts import Planner

WIDTH, FRAMES, PX = 8, 3, 16
STATE = config.State(tokens=1, width=WIDTH)
COLOURS = {"a": (220, 40, 30), "b": (40, 180, 60), "c": (30, 60, 200)}
TEXTS = {"a": "Cut the tomato.", "b": "Wash the salad.", "c": "Boil water in a pot."}


def options(retrieval: str) -> config.GeneratorSettings:
    return config.GeneratorSettings.model_validate(
        {"retrieval": retrieval, "codec": {"kind": "dct"},
         "frames": FRAMES, "height_px": PX, "width_px": PX,
         "blend": 0.9, "sample_steps": 4, "guidance": 1.0,
         "transformer": {"heads": 1, "head_width": 16, "layers": 1, "patch": [1, 1, 1]}}
    )  # fmt: skip


def clip_of(name: str) -> np.ndarray:
    video = np.full((FRAMES, PX, PX, 3), COLOURS[name], np.uint8)
    video[:, :8] //= 2
    return video


def state_of(name: str) -> torch.Tensor:
    return torch.eye(WIDTH)["abc".index(name)][None]


def rows() -> list[Row]:
    codec = DctCodec()
    return [
        {"clip_id": f"v{place // 2}-{name}", "video_id": f"v{place // 2}", "action": TEXTS[name],
         "caption": "",
         "tensors": save({"state": state_of(name), "latents": codec.encode(clip_of(name))})}
        for place, name in enumerate("abc")
    ]  # fmt: skip


def generator(retrieval: str) -> RetrievalGenerator:
    torch.manual_seed(0)
    statistics = Statistics(torch.zeros(1, WIDTH), torch.ones(1, WIDTH))
    made = RetrievalGenerator(options(retrieval), STATE, statistics)
    made.prepare(rows(), {})
    return made.eval()


def step(name: str) -> Step:
    return Step(action=TEXTS[name], caption="", state=state_of(name))


def test_retrieve_shows_the_training_clip_and_says_so() -> None:
    made = generator("retrieve")
    sources = made.retrieve([step("c"), step("a")])
    assert [(each.clip_id, each.video_id, each.share) for each in sources] == [
        ("v1-c", "v1", 1.0), ("v0-a", "v0", 1.0),
    ]  # fmt: skip
    assert [each.distance for each in sources] == pytest.approx([0, 0], abs=1e-6)
    shown = made.sample_from(sources[0], TEXTS["c"], None, seed=0).astype(int)
    assert np.abs(shown - clip_of("c")).max() <= 3
    assert np.array_equal(made.picture(sources[1]), made.sample_from(sources[1], "", None, seed=5)[1])


def test_blend_starts_from_the_source_and_generate_only_names_it() -> None:
    blend, free = generator("blend"), generator("generate")
    source = blend.retrieve([step("a")])[0]
    assert source.share == pytest.approx(0.9)
    near = blend.sample_from(source, TEXTS["a"], state_of("a"), seed=1).astype(int)
    named = free.retrieve([step("a")])[0]
    assert named.share == 0.0 and named.clip_id == source.clip_id
    far = free.sample_from(named, TEXTS["a"], state_of("a"), seed=1).astype(int)
    true = clip_of("a").astype(int)
    assert np.abs(near - true).mean() < np.abs(far - true).mean()


def test_the_path_stays_in_a_video_and_repeats_no_clip() -> None:
    videos = np.array(["x", "x", "y", "y"])
    # The second step fits two clips about equally: the one of the same video wins.
    match = np.array([[1.0, 0.0, 0.1, 0.0], [0.0, 0.5, 0.55, 0.0]], np.float32)
    assert best_path(match, videos) == [0, 1]
    # The same best clip twice: the second time the next best is shown.
    assert best_path(np.array([[1.0, 0.8, 0.0, 0.0]] * 2, np.float32), videos) in ([0, 1], [1, 0])


def test_saved_and_loaded_with_its_index(tmp_path: Path) -> None:
    made = generator("retrieve")
    save_learner(made, Recipe(state=STATE, generator=options("retrieve")), tmp_path / "generator")
    loaded = load_generator(tmp_path)
    assert isinstance(loaded, RetrievalGenerator)
    assert loaded.retrieve([step("b")]) == made.retrieve([step("b")])


def test_a_film_names_the_source_of_every_step(tmp_path: Path) -> None:
    class Known(Planner):
        def plan(self, goal, *, steps, given, seed):  # type: ignore[no-untyped-def]
            yield from (step(name) for name in "ab")

    made = generator("retrieve")
    models = FilmModels(director=Known(), generator=made, retriever=made, identity={"generator": "g"})
    result = make_film(Request(goal="How?"), models, tmp_path, options=config.Film(upscale_px=32))
    steps = json.loads((tmp_path / "plan.json").read_text())["steps"]
    assert [each["source"]["clip_id"] for each in steps] == ["v0-a", "v0-b"]
    assert all(each["source"]["share"] == 1.0 for each in steps)
    subtitles = (tmp_path / "film.srt").read_text()
    assert "retrieval-augmented: 100% of training clip v0-a, distance 0.00" in subtitles
    again = make_film(Request(goal="How?"), models, tmp_path, options=config.Film(upscale_px=32))
    assert result.made and again.made == ()


def test_cosine_codec_keeps_smooth_pictures_and_its_shape() -> None:
    codec = DctCodec()
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    video = np.stack([np.broadcast_to(ramp[:, None, None], (32, 32, 3))] * 2)
    latents = codec.encode(np.ascontiguousarray(video))
    assert latents.shape == (40, 2, 4, 4)
    assert np.abs(codec.decode(latents[None])[0].astype(int) - video).max() <= 3


def test_colour_states_tell_colours_apart() -> None:
    red, blue = (np.full((32, 32, 3), colour, np.uint8) for colour in ((200, 20, 20), (20, 20, 200)))
    assert ColourEncoder.width == 1580 and colours_of(red).shape == (300,)
    assert np.linalg.norm(colours_of(red)[:108] - colours_of(blue)[:108]) == pytest.approx(2**0.5)
