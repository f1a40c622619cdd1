"""Find parts of the picture that stay while the picture behind them changes.

An overlay is a compact set of edges that keep their place while the scene changes. What stands still
counts only as far as the rest moves: a locked-off shot of a table, where everything stands still, says
nothing about overlays.

Every picture becomes a field of edge vectors of length 0 to 1. Neighbouring pictures of one scene are
averaged into one *view*, so that a long quiet shot weighs no more than a short one. For some weights of
the views, which say when an overlay is shown,

- the *persistence* of an area is ``|mean view|^2 / mean |view|^2`` summed over its pixels: 1 where every
  view agrees, 1/n where the views are n pictures that have nothing to do with each other;
- the *chance* is the persistence of the picture's calmer parts: 1 for a locked-off camera whatever its
  cuts, 1/2 for two cameras that take turns, little for many shots;
- the *excess* of a region is its persistence less the chance.

The weights are at first the same for all views. Overlays that come late or blink are found by blocks of
the picture: the similarity of a block in two views counts as far as the rest of the two views differs,
and the leading eigenvector of these similarities gives the weights.

Edges are read in two ways. By *direction*, from dark to bright, they are told apart best. By *axis*, the
direction with its angle doubled, a grey logo is found that is now darker, now brighter than the scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]

DIRECTION, AXIS = 0, 1

EDGE_FLOOR = 12.0
"""Grey levels per pixel at which an edge has length 0.7. Coding noise (1 to 3) then hardly counts,
white text of 25 % opacity on mid-grey (a step of 32) nearly in full."""
SAME_PICTURE = 0.8
"""Least cosine between a picture's edges and those of the view that it joins."""
VOID = 2e-4
"""Mean squared edge length below which a view is void: black and faded frames are no background."""
BLOCK_ENERGY = 0.005
"""The same for a block of the background: one without edges cannot tell whether it stays."""
CALM_SHARE = 0.2
"""The background is judged by its calmer fifth, so that the still rim of a busy picture is not taken for
an overlay."""
MIN_PERSISTENCE = 0.4
MIN_LENGTH = 0.15
"""Persistence and mean edge length of an overlay's pixel, at least."""
BORDER_SPAN = 0.5
"""Share of a row or column along which one straight edge is the border of a letterbox or inset."""
MIN_PIXELS = 12
"""Edge pixels of a region, at least: fewer have no shape to judge."""
MAX_REGIONS = 6
"""Regions of one reading and one set of weights that are looked at, the largest first."""
BLOCK_PX = 24
MIN_CLUSTER = 0.5
"""Leading eigenvalue of a block's similarities from which its weights are tried."""
MAX_ROUNDS = 3
BOUND_ROUNDS = 4
"""Multiplications by which the leading eigenvalue is bounded, before it is computed where it may count."""
EIGEN_BATCH = 32
ROUNDING = 1e-3
"""Matrices whose eigenvalues are computed together, and tolerance of their bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of the picture where edges stay while the picture changes.

    Attributes:
        pixels: where the edges are, ``[h, w]``.
        box: ``(x0, y0, x1, y1)`` as fractions of the picture's width and height, half-open.
        weights: one per view, in [0, 1]: when the region is seen.
        persistence: of the region, in [0, 1].
        chance: persistence of the rest of the picture, in (0, 1].
        alignment: for either reading, 1 if all edges point one way, 0 if they cancel out.
        length: mean edge length of the mean view, in [0, 1].
    """

    pixels: Mask
    box: Box
    weights: Field
    persistence: float
    chance: float
    alignment: tuple[float, float]
    length: float

    @property
    def excess(self) -> float:
        """Persistence that chance does not explain, discounted for lone edges, in [0, 1]."""
        a, b = self.alignment
        # The factor of the chance: how far the background could have contradicted. The directions of a
        # lone edge agree, those of a closed form cancel out. Strokes along one axis only are slats, cables.
        return max(0.0, (self.persistence - self.chance) * (1 - self.chance) * (1 - a**2) * (1 - b**2))


def views(grays: Sequence[NDArray[np.uint8]]) -> tuple[Field, list[int]]:
    """Merge neighbouring pictures of one scene.

    Args:
        grays: luma ``[h, w]`` of one size, in order of time.

    Returns:
        Edge fields ``[views, readings, 2, h, w]``, and the view of each picture; -1 for pictures without
        edges.
    """
    members: list[int] = []
    if not grays:
        return np.zeros((0, 2, 2, 1, 1), np.float32), members
    shape = grays[0].shape
    scratch, edges = np.empty((4, *shape), np.float32), np.empty((2, 2, *shape), np.float32)
    # Memory of the views that are not needed is never touched.
    fields, count = np.zeros((len(grays), 2, 2, *shape), np.float32), 0
    for gray in grays:
        write_edges(gray, edges, scratch)
        if float(np.square(edges[DIRECTION]).mean()) * 2 <= VOID:
            members.append(-1)
            continue
        same = count and members[-1] >= 0
        if not same or cosine(edges[DIRECTION], fields[count - 1, DIRECTION]) < SAME_PICTURE:
            count += 1
        fields[count - 1] += edges
        members.append(count - 1)
    for number in range(count):
        fields[number] /= np.float32(members.count(number))
    return fields[:count], members


def persistent_regions(fields: Field) -> list[Region]:
    """Find regions that persist in all views or in a part of them.

    Args:
        fields: as :func:`views` returns them.
    """
    if len(fields) < 2:
        return []
    energies = np.empty((*fields.shape[:2], *fields.shape[3:]), np.float32)
    for view, energy in zip(fields, energies, strict=True):
        np.square(view).sum(axis=1, out=energy)
    found = regions(fields, energies, np.ones(len(fields), np.float32))
    for weights in presences(fields[:, DIRECTION]):
        found += regions(fields, energies, weights)
    found.sort(key=lambda region: (-region.excess, region.box))
    return [
        region
        for index, region in enumerate(found)
        if not any(same_place(region.box, stronger.box) for stronger in found[:index])
    ]


def presences(field: Field) -> list[Field]:
    """Return weights of the views for blocks that are alike in views that differ elsewhere.

    Args:
        field: edge vectors by direction, ``[views, 2, h, w]``.
    """
    count, _, height, width = field.shape
    if count < 3 or min(height, width) < 3 * BLOCK_PX // 2:
        return []
    similar = products(field)
    own = np.diagonal(similar, axis1=1, axis2=2)
    scale = 1 / np.sqrt(own + BLOCK_ENERGY * BLOCK_PX**2)
    telling = own > BLOCK_ENERGY * BLOCK_PX**2
    similar = similar * scale[:, :, None] * scale[:, None, :]
    # Every pair of views once: sorting takes most of the time.
    first, second = np.triu_indices(count, 1)
    both = telling[:, first] & telling[:, second]
    # Sorting is several times as fast along the last axis.
    ranked = np.sort(np.ascontiguousarray(np.where(both, similar[:, first, second], -1).T))
    # The same scene: where the calmer fifth of the blocks that have edges is alike.
    blocks = len(similar)
    place = (blocks - CALM_SHARE * both.sum(axis=0)).astype(int).clip(0, blocks - 1)
    rest = np.take_along_axis(ranked, place[:, None], axis=1)[:, 0]
    apart = np.zeros((count, count), np.float32)
    apart[first, second] = apart[second, first] = np.clip(1 - 2 * rest, 0, 1)
    linked = np.maximum(similar * apart, 0)
    result: list[Field] = []
    for value, vector in leading(linked):
        if value < MIN_CLUSTER or len(result) == MAX_ROUNDS:
            break
        weights = np.abs(vector)
        weights /= weights.max()
        weights[weights < 0.3] = 0
        known = any(float(weights @ w) > 0.85 * np.linalg.norm(weights) * np.linalg.norm(w) for w in result)
        everywhere = float(weights.sum()) ** 2 > 0.85 * count * float(weights @ weights)
        if not known and not everywhere:
            result.append(weights.astype(np.float32))
    return result


def products(field: Field) -> Field:
    """Return the scalar products of the views of every block, ``[blocks, views, views]``.

    Blocks of ``BLOCK_PX`` lie half a block apart, so each consists of four tiles, which blocks share.

    Args:
        field: edge vectors, ``[views, 2, h, w]``.
    """
    count, _, height, width = field.shape
    side = BLOCK_PX // 2
    rows, columns = height // side, width // side
    tiles = np.empty((rows, columns, count, count), np.float32)
    for row in range(rows):
        strip = field[:, :, row * side : (row + 1) * side, : columns * side]
        parts = strip.reshape(count, 2 * side, columns, side).transpose(2, 0, 1, 3)
        vectors = parts.reshape(columns, count, -1)
        np.matmul(vectors, vectors.transpose(0, 2, 1), out=tiles[row])
    pairs: Field = tiles[:-1] + tiles[1:]
    blocks: Field = pairs[:, :-1] + pairs[:, 1:]
    return blocks.reshape(-1, count, count)


def leading(matrices: Field) -> Iterator[tuple[float, Field]]:
    """Yield the leading eigenvalues and eigenvectors ``[k]`` of matrices ``[n, k, k]``, the largest first.

    They are computed in the order of their bounds, so that the first ones cost little.

    Args:
        matrices: symmetric, without negative entries.
    """
    bounds = most_eigenvalue(matrices)
    order = np.argsort(-bounds)
    waiting: list[tuple[float, int]] = []
    found: dict[int, Field] = {}
    for start in range(0, len(order), EIGEN_BATCH):
        batch = order[start : start + EIGEN_BATCH]
        values, vectors = np.linalg.eigh(matrices[batch])
        for number, value, vector in zip(batch.tolist(), values[:, -1].tolist(), vectors, strict=True):
            heappush(waiting, (-value, number))
            found[number] = vector[:, -1]
        rest = order[start + EIGEN_BATCH :]
        most = float(bounds[rest[0]]) + ROUNDING if rest.size else -np.inf
        while waiting and -waiting[0][0] >= most:
            value, number = heappop(waiting)
            yield -value, found.pop(number)


def most_eigenvalue(matrices: Field) -> Field:
    """Return a bound on the leading eigenvalue of matrices ``[n, k, k]`` without negative entries.

    It is at most the largest of ``(A x)_i / x_i`` for any positive vector ``x`` (Collatz and Wielandt).
    """
    x = np.ones((*matrices.shape[:2], 1), np.float32)
    bound = np.zeros(len(matrices), np.float32)
    for _ in range(BOUND_ROUNDS):
        y = matrices @ x
        bound = (y / x).max(axis=(1, 2))
        # What is linked to nothing must not become 0.
        x = y / np.maximum(y.max(axis=1, keepdims=True), np.float32(1e-6)) + np.float32(1e-3)
    return bound


def regions(fields: Field, energies: Field, weights: Field) -> list[Region]:
    """Group the pixels whose edges persist under some weights of the views."""
    shares = weights / weights.sum()
    mean = np.tensordot(shares, fields, axes=1)
    energy = np.tensordot(shares, energies, axes=1)
    kept = np.square(mean).sum(axis=1)
    borders = border_lines(mean[DIRECTION], kept[DIRECTION] > MIN_PERSISTENCE * energy[DIRECTION])
    kept[:, borders] = energy[:, borders] = 0
    found: list[Region] = []
    for reading in (DIRECTION, AXIS):
        found += _grouped(mean, kept[reading], energy[reading], weights)
    return found


def _grouped(mean: Field, kept: Field, energy: Field, weights: Field) -> list[Region]:
    chance = background_persistence(kept, energy)
    # Two edges that meet by chance are all it takes to agree in two views, not in ten: the fewer
    # backgrounds, the stricter. The fourth root did best of six rules, by little.
    least = max(MIN_PERSISTENCE, chance**0.25)
    strong = (kept > least * energy) & (kept > MIN_LENGTH**2)
    height, width = strong.shape
    # Strokes of a letter are up to 2 % of the short side apart, letters and words thrice that.
    gap = max(3, round(0.02 * min(height, width)))
    kernel = np.ones((gap | 1, (3 * gap) | 1), np.uint8)
    closed = cv2.morphologyEx(strong.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(closed, connectivity=8)
    sizes = np.bincount(labels[strong], minlength=count)
    sizes[0] = 0
    found = []
    for label in np.argsort(-sizes)[:MAX_REGIONS]:
        if sizes[label] <= MIN_PIXELS:
            break
        inside = labels == label
        pixels = strong & inside
        rows, columns = np.nonzero(pixels)
        alignment = []
        for x, y in mean:
            total = np.hypot(x, y)[pixels].sum() + 1e-9
            alignment.append(float(np.hypot(x[pixels].sum(), y[pixels].sum()) / total))
        found.append(
            Region(
                pixels=pixels,
                # Edges lie within a pixel of what is drawn.
                box=(
                    float((columns.min() + 1) / width), float((rows.min() + 1) / height),
                    float(max(columns.max(), columns.min() + 2) / width),
                    float(max(rows.max(), rows.min() + 2) / height),
                ),
                weights=weights,
                persistence=float(kept[inside].sum() / (energy[inside].sum() + 1e-9)),
                chance=chance,
                alignment=(alignment[DIRECTION], alignment[AXIS]),
                length=float(np.sqrt(kept[pixels]).mean()),
            )
        )  # fmt: skip
    return found


def write_edges(gray: NDArray[np.uint8], field: Field, scratch: Field) -> None:
    """Fill `field` (reading, x and y, height, width) with edge vectors of lengths in [0, 1).

    All in place, in four planes of scratch: fresh memory for every frame can cost ten times as
    much as the arithmetic.
    """
    x, y, steepness, length = scratch
    per_pixel = 1 / 8  # Sobel's weights, so that a ramp of one grey level per pixel gives 1
    cv2.Sobel(gray, cv2.CV_32F, 1, 0, dst=x, ksize=3, scale=per_pixel)
    cv2.Sobel(gray, cv2.CV_32F, 0, 1, dst=y, ksize=3, scale=per_pixel)
    # (x + iy)^2 has twice the angle.
    np.square(x, out=steepness)
    np.square(y, out=length)
    np.subtract(steepness, length, out=field[AXIS, 0])
    np.multiply(x, y, out=field[AXIS, 1])
    field[AXIS, 1] *= 2
    steepness += length
    np.add(steepness, np.float32(EDGE_FLOOR**2), out=length)
    np.sqrt(length, out=length)
    np.divide(scratch[:2], length, out=field[DIRECTION])
    np.sqrt(steepness, out=steepness)
    length *= steepness
    np.maximum(length, np.float32(1e-6), out=length)
    field[AXIS] /= length


def cosine(a: Field, b: Field) -> float:
    """Likeness of two edge fields as a whole, in [-1, 1]; 0 if one is empty."""
    norm = np.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b)))
    return float(np.vdot(a, b)) / float(norm) if norm > 0 else 0.0


def border_lines(mean: Field, persistent: Mask) -> Mask:
    """Return the borders of letterboxes, pillarboxes and insets, and the rim of the picture.

    A border is one edge in one direction along most of a row or column. A line of text is not:
    tops and bottoms of letters alternate along its rows.
    """
    lines = np.zeros(persistent.shape, np.bool_)
    lines[:2] = lines[-2:] = lines[:, :2] = lines[:, -2:] = True  # left over from coding
    x, y = mean
    present = persistent & (np.hypot(x, y) > 0.1)
    across_rows = np.sign(y) * (present & (np.abs(y) > 2 * np.abs(x)))
    across_columns = np.sign(x) * (present & (np.abs(x) > 2 * np.abs(y)))
    rows = np.abs(across_rows.mean(axis=1)) > BORDER_SPAN
    columns = np.abs(across_columns.mean(axis=0)) > BORDER_SPAN
    # An edge is three pixels wide after scaling.
    lines |= (np.convolve(rows, np.ones(3), "same") > 0)[:, None]
    lines |= np.convolve(columns, np.ones(3), "same") > 0
    return lines


def background_persistence(kept: Field, energy: Field) -> float:
    """Persistence of the picture's calmer blocks, in (0, 1]; 1 if no block has edges.

    Blocks are squares of a tenth of the long side: about as large as an overlay.
    """
    height, width = kept.shape
    side = max(1, max(height, width) // 10)
    grid = (max(1, width // side), max(1, height // side))
    block_kept = cv2.resize(kept, grid, interpolation=cv2.INTER_AREA)
    block_energy = cv2.resize(energy, grid, interpolation=cv2.INTER_AREA)
    telling = block_energy > BLOCK_ENERGY
    if not telling.any():
        return 1.0
    return float(np.quantile(block_kept[telling] / block_energy[telling], 1 - CALM_SHARE))


def same_place(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    """Tell whether two boxes share more than half of the smaller one."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    shared *= max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared > 0.5 * min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
