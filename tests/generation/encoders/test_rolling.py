"""The rolling renderer: FLUX.1 Fill with adapters, states as text and earlier pictures in its grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline, FluxPriorReduxPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from generation.config import Decoder, Recipe, State
from generation.core.learner import Row
from generation.core.states import Pictures, Statistics
from generation.encoders.factory import load_decoder
from generation.encoders.geometry import StretchedDecoder
from generation.encoders.rolling import RollingDecoder
from generation.encoders.siglip_flux import WITHOUT_TEXT, ReduxDecoder
from generation.export import export_model
from generation.store import new_learner, save_learner
from pipeline.platform.config import ConfigError
from tests.support.tiny_states import save_fill, save_flux

PX, TOKENS, WIDTH = 16, 16, 32
STATISTICS = Statistics(torch.zeros(TOKENS, WIDTH), torch.ones(TOKENS, WIDTH))
OPTIONS = Decoder.model_validate({"sample_steps": 2, "rolling": {"memory": 2, "lora": {"rank": 2}}})


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    folder = tmp_path_factory.mktemp("weights")
    redux, _ = save_flux(folder)
    return State(
        family="siglip_flux", path=redux, base=save_fill(folder), tokens=TOKENS, width=WIDTH, picture_px=PX
    )


@pytest.fixture(scope="module")
def decoder(state: State) -> RollingDecoder:
    """Adapters that change the picture, as after training."""
    torch.manual_seed(2)
    made = RollingDecoder(OPTIONS, state, STATISTICS).eval()
    for parameter in made.kept().values():
        parameter.data = torch.randn_like(parameter) * 0.3
    return made


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return np.random.default_rng(0).integers(0, 255, (4, PX, PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def z() -> torch.Tensor:
    return torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(3))


def row_of(z: torch.Tensor, keyframe: np.ndarray, earlier: Pictures) -> Row:
    return {"state": z, "keyframe": keyframe, "earlier": torch.from_numpy(earlier)}


def test_a_picture_follows_its_state_and_the_pictures_before_it(
    decoder: RollingDecoder, pictures: Pictures, z: torch.Tensor
) -> None:
    plain = decoder.decode_next(z[0], pictures[:2], seed=1)
    assert plain.shape == (PX, PX, 3) and plain.dtype == np.uint8
    np.testing.assert_array_equal(decoder.decode_next(z[0], pictures[:2], seed=1), plain)
    for other in (
        decoder.decode_next(z[1], pictures[:2], seed=1),
        decoder.decode_next(z[0], pictures[[0, 2]], seed=1),
        decoder.decode_next(z[0], pictures[[1, 0]], seed=1),
        decoder.decode_next(z[0], pictures[1:2], seed=1),
        decoder.decode_next(z[0], (), seed=1),
        decoder.decode_next(z[0], pictures[:2], seed=2),
    ):
        assert (other != plain).any()
    np.testing.assert_array_equal(decoder.decode_next(z[0], pictures[[3, 0, 1]], seed=1), plain)
    np.testing.assert_array_equal(
        decoder.decode(z, seed=1), [decoder.decode_next(each, (), seed=1) for each in z]
    )


def test_a_saved_adapter_paints_the_same_in_bare_diffusers(
    decoder: RollingDecoder, state: State, pictures: Pictures, z: torch.Tensor, tmp_path: Path
) -> None:
    recipe = Recipe(state=state, decoder=OPTIONS)
    save_learner(decoder, recipe, tmp_path / "decoder")
    (folder,) = export_model(tmp_path, "decoder", tmp_path / "out")
    pipeline = FluxFillPipeline.from_pretrained(state.base, **WITHOUT_TEXT)
    pipeline.load_lora_weights(folder)
    pipeline.set_progress_bar_config(disable=True)
    prior = FluxPriorReduxPipeline.from_pretrained(state.path)
    with torch.no_grad():
        seen = prior.image_embedder(z[:1]).image_embeds
    grid = np.full((2 * PX, 2 * PX, 3), 127, np.uint8)
    grid[:PX, :PX], grid[:PX, PX:] = pictures[:2]
    mask = np.zeros((2 * PX, 2 * PX), np.uint8)
    mask[PX:, :PX] = 255
    image = pipeline(
        prompt_embeds=torch.cat([torch.zeros(1, 512, 16), seen], dim=1),
        pooled_prompt_embeds=torch.zeros(1, 32), image=Image.fromarray(grid),
        mask_image=Image.fromarray(mask), height=2 * PX, width=2 * PX, num_inference_steps=2,
        guidance_scale=30.0, generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    painted = decoder.decode_next(z[0], pictures[:2], seed=5)
    assert np.abs(np.asarray(image)[PX:, :PX].astype(int) - painted).max() <= 1
    untrained = RollingDecoder(OPTIONS, state, STATISTICS).decode_next(z[0], pictures[:2], seed=5)
    assert np.abs(untrained.astype(int) - painted).max() > 1
    loaded = load_decoder(state.model_copy(update={"picture_px": 32}), trained=tmp_path / "decoder")
    np.testing.assert_array_equal(loaded.decode_next(z[0], pictures[:2], seed=5), painted)


def test_training_shows_the_network_what_sampling_shows_it(
    decoder: RollingDecoder, pictures: Pictures, z: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pipeline draws from the autoencoder's posterior, training takes its mode.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    calls: list[dict[str, Any]] = []

    def note(module: Any, args: Any, given: dict[str, Any]) -> None:
        calls.append(given)

    hook = decoder.transformer.register_forward_pre_hook(note, with_kwargs=True)
    decoder.decode_next(z[0], pictures[:2], seed=5)
    batch = decoder.collate([row_of(z[0], pictures[3], pictures[:2])], [7])
    noise = torch.randn(batch["noise"].shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        decoder(batch | {"noise": noise, "time": torch.ones(1)})
    hook.remove()
    sampled, trained = calls[0], calls[-1]
    assert len(calls) == 3
    for name, value in trained.items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, sampled[name], atol=1e-5, rtol=1e-5)
    assert {name for name, value in trained.items() if torch.is_tensor(value)} >= {
        "hidden_states", "timestep", "guidance", "encoder_hidden_states", "txt_ids", "img_ids"
    }  # fmt: skip


def test_adapters_alone_learn_and_the_loss_reads_state_and_earlier_pictures(
    state: State, pictures: Pictures, z: torch.Tensor
) -> None:
    torch.manual_seed(4)
    decoder = RollingDecoder(OPTIONS, state, STATISTICS)
    rows = [row_of(z[0], pictures[3], pictures[:2]), row_of(z[1], pictures[2], pictures[:0])]
    batch = decoder.collate(rows, [1, 2])
    assert batch["mask"].float().mean(dim=(1, 2)).tolist() == [255 / 4, 255 / 4]
    frozen = {name: tensor.clone() for name, tensor in decoder.state_dict().items() if "lora_" not in name}
    optimiser = torch.optim.AdamW(decoder.kept().values(), lr=1e-2)
    losses = []
    for _ in range(20):
        found = decoder(batch)
        assert found["loss"].shape == found["cell"].shape == (2,)
        found["loss"].mean().backward()
        losses.append(found["loss"].mean().item())
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < 0.9 * losses[0]
    assert all("lora_" in name and value.dtype == torch.float32 for name, value in decoder.kept().items())
    after = decoder.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in frozen.items())
    with torch.no_grad():
        loss = decoder(batch)["cell"]
        for changed in (
            decoder.collate([row_of(z[1], pictures[3], pictures[:2]), rows[1]], [1, 2]),
            decoder.collate([row_of(z[0], pictures[3], pictures[[1, 0]]), rows[1]], [1, 2]),
        ):
            other = decoder(changed)["cell"]
            assert other[0] != loss[0]
            torch.testing.assert_close(other[1], loss[1])


def test_wide_pictures_are_squeezed_into_the_grid_and_stretched_again(
    decoder: RollingDecoder, pictures: Pictures, z: torch.Tensor
) -> None:
    wide = StretchedDecoder(decoder, 2.0)
    assert wide.memory == 2
    shown = pictures[:2].repeat(2, axis=2)
    painted = wide.decode_next(z[0], shown, seed=1)
    assert painted.shape == (PX, 2 * PX, 3)
    assert (painted != wide.decode_next(z[0], shown[::-1], seed=1)).any()


def test_bfloat16_weights_train_and_paint_nearly_as_float32_ones(
    state: State, pictures: Pictures, z: torch.Tensor
) -> None:
    found = {}
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(4)
        decoder = RollingDecoder(OPTIONS, state.model_copy(update={"dtype": dtype}), STATISTICS)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = decoder(decoder.collate([row_of(z[0], pictures[3], pictures[:2])], [1]))["loss"]
        loss.sum().backward()
        assert all(parameter.grad is not None for parameter in decoder.kept().values())
        found[dtype] = loss, decoder.decode_next(z[0], pictures[:2], seed=1).astype(int)
    torch.testing.assert_close(found["bfloat16"][0], found["float32"][0], atol=0, rtol=0.05)
    assert 0 < np.abs(found["bfloat16"][1] - found["float32"][1]).mean() < 8


def test_other_weights_and_sizes_are_refused_by_name(state: State, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"channels, that of FLUX\.1 Fill 48: set it"):
        dev = state.base.parent / "flux"  # type: ignore[union-attr]
        RollingDecoder(OPTIONS, state.model_copy(update={"base": dev}), STATISTICS)
    with pytest.raises(ConfigError, match=r"state\.picture_px is 18: .* multiple of 4"):
        RollingDecoder(OPTIONS, state.model_copy(update={"picture_px": 18}), STATISTICS)
    with pytest.raises(ConfigError, match=r"decoder\.rolling: .* siglip_flux alone"):
        new_learner(
            "decoder", Recipe(decoder=OPTIONS), Statistics(torch.zeros(1, 1280), torch.ones(1, 1280))
        )
    with pytest.raises(ConfigError, match=r"siglip_flux with decoder\.rolling"):
        new_learner("decoder", Recipe(state=state), STATISTICS)
    dev_state = state.model_copy(update={"base": state.base.parent / "flux"})  # type: ignore[union-attr]
    assert isinstance(load_decoder(dev_state, trained=tmp_path), ReduxDecoder)
