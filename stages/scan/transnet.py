"""Shots by TransNetV2; see :mod:`models.transnet`."""

from __future__ import annotations

from collections.abc import Iterable

from models.media import Frame, Scaler
from models.transnet import SIZE, TransNet
from stages.records import Interval
from stages.scan.shots import Boundaries, ShotSettings, spaced

MIN_GRADUAL_S = 0.2
"""A shorter transition is a hard cut."""


class TransNetShots:
    """Cuts and gradual transitions by TransNetV2."""

    def __init__(self, settings: ShotSettings) -> None:
        self._confidence, self._min_shot_s = settings.cut_confidence, settings.min_shot_s
        self._scale = Scaler(*SIZE)
        self._network = TransNet()
        self._times_s: list[float] = []
        self._ratings: list[tuple[float, float]] = []

    def add(self, frame: Frame) -> None:
        """See :meth:`stages.scan.shots.ShotFinder.add`."""
        self._times_s.append(frame.time_s)
        self._ratings += self._network.add(self._scale(frame.picture)[:, :, ::-1])

    def result(self) -> Boundaries:
        """See :meth:`stages.scan.shots.ShotFinder.result`."""
        self._ratings += self._network.finish()
        cuts_s, transitions = [], []
        for first, last in self._runs():
            after = min(last + 1, len(self._times_s) - 1)
            if self._times_s[after] - self._times_s[first] < MIN_GRADUAL_S:
                cuts_s.append(self._times_s[after])
            else:
                transitions.append(Interval(start_s=self._times_s[first], end_s=self._times_s[after]))
        alike = [(time_s, 0.0) for time_s in cuts_s]
        cuts_s = [time_s for time_s, _ in spaced(alike, self._min_shot_s)]
        return Boundaries(cuts_s=cuts_s, transitions=transitions)

    def _runs(self) -> Iterable[tuple[int, int]]:
        """First and last picture of every run that is part of a transition."""
        start: int | None = None
        for index, (last, part) in enumerate([*self._ratings, (0.0, 0.0)]):
            inside = max(last, part) > self._confidence
            if inside and start is None:
                start = index
            elif not inside and start is not None:
                if any(rating[0] > self._confidence for rating in self._ratings[start:index]):
                    yield start, index - 1
                start = None
