"""Key frames painted from captions, by tiny pipelines of the real classes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from generation import config
from generation.core.states import Picture
from generation.film.make import make_film
from generation.film.painting import RollingPainter, TextPainter, load_painter
from generation.film.parts import FilmModels
from generation.film.plan import Request
from generation.film.stills import read_picture
from pipeline.platform.config import ConfigError
from tests.support.film_parts import Decoder, Encoder, Planner, Renderer
from tests.support.tiny_states import autoencoder

PX = 16
OPTIONS = config.PainterSettings(picture_px=PX, dtype="float32", steps=2, guidance=1.0)


def save_pipeline(path: Path, *, kind: type[DiffusionPipeline], channels: int, safe: bool = True) -> Path:
    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz.:"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    text = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=37, num_hidden_layers=1,
        num_attention_heads=4, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    vocabulary = {token: place for place, token in enumerate(tokens)}
    kind(
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77),
        text_encoder=CLIPTextModel(text),
        unet=UNet2DConditionModel(
            sample_size=PX, in_channels=channels, out_channels=4, block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=(2, 4),
            cross_attention_dim=32, layers_per_block=1, norm_num_groups=8,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        vae=autoencoder(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(path, safe_serialization=safe)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    return save_pipeline(folder, kind=StableDiffusionPipeline, channels=4)


@pytest.fixture(scope="module")
def inpaint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inpaint")
    return save_pipeline(folder, kind=StableDiffusionInpaintPipeline, channels=9)


def flat(level: int) -> Picture:
    return np.full((PX, PX, 3), level, np.uint8)


def test_text_painter_follows_caption_and_seed(text_folder: Path) -> None:
    painter = load_painter(text_folder, OPTIONS)
    assert isinstance(painter, TextPainter)
    paint = lambda text, seed: painter.paint([text], known=[], hints=[], seed=seed)  # noqa: E731
    first = paint("a pan", 1)
    assert first.shape == (1, PX, PX, 3) and first.dtype == np.uint8
    assert np.array_equal(first, paint("a pan", 1))
    assert not np.array_equal(first, paint("a pan", 2))
    assert not np.array_equal(first, paint("a green bowl", 1))


def test_rolling_painter_sees_the_pictures_before(inpaint_folder: Path) -> None:
    painter = load_painter(inpaint_folder, OPTIONS)
    assert isinstance(painter, RollingPainter)
    captions = ["one", "two", "three", "four"]
    dark, light = (painter.paint(captions, known=[flat(level)] * 2, hints=[], seed=1) for level in (0, 255))
    assert dark.shape == (2, PX, PX, 3)
    assert not np.array_equal(dark, light)
    assert painter.paint(captions, known=[], hints=[], seed=1).shape[0] == 4
    # The end of a story fills no grid.
    assert painter.paint(captions[:3], known=[flat(9)] * 2, hints=[], seed=1).shape[0] == 1


def test_rolling_painter_lays_out_known_and_unknown_cells(
    inpaint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known scenes stand first and are not painted over; cells come back in the order of captions."""
    painter, seen = load_painter(inpaint_folder, OPTIONS), dict[str, Any]()

    def pipeline(self: Any, **inputs: Any) -> Any:
        seen.update(inputs)
        levels = np.repeat(np.repeat([[0.0, 0.2], [0.4, 0.6]], PX, 0), PX, 1)
        return type("Output", (), {"images": np.repeat(levels[None, :, :, None], 3, 3)})

    monkeypatch.setattr(StableDiffusionInpaintPipeline, "__call__", pipeline)
    painted = painter.paint(["one", "two", "three", "four"], known=[flat(7)], hints=[], seed=1)
    assert [int(picture.mean()) for picture in painted] == [51, 102, 153]
    mask, image = (np.asarray(seen[name]) for name in ("mask_image", "image"))
    assert (mask[:PX, :PX] == 0).all() and (mask[:PX, PX:] == 255).all() and (mask[PX:] == 255).all()
    assert (image[:PX, :PX] == 7).all()
    assert "top left: one" in seen["prompt"] and "bottom right: four" in seen["prompt"]


def test_rolling_painter_starts_from_what_the_director_imagined(inpaint_folder: Path) -> None:
    painter = load_painter(inpaint_folder, OPTIONS.model_copy(update={"strength": 0.6}))
    assert painter.uses_hints
    captions = ["one", "two"]
    dark, light = (
        painter.paint(captions, known=[flat(100)], hints=[flat(level)], seed=1) for level in (0, 255)
    )
    assert not np.array_equal(dark, light)


@pytest.mark.parametrize("kind", ["text", "inpaint"])
def test_a_film_with_painted_key_frames(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    painter = load_painter(request.getfixturevalue(f"{kind}_folder"), OPTIONS)

    def make(**more: Any) -> Any:
        log = Renderer()
        models = FilmModels(
            director=Planner(default=5), generator=log, decoder=Decoder(), encoder=Encoder(),
            painter=painter, identity={"painter": painter.identity},
        )  # fmt: skip
        request = Request(goal="How to make spring rolls?", **more)
        result = make_film(request, models, tmp_path, options=config.Film(upscale_px=32))
        return result, log

    result, _ = make()
    plan = json.loads((tmp_path / "plan.json").read_text())
    pictures = [read_picture((tmp_path / step["keyframe"]).read_bytes()) for step in plan["steps"]]
    assert len(pictures) == 5 and all(picture.shape == (PX, PX, 3) for picture in pictures)
    assert all(not np.array_equal(*pair) for pair in pairwise(pictures))
    assert (tmp_path / "states/step-05-seen.safetensors").is_file()
    assert make()[0].made == ()
    result, log = make(edit=(5, "Serve with soy sauce"))
    assert [step for made, step in result.made if made == "keyframe"] == [5]
    assert len(log.log) == 1


def test_folders_that_cannot_paint_are_refused(tmp_path: Path, text_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"--painter: .* holds no model_index\.json"):
        load_painter(tmp_path, OPTIONS)
    (tmp_path / "torn").mkdir()
    for text in ('{"_class_name": ', "[1]"):
        (tmp_path / "torn/model_index.json").write_text(text)
        with pytest.raises(ConfigError, match=r"--painter: .*torn/model_index\.json is damaged"):
            load_painter(tmp_path / "torn", OPTIONS)
    pickled = save_pipeline(tmp_path / "old", kind=StableDiffusionPipeline, channels=4, safe=False)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_painter(pickled, OPTIONS)
