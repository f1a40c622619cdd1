"""Gather evidence for overlays from some pictures of a video, and score it.

Two witnesses: regions that persist while the scene changes (:mod:`stages.watermark.persistence`), and
places that look drawn (:mod:`stages.watermark.appearance`) in single pictures, and in the average of all
views: there the scene fades and an overlay stays. What both say of one place is a *candidate*; a small
network weighs the two and the place (``head.safetensors``, trained by ``benchmarks/train_watermark.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.records import Box
from stages.watermark.appearance import Appearance
from stages.watermark.drawn import DRAWN, SAME_PLACE, Cells, Drawn, covered, drawn_places, highest, shared
from stages.watermark.extent import Gray
from stages.watermark.persistence import Region, persistent_regions, views

THREADS = 2
"""Computations that run together, this one included."""
SIDE_PX = 216
"""Short side of the pictures that are judged."""
SAME_DRAWING = 0.7
"""Share of the smaller of two boxes from which a drawn place is the region, or a part of it."""
CERTAIN = 0.95
MAX_ODDS = 8.0
"""Probability of a cell that is drawn for certain, and bound on the log odds of a cell."""
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
CARD = (0.2, 0.05, 0.3)
"""Least width and height of the words on a card, and most distance of their middle from the picture's."""
CARD_CONTRAST = 0.6
CARD_SHARE = 0.7
"""Contrast of the scene, relative to that without the words, below which a card covers it; share of the
pictures that a card takes at most."""
SAME_SCENE = 0.7
"""Correlation from which two pictures, one after the other, show one scene."""
HEAD_FILE = Path(__file__).with_name("head.safetensors")
FEATURES = (
    "excess", "persistence", "chance", "length", "weight", "alignment", "drawn", "drawn_peak",
    "drawn_share", "drawn_scenes", "elsewhere", "views", "area", "width", "height", "rim_x", "rim_y",
    "off_centre", "y", "settled", "settled_mean", "typical", "inside", "around", "averaged",
    "averaged_mean", "certain", "odds", "cells", "aspect", "run", "resized", "travel",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A place in the picture that may hold an overlay.

    Attributes:
        box: as fractions of the picture.
        features: values by the order of ``FEATURES``.
        shown: for each picture, whether the overlay is seen in it.
        persistent: share of the views in which its edges stay in place; 0 where they do not, and for cards.
        drifts: whether the drawn place moves.
    """

    box: Box
    features: tuple[float, ...]
    shown: tuple[bool, ...]
    persistent: float
    drifts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Evidence of all pictures.

    Attributes:
        maps: probability that a cell is drawn, ``[rows, columns]``, of each picture.
        averaged: the same of the average of all views.
        members: number of the view of each picture; -1 for none.
        num_views: their number.
        changes: see :func:`deviation`.
        pixels: see :func:`samples`.
    """

    maps: Sequence[Cells]
    averaged: Cells
    members: Sequence[int]
    num_views: int
    changes: NDArray[np.float32]
    pixels: NDArray[np.float32]


def candidates(grays: Sequence[Gray], appearance: Appearance) -> list[Candidate]:
    """Return all places that may hold an overlay.

    Args:
        grays: pictures ``[h, w]`` of one size and video, in order of time, with a short side of about
            ``SIDE_PX``.
    """
    if not grays:
        return []
    with ThreadPoolExecutor(THREADS - 1) as threads:
        looked = threads.map(appearance.probability, grays)
        fields, members = views(grays)
        regions = persistent_regions(fields)
        averaged = appearance.probability(average(grays, members))
        maps = list(looked)
    window = _Window(
        maps=maps, averaged=averaged, members=members, num_views=len(fields),
        changes=deviation(grays), pixels=samples(grays),
    )  # fmt: skip
    places = [place.snapped(grays) for place in drawn_places(maps)]
    found: list[Candidate] = []
    taken: set[int] = set()
    for region in regions:
        near = [n for n, place in enumerate(places) if place.lies_at(region.box)]
        taken |= {n for n in near if same_drawing(places[n].box, region.box)}
        found.append(_candidate(region, [places[n] for n in near], window))
    return found + [_candidate(None, [place], window) for n, place in enumerate(places) if n not in taken]


def same_drawing(place: Box, region: Box) -> bool:
    """Return whether a drawn place is a region: inside it, and not in a small part of it.

    All of a still picture persists: such a region must not hide a mark in it.
    """
    return covered(place, region) > SAME_DRAWING and covered(region, place) > SAME_PLACE


def average(grays: Sequence[Gray], members: Sequence[int]) -> Gray:
    """Return the average of all views, each the average of its pictures; of all pictures without a view."""
    shares = [1 / members.count(member) if member >= 0 else 0.0 for member in members]
    if not any(shares):
        shares = [1.0] * len(grays)
    total = np.zeros(grays[0].shape, np.float32)
    for gray, share in zip(grays, shares, strict=True):
        total += np.float32(share / sum(shares)) * gray
    return np.asarray(np.rint(total), np.uint8)


def deviation(grays: Sequence[Gray]) -> NDArray[np.float32]:
    """Return the standard deviation over time of every fourth pixel of every fourth row, in grey levels."""
    pixels = np.stack([gray[::4, ::4] for gray in grays]).astype(np.float32)
    return np.asarray(pixels.std(axis=0), np.float32)


def samples(grays: Sequence[Gray]) -> NDArray[np.float32]:
    """Return every eighth pixel of every eighth row, ``[pictures, rows, columns]``."""
    return np.stack([gray[::8, ::8] for gray in grays]).astype(np.float32)


def on_card(box: Box, shown: Sequence[bool], pixels: NDArray[np.float32]) -> bool:
    """Return whether words stand on a card: not at the rim, and the scene is faint or hidden meanwhile.

    Args:
        pixels: as :func:`samples` returns them.
    """
    inside = np.array(shown)
    least_width, least_height, most = CARD
    x0, y0, x1, y1 = box
    if x1 - x0 < least_width or y1 - y0 < least_height or abs(y0 + y1 - 1) > 2 * most:
        return False
    if not 0 < inside.mean() < CARD_SHARE:
        return False
    rows = (np.arange(pixels.shape[1]) + 0.5) / pixels.shape[1]
    beside = (rows < y0) | (rows > y1)
    scene = pixels[:, beside if beside.any() else slice(None)].reshape(len(pixels), -1)
    return scene_left(scene, inside) < CARD_CONTRAST


def scene_left(pixels: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Return the contrast of the scene in some pictures, relative to that in the others.

    Pictures of one scene next to each other are compared; all of them if there are none.

    Args:
        pixels: of each picture, ``[pictures, n]``.
        inside: which pictures; some, but not all.
    """
    steps = [(n, n + 1) if inside[n + 1] else (n + 1, n) for n in np.flatnonzero(np.diff(inside))]
    shares = [contrast_left(pixels[before], pixels[after]) for before, after in steps]
    known = [share for share in shares if share is not None]
    if known:
        return float(np.median(known))
    low, high = np.quantile(pixels, (0.25, 0.75), axis=1)
    return float(np.median((high - low)[inside]) / (np.median((high - low)[~inside]) + 1e-9))


def contrast_left(before: NDArray[np.float32], after: NDArray[np.float32]) -> float | None:
    """Return the share of a picture's contrast that the next one has; None if it shows another scene."""
    (variance, shared_variance), (_, other) = np.cov(before, after)
    if shared_variance < SAME_SCENE * math.sqrt(variance * other) or variance == 0:
        return None
    return float(shared_variance / variance)


def _candidate(region: Region | None, places: Sequence[Drawn], window: _Window) -> Candidate:
    """Put together what both witnesses say of one place."""
    maps = window.maps
    peaks = highest([place.peaks for place in places])
    if region is not None:
        box = region.box
        shown = [member >= 0 and bool(region.weights[member] > 0) for member in window.members]
        peaks = highest([peaks, {n: _peak(maps[n], box) for n, seen in enumerate(shown) if seen}])
    else:
        box = places[0].box
        shown = [number in peaks for number in range(len(maps))]
    track = _track(places, len(maps))
    values = {
        **_persistence(region),
        **_certainty(peaks, shown, window),
        **_geometry(box),
        **_cells([cells for cells, seen in zip(maps, shown, strict=True) if seen] or maps, box),
        **_changes(window.changes, box),
        "averaged": _peak(window.averaged, box),
        "averaged_mean": float(_part(window.averaged, box).mean()),
        **track,
    }
    card = on_card(box, shown, window.pixels)
    return Candidate(
        box=WHOLE if card else extended(box, places, maps[0].shape) if region else box,
        features=tuple(values[name] for name in FEATURES),
        shown=tuple(seen or peaks.get(n, 0.0) > DRAWN for n, seen in enumerate(shown)),
        persistent=float((region.weights > 0).mean()) if region and not card else 0.0,
        drifts=region is None and not card and track["travel"] > 1.5,
    )


def extended(box: Box, places: Sequence[Drawn], shape: tuple[int, ...]) -> Box:
    """Return the box of a region with sides moved to those of the same drawing that lie a cell beyond.

    Edges of faint strokes do not persist everywhere.

    Args:
        places: drawn ones near the region.
        shape: rows and columns of cells.
    """
    high, wide = shape
    x0, y0, x1, y1 = box
    for a0, b0, a1, b1 in (place.box for place in places if shared(place.box, box) > SAME_DRAWING):
        x0, y0 = (a0 if a0 < x0 - 1 / wide else x0), (b0 if b0 < y0 - 1 / high else y0)
        x1, y1 = (a1 if a1 > x1 + 1 / wide else x1), (b1 if b1 > y1 + 1 / high else y1)
    return x0, y0, x1, y1


def _persistence(region: Region | None) -> dict[str, float]:
    return {
        "excess": region.excess if region else 0.0,
        "persistence": region.persistence if region else 0.0,
        "chance": region.chance if region else 1.0,
        "length": region.length if region else 0.0,
        "weight": math.log1p(float(region.weights.sum())) if region else 0.0,
        "alignment": max(region.alignment) if region else 1.0,
    }


def _certainty(peaks: dict[int, float], shown: Sequence[bool], window: _Window) -> dict[str, float]:
    """Return features of the most certain cell of each picture, and the share of pictures and the number of
    scenes in which the place looks drawn."""
    best = np.array([peaks.get(n, 0.0) for n, seen in enumerate(shown) if seen] or [0.0])
    hit = [number for number, peak in peaks.items() if peak > DRAWN]
    return {
        "drawn": float(best.mean()),
        "drawn_peak": float(best.max()),
        "drawn_share": len(hit) / len(shown),
        "drawn_scenes": math.log1p(len({window.members[number] for number in hit})),
        "certain": float((best > CERTAIN).mean()),
        "odds": float(np.mean([_odds(peak) for peak in best])),
        "elsewhere": float(np.mean([(cells > DRAWN).mean() for cells in window.maps])),
        "views": math.log1p(window.num_views),
    }


def _geometry(box: Box) -> dict[str, float]:
    x0, y0, x1, y1 = box
    return {
        "area": math.sqrt((x1 - x0) * (y1 - y0)), "width": x1 - x0, "height": y1 - y0,
        "rim_x": min(x0, 1 - x1), "rim_y": min(y0, 1 - y1), "off_centre": abs(x0 + x1 - 1),
        "y": (y0 + y1) / 2,
    }  # fmt: skip


def _cells(maps: Sequence[Cells], box: Box) -> dict[str, float]:
    """Return peak and mean of the cells averaged over some pictures, and the median of upper quartiles."""
    parts = np.stack([_part(cells, box) for cells in maps]).reshape(len(maps), -1)
    mean = parts.mean(0)
    return {
        "settled": float(mean.max()),
        "settled_mean": float(mean.mean()),
        "typical": float(np.median(np.quantile(parts, 0.75, axis=1))),
    }


def _changes(changes: NDArray[np.float32], box: Box) -> dict[str, float]:
    """Return the change over time inside a box, relative to that around it, and the change around it."""
    high, wide = changes.shape
    y0, x0 = int(box[1] * high), int(box[0] * wide)
    y1, x1 = max(math.ceil(box[3] * high), y0 + 1), max(math.ceil(box[2] * wide), x0 + 1)
    rim = max(3, min(y1 - y0, x1 - x0) // 2)
    outer = changes[max(0, y0 - rim) : y1 + rim, max(0, x0 - rim) : x1 + rim]
    inner = changes[y0:y1, x0:x1]
    pixels = outer.size - inner.size
    around = (float(outer.sum()) - float(inner.sum())) / pixels if pixels else float(inner.mean())
    return {"inside": float(inner.mean()) / (around + 4), "around": math.log1p(max(0.0, around))}


def _track(places: Sequence[Drawn], pictures: int) -> dict[str, float]:
    """Size and course of a drawn place. A drawing keeps its size while it moves; false finds do not.

    ``run`` is the longest stretch of pictures without a gap, as a share of all; ``resized`` the deviation
    of the size; ``travel`` how far the place moves, in its own sizes.
    """
    if not places:
        return {"cells": 0.0, "aspect": 0.0, "run": 0.0, "resized": 0.0, "travel": 0.0}
    boxes = np.array([box for place in places for box in place.boxes.values()])
    sizes = boxes[:, 2:] - boxes[:, :2]
    usual = np.median(sizes, axis=0)
    spread = np.ptp((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0)
    seen = sorted({number for place in places for number in place.boxes})
    runs = np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1)
    return {
        "cells": math.log1p(float(np.median([n for place in places for n in place.cells.values()]))),
        "aspect": math.log(usual[0] / usual[1]),
        "run": max(map(len, runs)) / pictures,
        "resized": float((sizes.std(0) / usual).mean()),
        "travel": min(5.0, float((spread / sizes.mean(0)).max())),
    }


def _part(cells: Cells, box: Box) -> Cells:
    """The cells that a box covers, one at least."""
    high, wide = cells.shape
    y0, x0 = min(int(box[1] * high), high - 1), min(int(box[0] * wide), wide - 1)
    y1, x1 = max(math.ceil(box[3] * high), y0 + 1), max(math.ceil(box[2] * wide), x0 + 1)
    return cells[y0:y1, x0:x1]


def _peak(cells: Cells, box: Box) -> float:
    return float(_part(cells, box).max())


def _odds(probability: float) -> float:
    """Log odds within bounds."""
    least = 1 / (1 + math.exp(MAX_ODDS))
    inside = min(max(probability, least), 1 - least)
    return math.log(inside / (1 - inside))
