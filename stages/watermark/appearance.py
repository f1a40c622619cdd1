"""Tell drawn overlays from scenes by the look of a single picture.

A small convolutional network, evaluated with numpy: text and logos that were drawn over a picture have
crisp, level, evenly coloured strokes; printed labels in a scene are soft, tilted and shaded.
``benchmarks/train_appearance.py`` trains it; the metadata of the weights say on which samples and seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Plane = NDArray[np.float32]
WEIGHTS_FILE = Path(__file__).with_name("appearance.safetensors")


@dataclass(frozen=True, slots=True)
class Layer:
    """Shape of one convolution."""

    inputs: int
    outputs: int
    side: int = 3
    stride: int = 1
    dilation: int = 1


LAYERS = (
    Layer(1, 8, stride=2),
    Layer(8, 16, stride=2),
    Layer(16, 24),
    Layer(24, 40, stride=2),
    Layer(40, 40, dilation=2),
    Layer(40, 40, dilation=3),
    Layer(40, 1, side=1),
)
STRIDE = 8
"""Pixels of the picture, along each side, for one cell of the answer."""


class Appearance:
    """The trained network."""

    def __init__(self, path: Path = WEIGHTS_FILE) -> None:
        self._parameters: list[tuple[Plane, Plane]] = []
        saved = load_file(path)
        for index, layer in enumerate(LAYERS):
            weight, bias = (saved[f"{index}.{name}"].astype(np.float32) for name in ("weight", "bias"))
            self._parameters.append((weight.reshape(layer.outputs, -1), bias))

    def probability(self, gray: NDArray[np.uint8]) -> Plane:
        """Return the probability of an overlay for every cell, ``[ceil(h / 8), ceil(w / 8)]``.

        Args:
            gray: luma ``[h, w]``, with a short side of about 216 pixels.
        """
        planes = np.asarray(gray[None], np.float32) / np.float32(64) - np.float32(2)
        for index, (layer, (weight, bias)) in enumerate(zip(LAYERS, self._parameters, strict=True)):
            planes = convolved(planes, layer, weight, bias)
            if index + 1 < len(LAYERS):
                np.maximum(planes, 0, out=planes)
        return np.asarray(1 / (1 + np.exp(-planes[0])), np.float32)


def convolved(planes: Plane, layer: Layer, weight: Plane, bias: Plane) -> Plane:
    """Convolve planes ``[c, h, w]`` as torch does with half padding.

    Args:
        weight: ``[outputs, inputs * side * side]``.
        bias: ``[outputs]``.
    """
    if layer.side == 1:
        _, height, width = planes.shape
        return (weight @ planes.reshape(layer.inputs, -1) + bias[:, None]).reshape(-1, height, width)
    return (_dense if layer.stride == 1 else _strided)(planes, layer, weight, bias)


def _strided(planes: Plane, layer: Layer, weight: Plane, bias: Plane) -> Plane:
    """Gather what each answer sees in a column, then multiply."""
    reach = layer.dilation * (layer.side // 2)
    _, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (reach, reach), (reach, reach)))
    rows, columns = -(-height // layer.stride), -(-width // layer.stride)
    taps = [
        padded[:, y : y + (rows - 1) * layer.stride + 1 : layer.stride,
               x : x + (columns - 1) * layer.stride + 1 : layer.stride]
        for y in range(0, layer.side * layer.dilation, layer.dilation)
        for x in range(0, layer.side * layer.dilation, layer.dilation)
    ]  # fmt: skip
    stacked = np.stack(taps, axis=1).reshape(-1, rows * columns)
    return (weight @ stacked + bias[:, None]).reshape(layer.outputs, rows, columns)


def _dense(planes: Plane, layer: Layer, weight: Plane, bias: Plane) -> Plane:
    """Multiply shifted views of padded rows that lie end to end, which takes two thirds of the time.

    The answers between the end of a row and the start of the next are cut off.
    """
    reach = layer.dilation * (layer.side // 2)
    _, height, width = planes.shape
    wide, high = width + 2 * reach, height + 2 * reach
    rows = np.zeros((layer.inputs, high * wide + 2 * reach), np.float32)
    rows[:, : high * wide].reshape(-1, high, wide)[:, reach:-reach, reach:-reach] = planes
    size, steps = height * wide, range(0, layer.side * layer.dilation, layer.dilation)
    stacked = np.concatenate([rows[:, y * wide : y * wide + size + 2 * reach] for y in steps])
    by_column = weight.reshape(layer.outputs, layer.inputs, layer.side, layer.side).transpose(3, 0, 2, 1)
    answer = np.repeat(bias[:, None], size, axis=1)
    for x, part in zip(steps, by_column, strict=True):
        answer += np.ascontiguousarray(part).reshape(layer.outputs, -1) @ stacked[:, x : x + size]
    return answer.reshape(layer.outputs, height, wide)[:, :, :width]
