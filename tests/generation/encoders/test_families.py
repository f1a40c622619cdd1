"""Every family encodes and decodes with real classes; what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxPipeline,
    FluxPriorReduxPipeline,
    StableDiffusionXLPipeline,
    StableUnCLIPImg2ImgPipeline,
)
from transformers import CLIPVisionModelWithProjection

from generation.config import State
from generation.core.states import Pictures, StateDecoder, StateEncoder, Statistics
from generation.encoders import clip_sdxl, siglip_flux
from generation.encoders.clip import clip_processor
from generation.encoders.factory import load_decoder, load_encoder
from generation.encoders.pictures import from_network, square, to_network
from pipeline.platform.config import ConfigError
from tests.support.tiny_states import autoencoder, save_flux, save_sdxl, save_unclip, save_wan

FAMILIES: dict[str, dict[str, Any]] = {
    "clip_unclip": {"tokens": 1, "width": 16, "picture_px": 32, "sample_steps": 2},
    "clip_wan": {"tokens": 17, "width": 32, "picture_px": 32, "sample_steps": 2},
    "clip_sdxl": {"tokens": 17, "width": 32, "picture_px": 32, "sample_steps": 2},
    "siglip_flux": {"tokens": 16, "width": 32, "picture_px": 32, "sample_steps": 2},
    "vae": {"tokens": 64, "width": 4, "picture_px": 16},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    unclip, wan = save_unclip(root / "unclip"), save_wan(root / "wan")
    (adapter, sdxl), (redux, flux) = save_sdxl(root), save_flux(root)
    return {"clip_unclip": unclip, "clip_wan": wan, "vae": unclip, "clip_vae": unclip,
            "clip_sdxl": adapter, "sdxl": sdxl, "siglip_flux": redux, "flux": flux}  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return np.random.default_rng(0).integers(0, 255, (3, 40, 60, 3), dtype=np.uint8)


def options(family: str, folders: dict[str, Path], **changes: Any) -> State:
    base = folders.get(family.partition("_")[2])
    given = {"family": family, "path": folders[family], "base": base, **FAMILIES[family]}
    return State.model_validate(given | changes)


def both(state: State) -> tuple[StateEncoder, StateDecoder]:
    return load_encoder(state), load_decoder(state, trained=None)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_become_states_and_states_pictures(
    family: str, folders: dict[str, Path], pictures: Pictures
) -> None:
    state = options(family, folders)
    encoder, decoder = both(state)
    z = encoder.encode(pictures)
    assert z.shape == (3, state.tokens, state.width) and z.dtype == torch.float32
    assert not torch.allclose(z[0], z[1])
    torch.testing.assert_close(encoder.encode(pictures[1:2])[0], z[1])
    painted = decoder.decode(z, seed=3)
    assert painted.shape == (3, state.picture_px, state.picture_px, 3) and painted.dtype == np.uint8
    assert (painted[0] != painted[1]).any()
    np.testing.assert_array_equal(decoder.decode(z[1:2], seed=3)[0], painted[1])
    assert (decoder.decode(z[1:2], seed=4)[0] == painted[1]).all() == (family == "vae")
    again, repeated = both(state)
    assert again.name == encoder.name
    np.testing.assert_array_equal(again.encode(pictures), z)
    np.testing.assert_array_equal(repeated.decode(z, seed=3), painted)


def test_unclip_paints_what_the_bare_pipeline_paints(folders: dict[str, Path], pictures: Pictures) -> None:
    encoder, decoder = both(options("clip_unclip", folders, guidance=7.0))
    z = encoder.encode(pictures[:1])
    pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(folders["clip_unclip"])
    pipeline.set_progress_bar_config(disable=True)
    pixels = pipeline.feature_extractor(images=list(pictures[:1]), return_tensors="pt").pixel_values
    torch.testing.assert_close(pipeline.image_encoder(pixels).image_embeds, z[0])
    image = pipeline(
        prompt="", image_embeds=z[0], height=32, width=32, num_inference_steps=2, guidance_scale=7.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    assert np.abs(np.asarray(image).astype(int) - decoder.decode(z, seed=5)[0]).max() <= 1


def test_sdxl_paints_what_the_bare_pipeline_paints_of_the_picture(
    folders: dict[str, Path], pictures: Pictures
) -> None:
    adapter = folders["clip_sdxl"]
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folders["sdxl"], feature_extractor=clip_processor(32),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(adapter, subfolder=clip_sdxl.ENCODER),
    )  # fmt: skip
    pipeline.load_ip_adapter(adapter, subfolder=clip_sdxl.ADAPTER_FOLDER, weight_name=clip_sdxl.ADAPTER)
    pipeline.set_progress_bar_config(disable=True)
    for guidance in (None, 1.0, 7.0):
        encoder, decoder = both(options("clip_sdxl", folders, guidance=guidance))
        chosen = {} if guidance is None else {"guidance_scale": guidance}
        image = pipeline(
            prompt="", ip_adapter_image=list(pictures[:1]), height=32, width=32, num_inference_steps=2,
            generator=torch.Generator().manual_seed(5), **chosen,
        ).images[0]  # fmt: skip
        painted = decoder.decode(encoder.encode(pictures[:1]), seed=5)[0]
        assert np.abs(np.asarray(image).astype(int) - painted).max() <= 1


def test_flux_paints_what_the_bare_pipelines_paint(folders: dict[str, Path], pictures: Pictures) -> None:
    encoder, decoder = both(options("siglip_flux", folders, guidance=2.5))
    centre = square(pictures[:1], 40)
    z = encoder.encode(pictures[:1])
    prior = FluxPriorReduxPipeline.from_pretrained(folders["siglip_flux"])
    with torch.no_grad():
        torch.testing.assert_close(prior.encode_image(list(centre), "cpu", 1), z)
        seen = prior.image_embedder(z).image_embeds
    pipeline = FluxPipeline.from_pretrained(folders["flux"], **siglip_flux.WITHOUT_TEXT)
    pipeline.set_progress_bar_config(disable=True)
    # The prior's own call makes zeros for the text encoders of the published size alone.
    image = pipeline(
        prompt_embeds=torch.cat([torch.zeros(1, 512, 16), seen], dim=1),
        pooled_prompt_embeds=torch.zeros(1, 32), height=32, width=32, num_inference_steps=2,
        guidance_scale=2.5, generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    assert np.abs(np.asarray(image).astype(int) - decoder.decode(z, seed=5)[0]).max() <= 1


def test_painters_refuse_states_of_another_width(folders: dict[str, Path]) -> None:
    for family in ("clip_unclip", "clip_sdxl", "siglip_flux"):
        with pytest.raises(ConfigError, match=r"state\.width is 31, .* want (16|32)"):
            load_decoder(options(family, folders, width=31), trained=None)


def test_vae_states_are_the_latents_and_come_back_as_diffusers_decodes_them(
    folders: dict[str, Path], pictures: Pictures
) -> None:
    encoder, decoder = both(options("vae", folders))
    vae = autoencoder().from_pretrained(folders["vae"], subfolder="vae")
    crops = square(pictures, 16)
    with torch.no_grad():
        latents = vae.encode(to_network(crops)).latent_dist.mode()
        expected = from_network(vae.decode(latents).sample)
    z = encoder.encode(pictures)
    torch.testing.assert_close(z[:, 9], latents[:, :, 1, 1])
    np.testing.assert_array_equal(decoder.decode(z, seed=0), expected)


@pytest.mark.parametrize("family", ["clip_wan", "clip_sdxl", "siglip_flux"])
def test_bfloat16_weights_still_give_float32_states(
    family: str, folders: dict[str, Path], pictures: Pictures
) -> None:
    exact = load_encoder(options(family, folders)).encode(pictures)
    half, decoder = both(options(family, folders, dtype="bfloat16"))
    z = half.encode(pictures)
    assert z.dtype == torch.float32 and not torch.equal(z, exact)
    torch.testing.assert_close(z, exact, atol=0.1, rtol=0.1)
    assert decoder.decode(z[:1], seed=0).shape == (1, 32, 32, 3)


def test_wan_reads_every_token_and_guidance_moves_the_picture(
    folders: dict[str, Path], pictures: Pictures
) -> None:
    encoder, decoder = both(options("clip_wan", folders))
    z = encoder.encode(pictures[:1])
    other = z.clone()
    other[0, -1] = -other[0, -1]
    plain = decoder.decode(z, seed=0)
    assert (decoder.decode(other, seed=0) != plain).any()
    strong = load_decoder(options("clip_wan", folders, guidance=5.0), trained=None)
    assert (strong.decode(z, seed=0) != plain).any()


@pytest.mark.parametrize("change", [{"tokens": 2}, {"width": 1024}])
def test_a_state_of_another_shape_is_refused_with_the_right_numbers(
    change: dict[str, int], folders: dict[str, Path]
) -> None:
    for family, right in FAMILIES.items():
        sizes = rf"state\.tokens and state\.width are .* gives {right['tokens']} and {right['width']}:"
        with pytest.raises(ConfigError, match=sizes):
            load_encoder(options(family, folders, **change))
    with pytest.raises(ConfigError, match=r"set state\.tokens=1 and state\.width=1280"):
        load_encoder(State.model_validate({"tokens": 1, "width": 64, **change}))


def test_sides_that_the_weights_cannot_divide_are_refused(folders: dict[str, Path]) -> None:
    for family, side, multiple in (("clip_unclip", 33, 2), ("clip_wan", 40, 16), ("clip_sdxl", 36, 8),
                                   ("siglip_flux", 34, 4), ("vae", 33, 2)):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"state\.picture_px is {side}.* multiple of {multiple}"):
            load_decoder(options(family, folders, picture_px=side), trained=None)


def test_families_without_weights_of_their_own_ask_for_a_trained_decoder(tmp_path: Path) -> None:
    for trained in (None, tmp_path):
        with pytest.raises(ConfigError, match="videoauteur train decoder"):
            load_decoder(State(), trained=trained)


def test_packaged_features_tell_pictures_apart_and_ignore_their_size() -> None:
    encoder = load_encoder(State())
    y, x = np.mgrid[:128, :128]
    rings = np.repeat(((np.hypot(y - 64, x - 64) // 8 % 2) * 255)[..., None], 3, 2).astype(np.uint8)
    stripes = np.stack([x // 16 % 2 * 255, y * 2, x * 0], 2).astype(np.uint8)
    z = encoder.encode(np.stack([rings, stripes]))
    large = encoder.encode(rings.repeat(3, 0).repeat(3, 1)[None])
    assert z.shape == (2, 1, 1280)
    likeness = torch.nn.functional.cosine_similarity(large.flatten(1), z.flatten(1))
    assert likeness[0] > 0.95 > likeness[1]


def test_statistics_are_exact_and_survive_the_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    states = torch.randn(50, 3, 4) * torch.tensor([1.0, 5, 0.1, 0]) + 7
    statistics = Statistics.of(iter(states))
    torch.testing.assert_close(statistics.mean, states.mean(0))
    torch.testing.assert_close(statistics.std[:, :3], states.std(0, correction=0)[:, :3])
    assert (statistics.std[:, 3] == Statistics.MIN_STD).all()
    plain = statistics.standardise(states)[..., :3]
    torch.testing.assert_close(plain.mean(0), torch.zeros(3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.std(0, correction=0), torch.ones(3, 3))
    torch.testing.assert_close(statistics.restore(statistics.standardise(states)), states)
    statistics.save(tmp_path / "statistics.safetensors")
    loaded = Statistics.load(tmp_path / "statistics.safetensors")
    assert torch.equal(loaded.mean, statistics.mean) and torch.equal(loaded.std, statistics.std)
    with pytest.raises(ValueError, match="at least 2 states, found 1"):
        Statistics.of([states[0]])


def test_squares_are_central_and_pixels_come_back_unchanged() -> None:
    wide = np.zeros((1, 10, 30, 3), np.uint8)
    wide[:, :, 10:20] = np.random.default_rng(1).integers(0, 255, (10, 10, 3))
    np.testing.assert_array_equal(square(wide, 10), wide[:, :, 10:20])
    np.testing.assert_array_equal(
        square(wide.transpose(0, 2, 1, 3), 10), wide[:, :, 10:20].transpose(0, 2, 1, 3)
    )
    assert square(wide, 25).shape == (1, 25, 25, 3)
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    np.testing.assert_array_equal(from_network(to_network(levels)), levels)
