"""Text in pictures, through RapidOCR (PP-OCR, Apache-2.0, on ONNX Runtime)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SIDE_PX = 384
"""Long side above which a picture is scaled down before lines are looked for; they are read at full size.

Overlays drawn on 48 pictures were read as well as at 640 pixels, in 0.7 to 0.8 of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBox:
    """Line of text; ``box`` is (x0, y0, x1, y1) as fractions of the picture."""

    text: str
    box: tuple[float, float, float, float]
    score: float


class TextReader:
    """Reader of the lines of text in a picture.

    Args:
        threads: fixed, so that results are the same wherever they are computed.
    """

    name = "rapidocr-ppocrv6"

    def __init__(self, *, threads: int) -> None:
        # It takes seconds and 100 MB, so a process that reads no text is spared it.
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self._engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                # By default small pictures are scaled up to a short side of 736 pixels: a strip of
                # 480 x 80 pixels then takes 5 s in place of 0.06 s.
                "Det.limit_type": "max",
                "Det.limit_side_len": MAX_SIDE_PX,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def read(self, image: NDArray[np.uint8]) -> list[TextBox]:
        """Return the lines in a BGR picture ``[h, w, 3]``, top to bottom."""
        found = self._engine(image, use_cls=False)
        if found.boxes is None or found.txts is None or found.scores is None:
            return []
        height, width = image.shape[:2]
        scale = np.array([width, height], np.float32)
        return [
            TextBox(text=text, box=_corners(np.asarray(quad) / scale), score=float(score))
            for quad, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        ]


def _corners(quad: NDArray[np.floating[Any]]) -> tuple[float, float, float, float]:
    low, high = quad.min(axis=0).clip(0, 1), quad.max(axis=0).clip(0, 1)
    return (
        round(float(low[0]), 4), round(float(low[1]), 4),
        round(float(high[0]), 4), round(float(high[1]), 4),
    )  # fmt: skip
