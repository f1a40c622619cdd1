"""States of wide pictures hold what a clip shows: nothing of it is cut off, and nothing else is in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from generation.config import State
from generation.core.states import Pictures, StateDecoder, StateEncoder
from generation.encoders.factory import load_encoder, state_difference
from generation.encoders.geometry import SqueezedEncoder, StretchedDecoder
from generation.encoders.pictures import covering

WIDE = 16 / 9


class Pixels(StateEncoder, StateDecoder):
    """Squares as states, one number a pixel."""

    name, tokens, width, picture_px = "pixels", 1, 36 * 36, 36

    def encode(self, images: Pictures) -> Tensor:
        assert images.shape[1:3] == (36, 36)
        return torch.from_numpy(images[..., 0]).float().flatten(1)[:, None]

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        return z.view(-1, 36, 36, 1).expand(-1, -1, -1, 3).byte().numpy()


def test_a_wide_clip_comes_back_whole() -> None:
    columns = np.linspace(0, 255, 64).astype(np.uint8)
    film = np.broadcast_to(columns[None, :, None], (36, 64, 3))[None].copy()
    state = SqueezedEncoder(Pixels(), WIDE).encode(film)
    (picture,) = StretchedDecoder(Pixels(), WIDE).decode(state, seed=0)
    assert picture.shape == (36, 64, 3)
    shown = covering(picture, 36, 64).astype(int)
    assert np.abs(shown - film[0]).max() <= 4
    # Of a square state a wide clip would show a part, from the middle of the picture alone.
    (cut,) = Pixels().decode(Pixels().encode(np.ascontiguousarray(film[:, :, 14:50])), seed=0)
    assert covering(cut, 36, 64).max() < 210


def test_what_a_clip_does_not_show_is_not_in_its_state() -> None:
    tall = np.zeros((1, 128, 64, 3), np.uint8)
    tall[:, 46:82] = 200
    assert SqueezedEncoder(Pixels(), WIDE).encode(tall).min() == 200


def test_squares_are_as_before_and_another_aspect_is_another_state() -> None:
    square = State(family="colour", width=1580)
    wide = square.model_copy(update={"aspect": WIDE})
    assert not isinstance(load_encoder(square), SqueezedEncoder)
    assert load_encoder(wide).name.endswith("-aspect-1.7778")
    assert state_difference(square, wide) == f"aspect None and {WIDE}"
