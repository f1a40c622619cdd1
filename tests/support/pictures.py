"""Pictures of known content."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def clock() -> Image:
    image: Image = np.full((300, 300, 3), (180, 200, 210), np.uint8)
    cv2.circle(image, (150, 150), 120, (20, 20, 20), -1, cv2.LINE_AA)
    cv2.circle(image, (150, 150), 110, (250, 250, 250), -1, cv2.LINE_AA)
    for hour in range(1, 13):
        angle, text = hour * math.pi / 6, str(hour)
        place = (int(150 + 88 * math.sin(angle) - 9 * len(text)), int(158 - 88 * math.cos(angle)))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2, cv2.LINE_AA)
    cv2.line(image, (150, 150), (150, 85), (0, 0, 0), 5, cv2.LINE_AA)
    cv2.line(image, (150, 150), (200, 170), (0, 0, 0), 7, cv2.LINE_AA)
    return image
