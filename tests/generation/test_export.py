"""Adapters that were trained here, loaded by plain diffusers and peft: the same output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from generation import config
from generation.core.states import Statistics
from generation.director.model import DirectorModel
from generation.export import export_director, export_generator
from generation.generator.model import GeneratorModel
from tests.support.tiny_video import save_wan22, tokenizer

STATE = config.State(width=8)
STATISTICS = Statistics(torch.zeros(1, 8), torch.ones(1, 8))


def shake(model: torch.nn.Module) -> None:
    """As if trained: adapters and state branches start at zero."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)


def wan_generator(folder: Path, transformer: dict[str, Any]) -> GeneratorModel:
    """Return a generator on a saved Wan pipeline, its trained weights changed at random."""
    options = config.GeneratorSettings.model_validate({
        "transformer": {"path": folder / "transformer", **transformer},
        "codec": {"kind": "wan", "path": folder / "vae"},
        "text": {"kind": "pretrained", "path": folder / "text_encoder", "max_tokens": 8},
        "frames": 5, "height_px": 16, "width_px": 32,
    })  # fmt: skip
    model = GeneratorModel(options, STATE, STATISTICS).eval()
    shake(model)
    return model


@pytest.mark.parametrize("experts", [1, 2])
def test_diffusers_loads_a_generator_s_adapters(experts: int, tmp_path: Path) -> None:
    folder = save_wan22(tmp_path / "wan", experts=experts)
    model = wan_generator(folder, {"train": "lora", "lora": {"rank": 2, "alpha": 8}})
    written = export_generator(model, tmp_path / "out")

    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.load_lora_weights(written[0])
    if experts == 2:
        pipeline.load_lora_weights(written[1], load_into_transformer_2=True)
    noisy, time, text = torch.randn(1, 4, 2, 2, 4), torch.tensor([500.0]), torch.randn(1, 8, 16)
    for name, ours in model.backbone.transformers().items():
        theirs = getattr(pipeline, name).eval()
        with torch.no_grad():
            expected = ours(noisy, time, text).sample
            torch.testing.assert_close(theirs(noisy, time, text).sample, expected)


def test_a_generator_s_whole_transformer_is_the_base_class_s(tmp_path: Path) -> None:
    folder = save_wan22(tmp_path / "wan", experts=1)
    model = wan_generator(folder, {})
    (written,) = export_generator(model, tmp_path / "out")
    ours = model.backbone.transformers()["transformer"].state_dict()
    theirs = load_file(written / "diffusion_pytorch_model.safetensors")
    assert theirs.keys() == {name for name in ours if ".attn2.states." not in name}
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())


def test_peft_loads_a_director_s_adapter(tmp_path: Path) -> None:
    base = tmp_path / "qwen"
    Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8,
        )
    ).save_pretrained(base)  # fmt: skip
    tokenizer().save_pretrained(base)
    backbone = {"kind": "pretrained", "path": base, "train": "lora", "lora": {"rank": 2, "alpha": 8}}
    model = DirectorModel(
        config.DirectorSettings.model_validate({"backbone": backbone}), STATE, STATISTICS
    ).eval()
    shake(model)
    written = export_director(model, tmp_path / "out")

    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), written).eval()
    ids = torch.tensor([[3, 4, 2, 3]])
    with torch.no_grad():
        hidden = model.language.decoder(input_ids=ids).last_hidden_state
        expected = model.language.logits(hidden)
        torch.testing.assert_close(theirs(input_ids=ids).logits, expected)
