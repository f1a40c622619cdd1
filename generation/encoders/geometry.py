"""States of pictures that are not square: what a clip shows is what its state holds.

Encoders read squares. A wide picture is squeezed into one as a whole, and a decoded square is stretched
back, so that no part of a clip is missing in its state or its key frame.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from generation.core.states import Picture, Pictures, StateDecoder, StateEncoder
from generation.encoders.pictures import fitted, resized


def width_of(height_px: int, aspect: float) -> int:
    """Return the width of pictures of a height."""
    return round(height_px * aspect)


class SqueezedEncoder(StateEncoder):
    """An encoder that reads the centres of pictures, cut to an aspect ratio, as squares.

    Args:
        inner: encoder of squares.
        aspect: width over height.
    """

    def __init__(self, inner: StateEncoder, aspect: float) -> None:
        self.inner, self._aspect = inner, aspect
        self.name = f"{inner.name}-aspect-{aspect:.4f}"
        self.tokens, self.width = inner.tokens, inner.width

    def encode(self, images: Pictures) -> Tensor:
        """See :meth:`StateEncoder.encode`."""
        height = max(1, min(images.shape[1], round(images.shape[2] / self._aspect)))
        whole = fitted(images, height, width_of(height, self._aspect))
        return self.inner.encode(resized(whole, height, height))


class StretchedDecoder(StateDecoder):
    """A decoder whose squares are stretched to an aspect ratio.

    Args:
        inner: decoder to squares.
        aspect: width over height.
    """

    def __init__(self, inner: StateDecoder, aspect: float) -> None:
        self.inner, self.aspect = inner, aspect
        self.picture_px, self.memory = inner.picture_px, inner.memory

    def decode(self, z: Tensor, *, seed: int) -> Pictures:
        """See :meth:`StateDecoder.decode`."""
        return self._stretched(self.inner.decode(z, seed=seed))

    def decode_next(self, z: Tensor, earlier: Sequence[Picture], *, seed: int) -> Picture:
        """See :meth:`StateDecoder.decode_next`; earlier pictures are squeezed as those of training were."""
        squares = [resized(each[None], self.picture_px, self.picture_px)[0] for each in earlier]
        picture: Picture = self._stretched(self.inner.decode_next(z, squares, seed=seed)[None])[0]
        return picture

    def _stretched(self, squares: Pictures) -> Pictures:
        return resized(squares, self.picture_px, width_of(self.picture_px, self.aspect))
