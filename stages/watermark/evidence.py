"""Gather evidence for overlays from some pictures of a video, and score it.

Two witnesses: regions that persist while the scene changes (:mod:`stages.watermark.persistence`), and
places that look drawn in single pictures (:mod:`stages.watermark.appearance`). What both say of one place
is a *candidate*; a small network weighs the two and the place (``head.safetensors``, trained by
``benchmarks/train_watermark.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.watermark.appearance import Appearance
from stages.watermark.persistence import Region, persistent_regions, views

Gray = NDArray[np.uint8]
Box = tuple[float, float, float, float]

THREADS = 2
"""Computations that run together, this one included."""
SIDE_PX = 216
"""Short side of the pictures that are judged."""
DRAWN = 0.5
"""Probability from which a cell of a picture looks drawn."""
MIN_CELLS = 2
SAME_PLACE = 0.25
"""Share of the smaller of two boxes from which they are one place."""
HEAD_FILE = Path(__file__).with_name("head.safetensors")
FEATURES = (
    "excess", "persistence", "chance", "length", "weight", "alignment", "drawn", "drawn_peak",
    "drawn_share", "drawn_scenes", "elsewhere", "views", "area", "width", "height", "rim_x", "rim_y",
    "off_centre", "y", "settled", "settled_mean", "typical", "inside", "around",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A place in the picture that may hold an overlay.

    Attributes:
        box: as fractions of the picture.
        features: values by the order of ``FEATURES``.
        shown: for each picture, whether the overlay is seen in it.
        persistent: share of the views in which its edges stay in place; 0 where they do not.
        drifts: whether the drawn place moves.
    """

    box: Box
    features: tuple[float, ...]
    shown: tuple[bool, ...]
    persistent: float
    drifts: bool


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A place that looks drawn in some pictures: its boxes by number of the picture, and peaks."""

    boxes: dict[int, Box]
    peaks: dict[int, float]

    @property
    def box(self) -> Box:
        corners = np.array(list(self.boxes.values()))
        low, high = corners.min(0), corners.max(0)
        return float(low[0]), float(low[1]), float(high[2]), float(high[3])


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
        maps = list(looked)
    places = drawn_places(maps)
    changes = deviation(grays)
    found: list[Candidate] = []
    taken: set[int] = set()
    for region in regions:
        near = [n for n, place in enumerate(places) if shared(place.box, region.box) > SAME_PLACE]
        taken |= {n for n in near if shared(places[n].box, region.box) > 0.7}
        found.append(_candidate(region, [places[n] for n in near], maps, members, len(fields), changes))
    found += [
        _candidate(None, [place], maps, members, len(fields), changes)
        for n, place in enumerate(places)
        if n not in taken
    ]
    return found


def drawn_places(maps: Sequence[NDArray[np.float32]]) -> list[_Drawn]:
    """Group what looks drawn in single pictures by its place, the most certain first."""
    places: list[_Drawn] = []
    for number, cells in enumerate(maps):
        high, wide = cells.shape
        mask = cv2.morphologyEx(
            (cells > DRAWN).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, 3), np.uint8)
        )
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for label in range(1, count):
            x, y, w, h, size = (int(value) for value in stats[label])
            if size < MIN_CELLS:
                continue
            box = (x / wide, y / high, (x + w) / wide, (y + h) / high)
            peak = float(cells[labels == label].max())
            old = next(
                (
                    p
                    for p in places
                    if any(shared(b, box) > SAME_PLACE for n, b in p.boxes.items() if n >= number - 4)
                ),
                None,
            )
            if old is None:
                old = next((p for p in places if shared(p.box, box) > 0.5), None)
            if old is None:
                old = _Drawn({}, {})
                places.append(old)
            seen = old.boxes.get(number)
            if seen is not None:
                box = (
                    min(box[0], seen[0]),
                    min(box[1], seen[1]),
                    max(box[2], seen[2]),
                    max(box[3], seen[3]),
                )
            old.boxes[number] = box
            old.peaks[number] = max(peak, old.peaks.get(number, 0.0))
    places.sort(key=lambda place: -sum(place.peaks.values()))
    return places[:8]


def _candidate(
    region: Region | None,
    places: Sequence[_Drawn],
    maps: Sequence[NDArray[np.float32]],
    members: Sequence[int],
    num_views: int,
    changes: NDArray[np.float32],
) -> Candidate:
    """Put together what both witnesses say of one place."""
    pictures = len(maps)
    peaks: dict[int, float] = {}
    for place in places:
        for number, peak in place.peaks.items():
            peaks[number] = max(peak, peaks.get(number, 0.0))
    if region is not None:
        box, weights = region.box, region.weights
        shown = [member >= 0 and bool(weights[member] > 0) for member in members]
        for number in range(pictures):
            if shown[number]:
                peaks[number] = max(_peak(maps[number], box), peaks.get(number, 0.0))
    else:
        box = places[0].box
        shown = [number in peaks for number in range(pictures)]
    sure = [peaks.get(number, 0.0) for number in range(pictures) if shown[number]] or [0.0]
    hit = [number for number, peak in peaks.items() if peak > DRAWN]
    scenes = len({members[number] for number in hit})
    boxes = np.array([b for place in places for b in place.boxes.values()] or [box])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    spread = middle.max(0) - middle.min(0)
    own_size = (boxes[:, 2:] - boxes[:, :2]).mean(0)
    x0, y0, x1, y1 = box
    values = (
        region.excess if region else 0.0,
        region.persistence if region else 0.0,
        region.chance if region else 1.0,
        region.length if region else 0.0,
        math.log1p(float(region.weights.sum())) if region else 0.0,
        max(region.alignment) if region else 1.0,
        float(np.mean(sure)),
        max(sure),
        len(hit) / pictures,
        math.log1p(scenes),
        float(np.mean([(cells > DRAWN).mean() for cells in maps])),
        math.log1p(num_views),
        math.sqrt((x1 - x0) * (y1 - y0)),
        x1 - x0,
        y1 - y0,
        min(x0, 1 - x1),
        min(y0, 1 - y1),
        abs(x0 + x1 - 1),
        (y0 + y1) / 2,
        *_settled([cells for cells, seen in zip(maps, shown, strict=True) if seen] or maps, box),
        *_changes(changes, box),
    )
    return Candidate(
        box=box, features=values,
        shown=tuple(a or peaks.get(n, 0.0) > DRAWN for n, a in enumerate(shown)),
        persistent=float((region.weights > 0).mean()) if region else 0.0,
        drifts=region is None and bool((spread > 1.5 * own_size).any()),
    )  # fmt: skip


def _settled(maps: Sequence[NDArray[np.float32]], box: Box) -> tuple[float, float, float]:
    """Return how drawn a place looks on average of some pictures: peak, mean and usual best cells."""
    high, wide = maps[0].shape
    y0, x0 = int(box[1] * high), int(box[0] * wide)
    y1, x1 = max(math.ceil(box[3] * high), y0 + 1), max(math.ceil(box[2] * wide), x0 + 1)
    parts = np.stack([cells[y0:y1, x0:x1] for cells in maps]).reshape(len(maps), -1)
    mean = parts.mean(0)
    best = np.quantile(parts, 0.75, axis=1)
    return float(mean.max()), float(mean.mean()), float(np.median(best))


def deviation(grays: Sequence[Gray]) -> NDArray[np.float32]:
    """Standard deviation over time of every fourth pixel of every fourth row, in grey levels."""
    pixels = np.stack([gray[::4, ::4] for gray in grays]).astype(np.float32)
    return np.asarray(pixels.std(axis=0), np.float32)


def _changes(changes: NDArray[np.float32], box: Box) -> tuple[float, float]:
    """Return the change of a place over time, relative to that of its surroundings, and the latter."""
    high, wide = changes.shape
    y0, x0 = int(box[1] * high), int(box[0] * wide)
    y1, x1 = max(math.ceil(box[3] * high), y0 + 1), max(math.ceil(box[2] * wide), x0 + 1)
    rim = max(3, min(y1 - y0, x1 - x0) // 2)
    outer = changes[max(0, y0 - rim) : y1 + rim, max(0, x0 - rim) : x1 + rim]
    inner = changes[y0:y1, x0:x1]
    pixels = outer.size - inner.size
    around = (float(outer.sum()) - float(inner.sum())) / pixels if pixels else float(inner.mean())
    return float(inner.mean()) / (around + 4), math.log1p(max(0.0, around))


def _peak(cells: NDArray[np.float32], box: Box) -> float:
    high, wide = cells.shape
    y0, y1 = int(box[1] * high), math.ceil(box[3] * high)
    x0, x1 = int(box[0] * wide), math.ceil(box[2] * wide)
    return float(cells[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].max(initial=0.0))


def shared(a: Box, b: Box) -> float:
    """Share of the smaller of two boxes that lies in the other."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / max(1e-9, min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)))
