"""Index of a memo: where each record lies, in 24 bytes a record.

A dictionary by keys takes 300 bytes a record, which for ten records a video is most of a driver's memory.
Keys are known by a 64-bit hash alone: who reads the record finds the whole key in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEW = 50_000
"""Records that wait in a dictionary before they are sorted into the arrays: about 12 MB."""
PLACE = np.dtype([("segment", np.uint32), ("length", np.uint32), ("offset", np.uint64)])


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a record.

    Attributes:
        segment: name of its file.
        offset: bytes of the file before it.
        length: its bytes, without the end of the line.
    """

    segment: str
    offset: int
    length: int


class MemoIndex:
    """Places of records by key; of several records under one key the first that was added."""

    def __init__(self) -> None:
        self._segments: dict[str, int] = {}
        self._names: list[str] = []
        self._hashes = np.empty(0, np.int64)
        """Sorted; ``_places`` lies beside it."""
        self._places = np.empty(0, PLACE)
        self._new: dict[int, tuple[int, int, int]] = {}

    def add(self, key: str, place: Place) -> None:
        """Add the place of a record."""
        if place.segment not in self._segments:
            self._segments[place.segment] = len(self._names)
            self._names.append(place.segment)
        self._new.setdefault(hash(key), (self._segments[place.segment], place.length, place.offset))
        if len(self._new) >= NEW:
            self._merge()

    def get(self, key: str) -> Place | None:
        """Return the place of a record, or None; for one key in 10^12 that of another one."""
        found = self._found(hash(key))
        if found is None:
            return None
        segment, length, offset = found
        return Place(self._names[segment], offset, length)

    def _found(self, mark: int) -> tuple[int, int, int] | None:
        at = int(self._hashes.searchsorted(mark))
        if at < len(self._hashes) and self._hashes[at] == mark:
            found: tuple[int, int, int] = self._places[at].item()
            return found
        return self._new.get(mark)

    def _merge(self) -> None:
        hashes = np.concatenate([self._hashes, np.fromiter(self._new, np.int64, len(self._new))])
        places = np.concatenate([self._places, np.array(list(self._new.values()), PLACE)])
        # Of equal ones the first, which was added earlier.
        self._hashes, first = np.unique(hashes, return_index=True)
        self._places = places[first]
        self._new.clear()
