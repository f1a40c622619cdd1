"""Find what was laid over a video: logos, channel watermarks, burnt-in static text.

An overlay is a compact set of edges that keep their place while the picture behind them changes.
So the evidence is relative: what stands still counts only as far as the rest moves, and a
locked-off shot of a table, where everything stands still, says nothing about watermarks.

Each sampled frame becomes a field of edge vectors of length 0 to 1. Frames that show the same
picture are averaged into one *vote*, so that a long quiet shot weighs no more than a short one.
Two sums over the votes are kept per pixel: of the vectors, and of their squared lengths. They give

- the *persistence* of an area, ``|mean vote|^2 / mean |vote|^2`` summed over its pixels: 1 where
  every vote agrees, 1/n where the votes are n pictures that have nothing to do with each other;
- the number of *backgrounds*, one over the persistence of the picture's calmer parts: 1 for a
  locked-off camera whatever its cuts, 2 for two cameras that take turns, many for many shots;
- the *excess* of a region: its persistence less that of the background, discounted if the region
  has the shape of a lone edge. The score is the excess on a scale of confidence.

Edges are read in two ways. By *direction*, from dark to bright, they are told apart best. By
*axis*, the direction with its angle doubled, a grey logo is still found that is now darker, now
brighter than what is behind it.

Votes are told apart by comparing frames: shot boundaries given, given late or withheld made no
difference beyond chance.

Constants were chosen on one half of the material (YouCook2 key frames, clips, drawn logos and texts
over them), each on a plateau. On the other half, at score 0.5:

- cuts or a moving camera (90 videos): 89 % of the overlays of 50 to 100 % opacity are found, 61 %
  of those of 25 to 35 %;
- no overlay, with cuts, jump cuts, a still or moving camera, bars (138): none is reported;
- changing subtitles (46): 2 %; a still rim around a busy middle (16): 12 %, the known weakness;
- three key frames each of 450 real YouCook2 videos: above 0.3, 23 of 37 watermarks and no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

DIRECTION, AXIS = 0, 1

EDGE_FLOOR = 12.0
"""Grey levels per pixel at which an edge has length 0.7. Coding noise (1 to 3) then hardly counts,
white text of 25 % opacity on mid-grey (a step of 32) nearly in full. 3 and 6 find fewer."""
SAME_PICTURE = 0.8
"""Least cosine between a frame's edges and those of the vote that it joins."""
VOID = 2e-4
"""Mean squared edge length below which a vote is void: black and faded frames are no background."""
BLOCK_ENERGY = 0.005
"""The same for a block of the background: one without edges cannot tell whether it stays."""
CALM_SHARE = 0.2
"""The background is judged by its calmer fifth, lest the still rim of a busy picture pass for an
overlay. The price: overlays that reach into more than a fifth of the blocks hide themselves."""
MIN_PERSISTENCE = 0.5
MIN_LENGTH = 0.25
"""Persistence and mean edge length of an overlay's pixel, at least."""
BORDER_SPAN = 0.5
"""Share of a row or column along which one straight edge is the border of a letterbox or inset."""
MIN_PIXELS = 12
"""Edge pixels of a region, at least: fewer have no shape to judge."""
EVEN_EXCESS = 0.26
CONFIDENCE_SLOPE = 20.0
"""A logistic fit, on the tuning half, of whether a video's strongest region is an overlay, given
its excess, if one video in three has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayRegion:
    """A part of the picture where edges stay while the picture changes.

    Attributes:
        box: ``(x0, y0, x1, y1)`` as fractions of the picture's width and height, half-open.
        score: confidence that it was laid over the video, in [0, 1].
        coverage: share of the votes in which the edges are in place, in [0, 1]; low if the overlay
            comes and goes, or is lost against some backgrounds.
        backgrounds: how many different pictures the rest of the video showed, at least 1.
    """

    box: tuple[float, float, float, float]
    score: float
    coverage: float
    backgrounds: float


class OverlayEvidence:
    """Gathers evidence frame by frame, in 18 floats a pixel however long the video.

    Args:
        min_score: regions below it are not reported.
    """

    def __init__(self, *, min_score: float = 0.1) -> None:
        self._min_score = min_score
        self._shape: tuple[int, ...] = ()
        self._scratch: Field
        self._edges: Field
        self._vote: Field
        self._vote_frames = 0
        self._sum: Field
        self._energy: Field
        self._votes = 0

    def add(self, gray: NDArray[np.uint8], *, new_shot: bool) -> None:
        """Take in one sampled frame.

        Args:
            gray: luma, shape (height, width), of one size throughout. Made for a short side of
                180 to 256 pixels and about two frames a second.
            new_shot: a shot boundary lies between this frame and the one before. May always be
                false.

        Raises:
            ValueError: the frame is not two-dimensional, or not of the first frame's size.
        """
        if not self._shape:
            if gray.ndim != 2:
                raise ValueError(f"expected a grey frame (height, width), got shape {gray.shape}")
            self._shape = gray.shape
            self._scratch = np.empty((4, *gray.shape), np.float32)
            self._edges, self._vote, self._sum = np.zeros((3, 2, 2, *gray.shape), np.float32)
            self._energy = np.zeros((2, *gray.shape), np.float32)
        if gray.shape != self._shape:
            raise ValueError(
                f"frames of one video must have one size, got {gray.shape} after {self._shape}"
            )
        write_edges(gray, self._edges, self._scratch)
        same = cosine(self._edges[DIRECTION], self._vote[DIRECTION]) >= SAME_PICTURE
        if new_shot or not same:
            self._close_vote()
        self._vote += self._edges
        self._vote_frames += 1

    def finish(self) -> list[OverlayRegion]:
        """The regions found, strongest first; none if fewer than two pictures were seen."""
        self._close_vote()
        if self._votes < 2:
            return []
        mean = self._sum / np.float32(self._votes)
        energy = self._energy / np.float32(self._votes)
        kept = np.square(mean).sum(axis=1)
        borders = border_lines(mean[DIRECTION], kept[DIRECTION] > MIN_PERSISTENCE * energy[DIRECTION])
        kept[:, borders] = energy[:, borders] = 0

        found: list[OverlayRegion] = []
        for reading in (DIRECTION, AXIS):
            chance = background_persistence(kept[reading], energy[reading])
            found += self._regions(mean, kept[reading], energy[reading], chance)
        found.sort(key=lambda region: (-region.score, region.box))
        return [
            region
            for i, region in enumerate(found)
            if not any(same_place(region.box, stronger.box) for stronger in found[:i])
        ]

    def _close_vote(self) -> None:
        """Make one vote of the frames that showed one picture."""
        if not self._vote_frames:
            return
        self._vote /= np.float32(self._vote_frames)
        energy = np.einsum("rc...,rc...->r...", self._vote, self._vote, out=self._scratch[:2])
        if energy[DIRECTION].mean() > VOID:
            self._sum += self._vote
            self._energy += energy
            self._votes += 1
        self._vote[:] = 0
        self._vote_frames = 0

    def _regions(self, mean: Field, kept: Field, energy: Field, chance: float) -> list[OverlayRegion]:
        """Group the pixels whose edges persist, in one reading, and score the groups."""
        # Two edges that meet by chance are all it takes to agree in two votes, not in ten: the
        # fewer backgrounds, the stricter. The fourth root did best of six rules, by little.
        least = max(MIN_PERSISTENCE, chance**0.25)
        strong = (kept > least * energy) & (kept > MIN_LENGTH**2)
        height, width = strong.shape
        # Strokes of a letter are up to 2 % of the short side apart, letters and words thrice that.
        gap = max(3, round(0.02 * min(height, width)))
        kernel = np.ones((gap | 1, (3 * gap) | 1), np.uint8)
        closed = cv2.morphologyEx(strong.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
        count, labels = cv2.connectedComponents(closed, connectivity=8)

        def total(values: Field, where: Mask) -> NDArray[np.float64]:
            """Sum per label over the pixels of `where`, and a trifle, to divide by."""
            return np.asarray(np.bincount(labels[where], values[where], count) + 1e-9)

        def alignment(vectors: Field) -> NDArray[np.float64]:
            """Per label: 1 if all vectors point one way, 0 if they cancel out."""
            x, y = vectors
            return np.hypot(total(x, strong), total(y, strong)) / total(np.hypot(x, y), strong)

        inside = labels > 0
        # The second factor: how far the background could have contradicted.
        excess = (total(kept, inside) / total(energy, inside) - chance) * (1 - chance)
        # The directions of a lone edge agree, those of a closed form cancel out. Strokes along one
        # axis only are no logo either, but slats, cables, the base line of changing subtitles.
        for vectors in mean:
            excess *= 1 - alignment(vectors) ** 2
        scores = 1 / (1 + np.exp(CONFIDENCE_SLOPE * (EVEN_EXCESS - excess)))
        coverage = total(kept, strong) / total(energy, strong)
        large = total(np.ones_like(kept), strong) > MIN_PIXELS

        regions = []
        for label in np.flatnonzero(large & (scores >= self._min_score)):
            rows, columns = np.nonzero(strong & (labels == label))
            regions.append(
                OverlayRegion(
                    box=(
                        float(columns.min() / width),
                        float(rows.min() / height),
                        float((columns.max() + 1) / width),
                        float((rows.max() + 1) / height),
                    ),
                    score=float(scores[label]),
                    coverage=float(coverage[label]),
                    backgrounds=1 / chance,
                )
            )
        return regions


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
    """Where borders of letterboxes, pillarboxes and insets run, and the rim of the picture.

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
    """Whether two boxes share more than half of the smaller one."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    shared *= max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared > 0.5 * min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
