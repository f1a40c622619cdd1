"""A grid of four pictures, in which an inpainting model sees earlier key frames beside the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generation.core.states import Pictures
from generation.encoders.pictures import square

CELLS = 4
SIDE = 2
GREY, MASKED = 127, 255


def masked_grid(
    pictures: Sequence[NDArray[np.uint8]], cell_px: int, masked: slice
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a grid ``[2 cell_px, 2 cell_px, 3]`` and its mask ``[2 cell_px, 2 cell_px]``.

    Args:
        pictures: of the first cells, of any sizes; the other cells are grey.
        masked: cells to paint.
    """
    cells = np.full((CELLS, cell_px, cell_px, 3), GREY, np.uint8)
    for place, picture in enumerate(pictures):
        cells[place] = square(picture[None], cell_px)[0]
    mask = np.zeros((CELLS, cell_px, cell_px), np.uint8)
    mask[masked] = MASKED
    return _tiled(cells), _tiled(mask)


def cells_of(grid: NDArray[np.uint8]) -> Pictures:
    """Return the four pictures of a grid, row by row."""
    side = grid.shape[0] // SIDE
    rows = grid.reshape(SIDE, side, SIDE, side, 3).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(CELLS, side, side, 3))


def _tiled(cells: NDArray[Any]) -> NDArray[Any]:
    """Return ``[4, side, side, ...]`` as one ``[2 side, 2 side, ...]``."""
    side = cells.shape[1]
    rows = cells.reshape(SIDE, SIDE, side, side, *cells.shape[3:]).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(SIDE * side, SIDE * side, *cells.shape[3:]))
