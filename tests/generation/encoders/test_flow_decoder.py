"""The decoder of our own: it learns, it paints what it is told, and it is found again on the disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from generation.config import Decoder, Recipe, State
from generation.core.learner import Row
from generation.core.states import Pictures, Statistics
from generation.encoders.factory import load_decoder, load_encoder
from generation.encoders.flow_decoder import FlowDecoder
from generation.encoders.pictures import square
from pipeline.platform.config import ConfigError
from tests.support.fitting import fit
from tests.support.tiny_states import save_unclip

SIDE = 8
COLOURS = ((220, 40, 40), (40, 200, 60), (40, 60, 220), (230, 220, 60))
SMALL = Decoder(channels=(32,), patch=2, sample_steps=6)


def plain_pictures(side: int = SIDE) -> Pictures:
    return np.stack([np.full((side, side, 3), colour, np.uint8) for colour in COLOURS])


def rows_of(pictures: Pictures, states: torch.Tensor) -> list[Row]:
    return [{"state": z, "keyframe": picture} for z, picture in zip(states, pictures, strict=True)]


def confusion(painted: Pictures, true: Pictures) -> np.ndarray:
    """Mean squared difference of each painted picture ``[i]`` from each true one ``[j]``."""
    difference = painted[:, None].astype(float) - true[None]
    return np.asarray((difference**2).mean(axis=(2, 3, 4)))


@pytest.fixture(scope="module")
def taught() -> tuple[FlowDecoder, list[Row], list[float], State]:
    """Trained on four plain colours, each with a state of its own."""
    torch.manual_seed(0)
    state = State(tokens=2, width=8, picture_px=SIDE)
    states = 3 + 5 * torch.randn(len(COLOURS), 2, 8)
    rows = rows_of(plain_pictures(), states) * 2
    decoder = FlowDecoder(SMALL, state, Statistics.of(states))
    return decoder, rows, fit(decoder, rows, steps=80, lr=3e-3), state


def test_training_lowers_the_loss_and_states_are_told_apart(
    taught: tuple[FlowDecoder, list[Row], list[float], State],
) -> None:
    decoder, rows, losses, _ = taught
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    states = torch.stack([row["state"] for row in rows[:4]])
    painted = decoder.decode(states, seed=1)
    assert painted.shape == (4, SIDE, SIDE, 3) and painted.dtype == np.uint8
    assert confusion(painted, plain_pictures()).argmin(axis=1).tolist() == [0, 1, 2, 3]


def test_a_picture_depends_on_state_and_seed_alone(
    taught: tuple[FlowDecoder, list[Row], list[float], State],
) -> None:
    decoder, rows, _, _ = taught
    states = torch.stack([row["state"] for row in rows[:4]])
    painted = decoder.decode(states, seed=1)
    np.testing.assert_array_equal(decoder.decode(states, seed=1), painted)
    alone = decoder.decode(states[2:3], seed=1)[0].astype(int)
    assert np.abs(alone - painted[2]).max() <= 1
    assert (decoder.decode(states, seed=2) != painted).any()


def test_a_loss_does_not_depend_on_the_rest_of_the_batch(
    taught: tuple[FlowDecoder, list[Row], list[float], State],
) -> None:
    decoder, rows, _, _ = taught
    with torch.no_grad():
        whole = decoder(decoder.collate(rows[:4], [5, 6, 7, 8]))["loss"]
        single = decoder(decoder.collate(rows[2:3], [7]))["loss"]
    assert whole.shape == (4,)
    torch.testing.assert_close(whole[2:3], single)


def test_a_dropped_state_says_nothing_and_a_kept_one_does(
    taught: tuple[FlowDecoder, list[Row], list[float], State],
) -> None:
    decoder, rows, _, _ = taught
    batch = decoder.collate(rows[:4], range(4))
    other = {**batch, "state": batch["state"].flip(0)}
    with torch.no_grad():
        for keep in (False, True):
            kept = torch.full((4,), keep)
            same = torch.equal(
                decoder({**batch, "keep": kept})["loss"], decoder({**other, "keep": kept})["loss"]
            )
            assert same != keep


def test_the_share_of_dropped_states_is_the_option(
    taught: tuple[FlowDecoder, list[Row], list[float], State],
) -> None:
    decoder, rows, _, _ = taught
    keep = decoder.collate(rows[:1] * 2000, range(2000))["keep"]
    assert 1 - keep.float().mean().item() == pytest.approx(decoder.options.drop_state, abs=0.03)


def test_guidance_of_one_asks_the_network_once(
    taught: tuple[FlowDecoder, list[Row], list[float], State], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, rows, _, _ = taught
    sizes: list[int] = []
    handle = decoder.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    states = torch.stack([row["state"] for row in rows[:3]])
    for guidance, each in ((1.0, 3), (2.0, 6)):
        sizes.clear()
        monkeypatch.setattr(decoder, "options", SMALL.model_copy(update={"guidance": guidance}))
        decoder.decode(states, seed=0)
        assert sizes == [each] * SMALL.sample_steps
    handle.remove()


def test_the_preview_shows_true_and_painted_side_by_side(
    taught: tuple[FlowDecoder, list[Row], list[float], State], tmp_path: Path
) -> None:
    decoder, rows, _, _ = taught
    decoder.preview(rows[:3], tmp_path, seed=4)
    sheet = cv2.imread(str(tmp_path / "pictures.png"))[..., ::-1]
    assert sheet.shape == (2 * SIDE, 2 * 2 * SIDE, 3)
    painted = decoder.decode(torch.stack([row["state"] for row in rows[:3]]), seed=4)
    for i, (line, column) in enumerate(((0, 0), (0, 1), (1, 0))):
        pair = sheet[line * SIDE : (line + 1) * SIDE, column * 2 * SIDE : (column + 1) * 2 * SIDE]
        np.testing.assert_array_equal(pair, np.concatenate([rows[i]["keyframe"], painted[i]], axis=1))


def save(folder: Path, decoder: FlowDecoder, recipe: Recipe) -> None:
    """Save the trained parameters only, as a training run does."""
    folder.mkdir()
    trained = {name: p.detach() for name, p in decoder.named_parameters() if p.requires_grad}
    save_file(trained, folder / "model.safetensors")
    decoder.statistics.save(folder / "statistics.safetensors")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")


def test_a_saved_decoder_paints_the_same(
    taught: tuple[FlowDecoder, list[Row], list[float], State], tmp_path: Path
) -> None:
    decoder, rows, _, state = taught
    save(tmp_path / "decoder", decoder, Recipe(state=state, decoder=SMALL))
    states = torch.stack([row["state"] for row in rows[:2]])
    loaded = load_decoder(state, trained=tmp_path / "decoder")
    np.testing.assert_array_equal(loaded.decode(states, seed=9), decoder.decode(states, seed=9))
    with pytest.raises(ConfigError, match=r"state\.picture_px=8, the recipe says 32"):
        load_decoder(state.model_copy(update={"picture_px": 32}), trained=tmp_path / "decoder")
    partial = {name: p.detach() for name, p in decoder.named_parameters() if not name.startswith("project")}
    save_file(partial, tmp_path / "decoder" / "model.safetensors")
    with pytest.raises(ConfigError, match="not of the decoder that recipe"):
        load_decoder(state, trained=tmp_path / "decoder")


def test_clip_conditioned_diffusion_in_vae_latents(tmp_path: Path) -> None:
    """The hybrid: CLIP's states, pictures out of an autoencoder that is neither trained nor saved."""
    folder = save_unclip(tmp_path / "unclip")
    state = State(family="clip_vae", path=folder, tokens=1, width=16, picture_px=SIDE)
    pictures = np.stack([np.full((40, 40, 3), level, np.uint8) for level in (0, 255)])
    states = load_encoder(state).encode(pictures)
    torch.manual_seed(0)
    decoder = FlowDecoder(SMALL, state, Statistics.of(states))
    assert decoder.vae is not None
    before = {name: value.clone() for name, value in decoder.vae.state_dict().items()}
    rows = rows_of(square(pictures, SIDE), states) * 4
    losses = fit(decoder, rows, steps=40, lr=3e-3)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert all(torch.equal(value, before[name]) for name, value in decoder.vae.state_dict().items())
    save(tmp_path / "decoder", decoder, Recipe(state=state, decoder=SMALL))
    painted = load_decoder(state, trained=tmp_path / "decoder").decode(states, seed=0)
    np.testing.assert_array_equal(painted, decoder.decode(states, seed=0))
    there_and_back = load_decoder(state.model_copy(update={"family": "vae"}), trained=None)
    latents = load_encoder(State(family="vae", path=folder, tokens=16, width=4, picture_px=SIDE)).encode(
        pictures
    )
    assert confusion(painted, there_and_back.decode(latents, seed=0)).argmin(axis=1).tolist() == [0, 1]


def test_wrong_sizes_are_named() -> None:
    good = Statistics(torch.zeros(1, 8), torch.ones(1, 8))
    state = State(tokens=1, width=8, picture_px=16)
    with pytest.raises(ConfigError, match=r"states \[1, 8\], state\.tokens and state\.width are 1 and 9"):
        FlowDecoder(SMALL, state.model_copy(update={"width": 9}), good)
    with pytest.raises(ConfigError, match=r"decoder\.channels \[48\]: take multiples of 32"):
        FlowDecoder(Decoder(channels=(48,)), state, good)
    with pytest.raises(ConfigError, match=r"picture_px \(15\) must be a multiple of decoder\.patch"):
        FlowDecoder(SMALL, state.model_copy(update={"picture_px": 15}), good)
    with pytest.raises(ConfigError, match=r"3 levels, which needs sides that 4 divides.* gives 6"):
        FlowDecoder(
            Decoder(channels=(32, 32, 32), patch=2), state.model_copy(update={"picture_px": 12}), good
        )
    row = {"state": torch.zeros(1, 8), "keyframe": np.zeros((32, 32, 3), np.uint8)}
    with pytest.raises(ConfigError, match=r"key frames are 32 x 32, state\.picture_px is 16"):
        FlowDecoder(SMALL, state, good).collate([row], [0])
