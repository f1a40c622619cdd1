"""Places that look drawn in single pictures, followed through a window of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.records import Box
from stages.watermark.extent import Gray, lasting, snapped

Cells = NDArray[np.float32]

DRAWN = 0.5
"""Probability from which a cell of a picture looks drawn."""
SAME_PLACE = 0.25
"""Share of the smaller of two boxes from which they are one place."""
MEMORY = 4
"""Pictures for which a place that moves is remembered."""
MIN_CELLS, MAX_PLACES = 2, 8
"""Cells of a place in one picture, at least; places of a window, at most, the most certain first."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A place that looks drawn in some pictures.

    Attributes:
        boxes: by the number of the picture, as fractions.
        peaks: probability of its most certain cell, likewise.
        cells: number of its drawn cells, likewise.
    """

    boxes: dict[int, Box]
    peaks: dict[int, float]
    cells: dict[int, int]

    @property
    def box(self) -> Box:
        """Box of the drawing, see :func:`stages.watermark.extent.lasting`."""
        return lasting(self.boxes.values())

    @property
    def around(self) -> Box:
        """The smallest box around all of its boxes."""
        corners = np.array(list(self.boxes.values()))
        low, high = corners.min(0), corners.max(0)
        return float(low[0]), float(low[1]), float(high[2]), float(high[3])

    def lies_at(self, box: Box) -> bool:
        """Return whether most of its boxes share a place with a box; one that travels past does not."""
        near = sum(shared(own, box) > SAME_PLACE for own in self.boxes.values())
        return 2 * near > len(self.boxes)

    def snapped(self, grays: Sequence[Gray]) -> Drawn:
        """Return the place with its boxes to the pixel, given all pictures."""
        return replace(self, boxes={n: snapped(box, grays[n]) for n, box in self.boxes.items()})

    def add(self, number: int, box: Box, peak: float, cells: int) -> None:
        """Record a part of the place in a picture."""
        seen = self.boxes.get(number, box)
        low, high = np.minimum(box, seen), np.maximum(box, seen)
        self.boxes[number] = (float(low[0]), float(low[1]), float(high[2]), float(high[3]))
        self.peaks[number] = max(peak, self.peaks.get(number, 0.0))
        self.cells[number] = cells + self.cells.get(number, 0)


def drawn_places(maps: Sequence[Cells]) -> list[Drawn]:
    """Group what looks drawn in single pictures by its place, the most certain first.

    Args:
        maps: of each picture, probability that a cell is drawn, ``[rows, columns]``.
    """
    places: list[Drawn] = []
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
            place = _same(places, number, box)
            if place is None:
                place = Drawn({}, {}, {})
                places.append(place)
            place.add(number, box, float(cells[labels == label].max()), size)
    places.sort(key=lambda place: -sum(place.peaks.values()))
    return places[:MAX_PLACES]


def _same(places: Sequence[Drawn], number: int, box: Box) -> Drawn | None:
    """The place that a box in a picture belongs to: one that was near it lately, or around it before."""
    for place in places:
        if any(shared(old, box) > SAME_PLACE for n, old in place.boxes.items() if n >= number - MEMORY):
            return place
    return next((place for place in places if shared(place.around, box) > 2 * SAME_PLACE), None)


def shared(a: Box, b: Box) -> float:
    """Return the share of the smaller of two boxes that lies in the other."""
    return _overlap(a, b) / max(1e-9, min(_area(a), _area(b)))


def covered(a: Box, b: Box) -> float:
    """Return the share of the first of two boxes that lies in the second."""
    return _overlap(a, b) / max(1e-9, _area(a))


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def highest(values: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the highest value of each picture."""
    found: dict[int, float] = {}
    for one in values:
        for number, value in one.items():
            found[number] = max(value, found.get(number, value))
    return found
