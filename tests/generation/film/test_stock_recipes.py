"""The shipped stock recipes, on tiny weights of the classes that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffusers.pipelines.hunyuan_video1_5.image_processor import HunyuanVideo15ImageProcessor
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from generation import config
from generation.config import RECIPES, Recipe, Stock
from generation.film.pipelines import LoadedPipeline, PipelineGenerator
from generation.film.stock import StockModels
from pipeline.platform.config import ConfigError, load
from tests.support import tiny_pipelines, tiny_stock

FILES = sorted(RECIPES.glob("stock-*.yaml"))
WEIGHTS: dict[str, Callable[[Path], Path]] = {
    "FLUX.1-Kontext-dev": tiny_pipelines.flux_kontext,
    "Qwen-Image": tiny_stock.qwen_image,
    "Qwen-Image-Edit-2509": tiny_stock.qwen_image_edit,
    "Wan2.2-TI2V-5B-Diffusers": tiny_stock.wan_ti2v,
    "Wan2.2-I2V-A14B-Diffusers": tiny_pipelines.wan_two_experts,
    "LTX-2": tiny_stock.ltx2,
    "HunyuanVideo-1.5-Diffusers-480p_i2v": tiny_stock.hunyuan15,
    "CogVideoX-5b-I2V": tiny_pipelines.cogvideox,
}
"""By the names of the folders on the hub, which the recipes keep."""
RULES = {
    "Wan2.2-TI2V-5B-Diffusers": (4, 32), "Wan2.2-I2V-A14B-Diffusers": (4, 16), "LTX-2": (8, 32),
    "HunyuanVideo-1.5-Diffusers-480p_i2v": (4, 16), "CogVideoX-5b-I2V": (4, 16),
}  # fmt: skip
"""Frame stride, and the number that divides the sides, of the published autoencoders and transformers."""
SMALL = {"HunyuanVideo-1.5-Diffusers-480p_i2v": (9, 16, 16), "CogVideoX-5b-I2V": (9, 16, 16)}
"""Frames, height and width that the tiny weights take; of the others (5, 32, 32)."""


def stock_of(file: Path, *settings: str) -> Stock:
    found = load(file, settings, Recipe).config.stock
    assert found is not None
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("weights")

    def save(name: str) -> Path:
        return folder / name if (folder / name).is_dir() else WEIGHTS[name](folder / name)

    return save


def test_every_family_has_a_recipe_and_there_is_one_for_eight_gpus() -> None:
    assert {stock_of(file).video.path.name for file in FILES} == RULES.keys()
    titles = [" ".join(file.read_text().split("\n#\n")[0].split()).lower() for file in FILES]
    assert sum("one gpu" in title for title in titles) == 4
    assert sum("eight gpus" in title for title in titles) == 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_asks_for_clips_that_its_weights_make(file: Path) -> None:
    video = stock_of(file).video
    stride, multiple = RULES[video.path.name]
    assert (video.frames - 1) % stride == 0
    assert video.height_px % multiple == 0 and video.width_px % multiple == 0


def test_hunyuan_chooses_the_size_that_its_recipe_states() -> None:
    video = stock_of(RECIPES / "stock-hunyuanvideo-1.5.yaml").video
    processor = HunyuanVideo15ImageProcessor(vae_scale_factor=16)
    found = processor.calculate_default_height_width(video.height_px, video.width_px, 640)
    assert found == (video.height_px, video.width_px)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_makes_key_frames_and_a_clip(
    file: Path, weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pictures to edit are otherwise read at a megapixel.
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 32 * 32)
    shipped = stock_of(file)
    parts = {"painter": shipped.painter, "editor": shipped.editor, "video": shipped.video}
    frames, height, width = SMALL.get(shipped.video.path.name, (5, 32, 32))
    small = {
        "stock.planner.base_url": "http://127.0.0.1:9/v1", "stock.planner.model": "m",
        "stock.video.frames": frames,
        "stock.video.height_px": height, "stock.video.width_px": width,
    }  # fmt: skip
    for name, part in parts.items():
        assert part is not None
        tiny = {"path": weights(part.path.name), "dtype": "float32", "steps": 2, "quantise": "none"}
        small |= {f"stock.{name}.{key}": value for key, value in tiny.items()}
    recipe = load(file, [f"{key}={value}" for key, value in small.items()], Recipe).config
    models = StockModels(recipe, tmp_path)
    painter, rendering = models.painter().painter, models.generator()
    assert painter is not None and rendering.fps == shipped.video.fps
    pictures = painter.paint(["chop", "stir", "serve"], known=[], hints=[], seed=0)
    assert pictures.shape == (3, height, width, 3)
    generator = rendering.generator
    assert isinstance(generator, PipelineGenerator)
    clip, sound = generator.render("chop", None, seed=0, keyframe=pictures[0], first_frame=None)
    assert clip.shape == (frames, height, width, 3) and clip.dtype == np.uint8
    assert (sound is not None) == (shipped.video.path.name == "LTX-2")


def test_a_class_for_text_alone_is_named_with_the_way_out(weights: Callable[[str], Path]) -> None:
    options = config.StockVideo(path=weights("LTX-2"), dtype="float32", frames=5, height_px=32, width_px=32)
    with pytest.raises(ConfigError, match=r"LTX2Pipeline does not render .* set stock\.video\.pipeline"):
        PipelineGenerator(LoadedPipeline(options, key="stock.video"), options)


def test_options_without_effect_are_refused(weights: Callable[[str], Path], tmp_path: Path) -> None:
    path = weights("Qwen-Image")
    with pytest.raises(ConfigError, match=r"no class NoSuchPipeline"):
        LoadedPipeline(config.Pipeline(path=path, pipeline="NoSuchPipeline"), key="stock.painter")
    options = config.Pipeline(path=weights("HunyuanVideo-1.5-Diffusers-480p_i2v"), guidance=3.0)
    assert LoadedPipeline(options, key="stock.video").pipeline.guider.guidance_scale == 3.0
