"""The generator learns, is conditioned, repeats itself by seed, and runs on the real Wan classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from generation import config
from generation.core import flow
from generation.core.learner import Row
from generation.core.states import Statistics
from generation.encoders.codecs import Videos
from generation.generator.model import GeneratorModel
from models.media import frames, open_media
from pipeline.platform.config import ConfigError

STATE = config.State(width=8)
CAPTION = "chop the onion"


def tiny(**options: Any) -> config.GeneratorSettings:
    """A clip of 3 frames, 8 x 12 pixels."""
    transformer = {"heads": 2, "head_width": 12, "layers": 1, "patch": (1, 4, 4)} | options.pop(
        "transformer", {}
    )
    sizes = {"frames": 3, "height_px": 8, "width_px": 12, "text": {"max_tokens": 6}, "sample_steps": 3}
    return config.GeneratorSettings.model_validate({**sizes, "transformer": transformer, **options})


def build(options: config.GeneratorSettings, state: config.State = STATE) -> GeneratorModel:
    torch.manual_seed(0)
    shape = (state.tokens, state.width)
    return GeneratorModel(options, state, Statistics(torch.full(shape, 2.0), torch.full(shape, 3.0)))


def row(model: GeneratorModel, seed: int, **tensors: Tensor) -> Row:
    """Return the row of a clip in a feature table."""
    generator = torch.Generator().manual_seed(seed)
    made = {
        "state": torch.randn(model.state.tokens, model.state.width, generator=generator) * 3 + 2,
        "latents": torch.rand(model.latent_shape, generator=generator) * 2 - 1,
        "text": torch.randn(4, model.text.width, generator=generator),
    }
    made |= tensors
    first = made["latents"][:, :1]
    made["known"] = torch.cat([first, torch.zeros_like(made["latents"][:, 1:])], dim=1)
    return {
        "clip_id": f"clip-{seed}",
        "caption": CAPTION,
        "tensors": save({k: v.contiguous() for k, v in made.items()}),
    }


def losses(model: GeneratorModel, rows: list[Row], seeds: list[int]) -> Tensor:
    return model(model.collate(rows, seeds))["loss"]


def fit(model: GeneratorModel, rows: list[Row], *, steps: int, lr: float = 3e-3) -> None:
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    for step in range(steps):
        loss = losses(model, rows, [step * len(rows) + index for index in range(len(rows))]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def picture(level: int, count: int = 1) -> Videos:
    return np.full((count, 20, 20, 3), level, np.uint8)


def test_a_loss_is_a_function_of_row_and_seed() -> None:
    model = build(tiny(regulariser={"shuffle": 0}))
    rows = [row(model, seed) for seed in range(4)]
    for training in (True, False):
        model.train(training)
        together = losses(model, rows, [10, 11, 12, 13])
        assert together.shape == (4,)
        torch.testing.assert_close(losses(model, rows[2:3], [12]), together[2:3])
        torch.manual_seed(99)
        assert torch.equal(losses(model, rows, [10, 11, 12, 13]), together)
        assert not torch.equal(losses(model, rows, [20, 21, 22, 23]), together)


@pytest.mark.parametrize("state", [STATE, config.State(tokens=3, width=8)], ids=["pooled", "tokens"])
def test_weights_and_inputs_in_bfloat16_give_nearly_the_same_loss(state: config.State) -> None:
    """As sharded training runs: it casts both."""
    model = build(tiny(regulariser={"shuffle": 0}), state)
    batch = model.collate([row(model, seed) for seed in range(3)], [1, 2, 3])
    exact = model(batch)["loss"]
    half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in batch.items()}
    loss = model.bfloat16()(half)["loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)


def test_regulariser_and_dropped_conditions_belong_to_training() -> None:
    strong = build(tiny(regulariser={"noise": 5.0, "mask": 0.5}, drop_condition=0.5))
    plain = build(tiny(regulariser={"noise": 0, "mask": 0, "shuffle": 0}, drop_condition=0))
    rows, seeds = [row(plain, seed) for seed in range(8)], list(range(8))
    assert not torch.allclose(losses(strong.train(), rows, seeds), losses(plain.train(), rows, seeds))
    assert torch.equal(losses(strong.eval(), rows, seeds), losses(plain.eval(), rows, seeds))
    states = torch.randn(2, 1, 8)
    for model in (strong, plain):
        model.train()
    clips = [model.sample([CAPTION] * 2, states, seed=3) for model in (strong, plain)]
    assert np.array_equal(*clips)
    assert strong.training


@pytest.mark.parametrize("tokens", [1, 5])
def test_clips_learn_to_follow_their_states(tokens: int) -> None:
    """Two captions alike, two states apart, one bright and one dark clip."""
    state = config.State(tokens=tokens, width=8)
    model = build(tiny(regulariser={"noise": 0.1, "mask": 0, "shuffle": 0}, sample_steps=8), state)
    dark, bright = (torch.full(model.latent_shape, level) for level in (-0.8, 0.8))
    text, mask = (value[0] for value in model.text.encode([CAPTION]))
    rows = [
        row(model, seed, latents=latents, text=text[mask]) for seed, latents in ((0, dark), (1, bright))
    ] * 4
    raw = [model.collate(rows[index : index + 1], [0])["state"][0] for index in (0, 1)]
    before = losses(model.eval(), rows, list(range(8))).mean()
    fit(model.train(), rows, steps=120)
    assert losses(model.eval(), rows, list(range(8))).mean() < 0.5 * before
    # More guidance than training needs only widens the gap.
    clips = model.sample([CAPTION] * 2, torch.stack(raw), seed=5, guidance=1.0)
    swapped = model.sample([CAPTION] * 2, torch.stack(raw[::-1]), seed=5, guidance=1.0)
    assert clips.shape == (2, 3, 8, 12, 3) and clips.dtype == np.uint8
    assert clips[1].mean() > clips[0].mean() + 60
    assert swapped[0].mean() > swapped[1].mean() + 60


def test_a_clip_is_drawn_from_its_own_seed() -> None:
    model = build(tiny())
    states = torch.randn(3, 1, 8)
    clips = model.sample([CAPTION, "fry rice", "serve"], states, seed=7)
    assert np.array_equal(model.sample([CAPTION, "fry rice", "serve"], states, seed=7), clips)
    alone = model.sample(["fry rice"], states[1:2], seed=8)
    assert np.abs(alone[0].astype(int) - clips[1]).max() <= 1
    assert not np.array_equal(model.sample([CAPTION, "fry rice", "serve"], states, seed=8), clips)


def test_training_starts_from_the_base_model() -> None:
    model = build(tiny())
    states = torch.randn(2, 1, 8)
    clips = model.sample([CAPTION] * 2, states, seed=1, guidance=1.0)
    plain = build(tiny(condition="caption"))
    plain.load_state_dict(model.state_dict(), strict=False)
    assert np.array_equal(clips, plain.sample([CAPTION] * 2, None, seed=1, guidance=1.0))


def test_guidance_of_one_reads_the_condition_alone_and_zero_none_of_it() -> None:
    model = build(tiny())
    for name, parameter in model.named_parameters():
        if name.endswith("states.to_v.weight"):
            torch.nn.init.normal_(parameter)
    states, other = torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    unguided = [model.sample([CAPTION], z, seed=1, guidance=0.0) for z in (states, other)]
    assert np.array_equal(*unguided)
    once = [model.sample([CAPTION], z, seed=1, guidance=1.0) for z in (states, other)]
    assert not np.array_equal(*once)
    assert not np.array_equal(model.sample([CAPTION], states, seed=1, guidance=4.0), once[0])


def test_first_frames_are_held_and_the_rest_is_free() -> None:
    model = build(tiny())
    states = torch.randn(2, 1, 8)
    clips = model.sample([CAPTION] * 2, states, seed=1, first_frames=picture(200, 2))
    free = model.sample([CAPTION] * 2, states, seed=1)
    assert np.abs(clips[:, 0].astype(int) - 200).max() <= 1
    assert clips[:, 1:].std() > 5
    assert not np.array_equal(clips[:, 1:], free[:, 1:])


def test_key_frames_reach_the_transformer_and_decide_the_first_frame() -> None:
    model = build(tiny(condition="keyframe", sample_steps=10, text={"max_tokens": 6}))
    assert model.backbone.transformer.config.in_channels == 3 + 1 + 3
    rows = []
    for seed, level in enumerate((-0.8, 0.8, -0.4, 0.4)):
        rows.append(row(model, seed, latents=torch.full(model.latent_shape, level)))
    fit(model.train(), rows * 2, steps=120)
    clips = model.sample([CAPTION] * 2, None, seed=2, keyframes=np.concatenate([picture(30), picture(220)]))
    assert clips[1].mean() > clips[0].mean() + 60
    # The frame before takes the place of the key frame.
    chained = model.sample([CAPTION], None, seed=2, keyframes=picture(30), first_frames=picture(220))
    assert chained.mean() > clips[0].mean() + 60


def test_pictures_are_scaled_to_cover_and_cropped_in_the_middle() -> None:
    model = build(tiny(condition="keyframe"))
    tall = np.zeros((1, 60, 30, 3), np.uint8)
    tall[:, 20:40] = 255
    latents = model._known_latents(tall)
    assert latents.shape == (1, 3, 3, 8, 12)
    assert latents[:, :, 0].min() == 1 and latents[:, :, 1:].abs().max() == 0


def test_the_transformer_reads_noise_mask_and_first_frame_at_wan_s_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wan I2V's channels: noisy latents, then the mask (1 = known), then what is known."""
    model = build(tiny(condition="keyframe")).eval()
    batch = model.collate([row(model, 0), row(model, 1)], [5, 6])
    seen: dict[str, Tensor] = {}
    forward = model.backbone.transformer.forward

    def spy(**given: Any) -> Any:
        seen.update(given)
        return forward(**given)

    monkeypatch.setattr(model.backbone.transformer, "forward", spy)
    model(batch)
    t, latents = flow.sample_times([5, 6], shift=model.options.time_shift), batch["latents"]
    torch.testing.assert_close(seen["timestep"], t * 1000)
    noisy, mask, known = seen["hidden_states"].split([3, 1, 3], dim=1)
    torch.testing.assert_close(noisy, flow.interpolate(latents, flow.noise_like(latents, [5, 6]), t))
    assert bool((mask[:, :, 0] == 1).all()) and bool((mask[:, :, 1:] == 0).all())
    assert torch.equal(known[:, :, :1], latents[:, :, :1]) and bool((known[:, :, 1:] == 0).all())


def test_what_is_missing_is_named() -> None:
    model, keyed = build(tiny()), build(tiny(condition="keyframe"))
    with pytest.raises(ValueError, match=r"states: .* conditioned on visual states"):
        model.sample([CAPTION], None, seed=0)
    with pytest.raises(ValueError, match=r"keyframes: .* conditioned on key frames"):
        keyed.sample([CAPTION], None, seed=0)
    with pytest.raises(ValueError, match="2 captions need as many states, got 1"):
        model.sample([CAPTION] * 2, torch.zeros(1, 1, 8), seed=0)


def test_a_generator_of_captions_needs_nothing_else() -> None:
    model = build(tiny(condition="caption"))
    rows = [row(model, 0), row(model, 1)]
    losses(model, rows, [0, 1]).mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not np.array_equal(model.sample([CAPTION], None, seed=0), model.sample(["a car"], None, seed=0))


def test_features_of_another_recipe_are_refused() -> None:
    model = build(tiny())
    for tensors, message in (
        ({"latents": torch.zeros(3, 5, 8, 12)}, r"latents are \[3, 5, 8, 12\], .* wants \[3, 3, 8, 12\]"),
        ({"state": torch.zeros(1, 9)}, r"state are \[1, 9\], .* wants \[1, 8\]"),
        ({"text": torch.zeros(4, 7)}, r"hold 4 caption tokens of width 7, .* at most 6 of 384"),
        ({"text": torch.zeros(9, 384)}, r"hold 9 caption tokens of width 384, .* at most 6 of 384"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.collate([row(model, 0, **tensors)], [0])


def test_recipes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"generator\.height_px: 8 gives 8 .* patches of 3"):
        build(tiny(transformer={"patch": (1, 3, 4)}))
    with pytest.raises(ConfigError, match=r"regulariser\.shuffle_of: a state of one token"):
        build(tiny(regulariser={"shuffle_of": "tokens"}))
    build(tiny(regulariser={"shuffle_of": "tokens"}), config.State(tokens=2, width=8))
    alone = {"batch_size": 4, "lanes": 2, "accumulate": 2}
    with pytest.raises(ConfigError, match=r"shuffle_of: samples need at least two clips .* is 1"):
        build(tiny(train=alone))
    build(tiny(train=alone, regulariser={"shuffle": 0}))
    with pytest.raises(ValueError, match="lora adapts weights from a folder"):
        tiny(transformer={"train": "lora"})


def test_a_preview_shows_the_true_clip_beside_the_generated(tmp_path: Path) -> None:
    model = build(tiny())
    model.preview(
        [row(model, 0, latents=torch.full(model.latent_shape, 0.6)), row(model, 1)], tmp_path, seed=0
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip-0.mp4", "clip-1.mp4"]
    with open_media(tmp_path / "clip-0.mp4") as container:
        shown = [frame.picture.to_ndarray(format="rgb24") for frame in frames(container)]
    assert len(shown) == 3 and shown[0].shape == (8, 24, 3)
    assert abs(shown[1][:, :12].mean() - 204) < 12


# Wan's own classes, small, from folders.


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline's folder: vae, text_encoder, tokenizer, and transformers of both kinds."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wan")
    AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1, 0.0, -0.1, 0.2],
        latents_std=[0.5, 1.0, 2.0, 1.5],
    ).save_pretrained(folder / "vae")
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
    }
    WanTransformer3DModel(in_channels=4, **sizes).save_pretrained(folder / "transformer")
    WanTransformer3DModel(
        in_channels=4 + 4 + 4, image_dim=10, added_kv_proj_dim=24, **sizes
    ).save_pretrained(folder / "image_transformer")
    UMT5EncoderModel(
        UMT5Config(vocab_size=32, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    ).save_pretrained(folder / "text_encoder")
    raw = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 2, "chop": 3, "onion": 4}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        folder / "tokenizer"
    )
    return folder


def real(folder: Path, *, transformer: str = "transformer", **options: Any) -> config.GeneratorSettings:
    lora = {"train": "lora", "lora": {"rank": 2, "alpha": 4}} if options.pop("lora", False) else {}
    return config.GeneratorSettings.model_validate(
        {
            "transformer": {"path": folder / transformer, **lora, **options.pop("weights", {})},
            "codec": {"kind": "wan", "path": folder / "vae"},
            "text": {"kind": "pretrained", "path": folder / "text_encoder", "max_tokens": 8},
            "frames": 5,
            "height_px": 16,
            "width_px": 32,
            "sample_steps": 2,
            **options,
        }
    )


CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": True},
    "lora-bfloat16": {"lora": True, "weights": {"dtype": "bfloat16", "gradient_checkpointing": True}},
    "images-state": {"transformer": "image_transformer"},
    "images-keyframe-lora": {"transformer": "image_transformer", "condition": "keyframe", "lora": True},
    "images-caption": {"transformer": "image_transformer", "condition": "caption"},
}


@pytest.mark.parametrize("case", CASES)
def test_wan_trains_a_step_and_comes_back_from_its_trained_weights(
    case: str, wan: Path, tmp_path: Path
) -> None:
    options = real(wan, **CASES[case])
    state = config.State(tokens=3, width=10)
    model = build(options, state)
    assert model.latent_shape == (4, 2, 2, 4)
    base = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    assert bool(base) == (options.transformer.train == "lora")
    rows = [row(model, seed) for seed in range(2)]
    before = losses(model.eval(), rows, [0, 1]).mean()
    fit(model.train(), rows, steps=2)
    fit(model.train(), rows, steps=8)
    assert losses(model.eval(), rows, [0, 1]).mean() < before
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in base.items())

    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    assert all(value.dtype == torch.float32 for value in trained.values())
    save_file(trained, tmp_path / "model.safetensors")
    again = build(options, state)
    model._fill_constants()
    found = again.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    assert not found.unexpected_keys
    given = {"seed": 4, "keyframes": picture(90), "first_frames": None}
    clip = model.sample(["chop onion"], torch.ones(1, 3, 10), **given)
    assert clip.shape == (1, 5, 16, 32, 3)
    assert np.array_equal(again.sample(["chop onion"], torch.ones(1, 3, 10), **given), clip)


def test_an_untrained_adapter_leaves_wan_as_it_is(wan: Path) -> None:
    latents, tokens = torch.randn(1, 4, 2, 2, 4), torch.randn(1, 8, 16)
    outputs = []
    for lora in (True, False):
        transformer = build(real(wan, lora=lora)).eval().backbone.transformer
        with torch.no_grad():
            outputs.append(transformer(latents, torch.tensor([500.0]), tokens).sample)
    torch.testing.assert_close(*outputs)


def test_image_tokens_are_the_raw_states(wan: Path) -> None:
    """As the weights were trained; regularised in training, replaced where the condition is dropped."""
    model = build(real(wan, transformer="image_transformer"), config.State(tokens=3, width=10)).eval()
    batch = model.collate([row(model, 0)], [0])
    z = model._standardised(batch["state"])
    given = model._condition(batch["text"], batch["text_mask"], z, torch.tensor([False]), None)
    torch.testing.assert_close(given.images, batch["state"])
    absent = model._condition(batch["text"], batch["text_mask"], z, torch.tensor([True]), None)
    torch.testing.assert_close(absent.images, model.null_state.expand(1, 3, 10))


def test_weights_that_do_not_fit_the_recipe_are_refused(wan: Path, tmp_path: Path) -> None:
    state = config.State(tokens=3, width=10)
    with pytest.raises(ConfigError, match=r"keyframe needs a transformer that takes a first frame"):
        build(real(wan, condition="keyframe"), state)
    with pytest.raises(
        ConfigError, match=r"takes 4 and gives 4 channels; with this generator\.codec .* take 3"
    ):
        build(real(wan, codec={"kind": "pixels"}), state)
    with pytest.raises(ConfigError, match=r"state\.width: .* width 10, the states have 8"):
        build(real(wan, transformer="image_transformer"), STATE)
    with pytest.raises(ConfigError, match="without their order, so shuffling tokens would do nothing"):
        build(real(wan, transformer="image_transformer", regulariser={"shuffle_of": "tokens"}), state)
    with pytest.raises(ConfigError, match=r"generator\.frames: .* not 6; 5 would do"):
        build(real(wan, frames=6), state)
    with pytest.raises(ConfigError, match=rf"generator\.transformer\.path: {tmp_path} holds no config"):
        build(real(wan, weights={"path": tmp_path}), state)
