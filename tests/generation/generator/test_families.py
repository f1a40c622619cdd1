"""Wan 2.2's two experts and LTX-Video: trained, saved, loaded, and made to render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from generation import config
from generation.core.learner import Row
from generation.core.states import Statistics
from generation.generator.backbone import Condition
from generation.generator.model import GeneratorModel
from generation.generator.wan import WanBackbone
from tests.support.tiny_video import save_ltx, save_wan22

STATE = config.State(width=8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pipelines")
    return {"wan": save_wan22(folder / "wan"), "ltx": save_ltx(folder / "ltx")}


def build(folder: Path, codec: str, *, lora: bool, **options: Any) -> GeneratorModel:
    torch.manual_seed(0)
    adapters = {"train": "lora", "lora": {"rank": 2, "alpha": 4}} if lora else {}
    recipe = config.GeneratorSettings.model_validate({
        "transformer": {"path": folder / "transformer", **adapters},
        "codec": {"kind": codec, "path": folder / "vae"},
        "text": {"kind": "pretrained", "path": folder / "text_encoder", "max_tokens": 8},
        "frames": 5, "height_px": 16, "width_px": 32, "sample_steps": 3,
        **options,
    })  # fmt: skip
    return GeneratorModel(recipe, STATE, Statistics(torch.zeros(1, 8), torch.ones(1, 8)))


def rows(model: GeneratorModel) -> list[Row]:
    random = torch.Generator().manual_seed(1)
    found: list[Row] = []
    for number in range(4):
        latents = torch.randn(model.latent_shape, generator=random)
        tensors = {
            "latents": latents, "known": latents.clone(), "text": torch.randn(3, 16, generator=random),
            "state": torch.randn(1, 8, generator=random),
        }  # fmt: skip
        found.append({"clip_id": f"c{number}", "caption": "chop", "tensors": save(tensors)})
    return found


@pytest.mark.parametrize(
    ("family", "lora", "condition"),
    [("wan", True, "state"), ("wan", False, "state"), ("ltx", True, "state"), ("ltx", False, "keyframe")],
)
def test_a_family_trains_and_comes_back(
    family: str, lora: bool, condition: str, folders: dict[str, Path]
) -> None:
    model = build(folders[family], family, lora=lora, condition=condition)
    data, seeds = rows(model), list(range(4))
    model.prepare((), {})
    before = model.eval()(model.collate(data, seeds))["loss"].mean()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(10):
        loss = model.train()(model.collate(data, [step * 4 + seed for seed in seeds]))["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad), step
        optimiser.step()
    assert model.eval()(model.collate(data, seeds))["loss"].mean() < before
    again = build(folders[family], family, lora=lora, condition=condition)
    again.load_state_dict(model.kept(), strict=False)
    picture = np.full((1, 16, 32, 3), 90, np.uint8)
    clips = [
        each.sample(["chop"], torch.ones(1, 1, 8), seed=2, keyframes=picture) for each in (model, again)
    ]
    assert clips[0].shape == (1, 5, 16, 32, 3) and np.array_equal(*clips)


def test_each_expert_has_its_own_times(folders: dict[str, Path]) -> None:
    model = build(folders["wan"], "wan", lora=False)
    backbone = model.backbone
    assert isinstance(backbone, WanBackbone) and backbone.transformer_2 is not None
    noisy, t = torch.randn(2, *model.latent_shape), torch.tensor([0.9, 0.3])
    condition = Condition(text=torch.randn(2, 8, 16), mask=torch.ones(2, 8, dtype=torch.bool))
    with torch.no_grad():
        found = backbone.eval().velocity(noisy, t, condition, None)
        for row, expert in enumerate((backbone.transformer, backbone.transformer_2)):
            alone = expert(noisy[row : row + 1], t[row : row + 1] * 1000, condition.text[row : row + 1])
            torch.testing.assert_close(found[row], alone.sample[0])


def test_ltx_keeps_a_known_first_frame(folders: dict[str, Path]) -> None:
    model = build(folders["ltx"], "ltx", lora=False, condition="keyframe")
    picture = np.full((1, 16, 32, 3), 200, np.uint8)
    known = model.codec.encode_beginning(picture[0], model.options)
    latents = model.sample_latents(
        torch.zeros(1, 8, 16), torch.ones(1, 8, dtype=torch.bool), None, known[None], seeds=[0]
    )
    torch.testing.assert_close(latents[0, :, :1], known[:, :1], atol=1e-4, rtol=1e-4)
