"""Train the network that tells drawn overlays from scenes.

``python -m benchmarks.train_appearance --samples FILE`` writes ``stages/watermark/appearance.safetensors``.
Random overlays (:mod:`benchmarks.overlays`) lie over stills and over pictures of videos
(:data:`benchmarks.footage.APPEARANCE_VIDEOS`); printed labels in the scene are examples without an overlay.
Every second source of stills is left to :mod:`benchmarks.train_watermark`. The same arguments and files
give the same weights. The files must not be among those that figures are reported for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from benchmarks.commands import parser_of
from benchmarks.footage import (
    APPEARANCE_VIDEOS,
    FPS,
    SIZES,
    Picture,
    data_files,
    graded_crop,
    read_footage,
    still_files,
)
from benchmarks.overlays import KINDS, Overlay, label, pasted, random_overlay
from stages.watermark.appearance import LAYERS, STRIDE, WEIGHTS_FILE
from stages.watermark.evidence import SIDE_PX

Plane = NDArray[np.uint8]
CROP = (128, 192)
AROUND = (True, True, False, False)
"""Samples of one picture: around its overlay, or anywhere."""
COUNT = 48
"""Pictures of a film that stands for one picture: long enough for subtitles and cards to appear."""
BATCH = 16
RATE = 4e-3
STILL_PX = 720
"""Short side to which stills are reduced; parts of them are shown at several scales."""


def main() -> None:
    """Make samples, train, and write the weights."""
    parser = parser_of("train_appearance", __doc__)
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="more footage without overlays")
    parser.add_argument("--stills", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--pictures", type=int, default=6_000, help="four samples are cut from each")
    parser.add_argument("--steps", type=int, default=9_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, required=True, help="made if it does not exist")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    cv2.setNumThreads(1)
    if not arguments.samples.exists():
        videos = [*data_files(APPEARANCE_VIDEOS), *arguments.videos]
        made = samples(arguments.seed, videos, arguments.stills, arguments.pictures)
        np.save(arguments.samples, made)
    made = np.load(arguments.samples, mmap_mode="r")
    net = network()
    train(net, made, np.random.default_rng(arguments.seed), arguments.steps)
    save(net, arguments.out, f"{len(made)} samples, {arguments.steps} steps, seed {arguments.seed}")


def samples(seed: int, videos: Sequence[Path], stills: Sequence[Path], count: int) -> NDArray[np.uint8]:
    """Make samples ``[4 * count, 160, 192]``: a crop of 128 rows, then its target and its weights."""
    rng = np.random.default_rng(seed)
    sources = [
        [_reduced(path) for path in still_files(folder, head=False)] for folder in stills
    ] * 2 + [[bytes(jpeg) for one in read_footage(videos) for jpeg in one.jpegs]]  # fmt: skip
    started = time.perf_counter()
    rows, columns = (side // STRIDE for side in CROP)
    made = np.zeros((len(AROUND) * count, CROP[0] + 2 * rows, CROP[1]), np.uint8)
    for number in range(count):
        chosen = sources[int(rng.integers(len(sources)))]
        for place, (gray, target, weight) in enumerate(sample(rng, chosen)):
            one = made[len(AROUND) * number + place]
            one[: CROP[0]] = gray
            one[CROP[0] : CROP[0] + rows, :columns], one[CROP[0] + rows :, :columns] = target, weight
    print(f"{len(made)} samples, {time.perf_counter() - started:.0f} s", flush=True)
    return made


def _reduced(path: Path) -> bytes:
    picture = cv2.imread(str(path))
    assert picture is not None
    scale = min(1.0, STILL_PX / min(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def network() -> nn.Sequential:
    """The layers of :mod:`stages.watermark.appearance` in torch."""
    parts: list[nn.Module] = []
    for index, layer in enumerate(LAYERS):
        pad = layer.dilation * (layer.side // 2)
        parts.append(
            nn.Conv2d(layer.inputs, layer.outputs, layer.side, layer.stride, pad, dilation=layer.dilation)
        )
        if index + 1 < len(LAYERS):
            parts.append(nn.ReLU())
    return nn.Sequential(*parts)


def train(net: nn.Sequential, made: NDArray[np.uint8], rng: Generator, steps: int) -> None:
    """Fit to the samples with a rate that falls to zero; the last twentieth is held out and reported."""
    # A step takes two thirds of the time so.
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-3)
    fit = len(made) - len(made) // 20
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 30) * (1 - step / steps)
        picture, target, weight = batch(made[np.sort(rng.integers(0, fit, BATCH))])
        # Other contrast and brightness, and light for dark.
        shape = (len(picture), 1, 1)
        gain = rng.uniform(0.6, 1.2, shape) * rng.choice([-1, 1], shape)
        picture = picture * torch.from_numpy(gain).float()
        picture += torch.from_numpy(rng.uniform(-0.3, 0.3, shape)).float()
        loss = nn.functional.binary_cross_entropy_with_logits(net(picture[:, None])[:, 0], target, weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        if step % (steps // 10) == 0 or step == steps - 1:
            print(f"step {step}, loss {loss.item():.4f}, {held_out(net, made[fit:])}", flush=True)


def batch(made: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return pictures ``[n, 128, 192]``, scaled, and targets and weights ``[n, 16, 24]``."""
    rows, columns = (side // STRIDE for side in CROP)
    data = torch.from_numpy(np.array(made)).float()
    below = data[:, CROP[0] :, :columns]
    return data[:, : CROP[0]] / 64 - 2, below[:, :rows], below[:, rows:]


def held_out(net: nn.Sequential, made: NDArray[np.uint8]) -> str:
    """Return the shares of cells found and of false ones at two thresholds, in words."""
    with torch.no_grad():
        parts = [batch(part) for part in np.array_split(made, max(1, len(made) // 32))]
        logits = torch.cat([net(picture[:, None])[:, 0] for picture, _, _ in parts])
    truth, known = (torch.cat([part[n] for part in parts]) > 0 for n in (1, 2))
    found = [float(((logits > least) & truth & known).sum() / (truth & known).sum()) for least in (0, 2)]
    false = [float(((logits > least) & ~truth & known).sum() / (~truth & known).sum()) for least in (0, 2)]
    return f"found {found[0]:.3f} and {found[1]:.3f}, false {false[0]:.5f} and {false[1]:.5f}"


def save(net: nn.Sequential, path: Path, note: str) -> None:
    """Write weights and biases as half floats, with a note of how they were made."""
    convolutions = [part for part in net if isinstance(part, nn.Conv2d)]
    tensors = {
        f"{index}.{name}": np.ascontiguousarray(value.detach().numpy(), np.float16)
        for index, part in enumerate(convolutions)
        for name, value in part.named_parameters()
    }
    save_file(tensors, path, {"made": note})


def sample(rng: Generator, sources: Sequence[bytes]) -> list[tuple[Plane, Plane, Plane]]:
    """Return grey crops of one picture, see ``AROUND``, each with target and weight of every cell."""
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    # The detector looks at averages of scenes too.
    count = 1 if rng.random() < 0.85 else int(rng.integers(2, 6))
    chosen = [sources[int(rng.integers(len(sources)))] for _ in range(count)]
    scenes = [_scene(rng, jpeg, width, height) for jpeg in chosen]
    picture = np.asarray(np.rint(np.mean(scenes, axis=0)), np.uint8) if count > 1 else scenes[0]
    ink = np.zeros((height, width), np.float32)
    opacity = 1.0
    if rng.random() < 0.65:
        overlay = random_overlay(rng, str(rng.choice(KINDS)), width, height, COUNT, FPS)
        opacity = overlay.opacity
        index = next(
            (int(i) for i in rng.permutation(COUNT) if any(track(int(i)) for _, track in overlay.stamps)), 0
        )
        ink = _ink(overlay, index, picture.shape)
        picture = overlay.draw(picture, index)
    quality = int(rng.integers(30, 92))
    _, coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    gray = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    assert gray is not None
    scale = min(1.0, SIDE_PX / min(width, height))
    size = (round(width * scale), round(height * scale))
    gray = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    ink = np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA), np.float32)
    ink = np.asarray(cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((5, 9), np.uint8)), np.float32)
    return [_cut(rng, gray, ink, around=around, faint=opacity < 0.3) for around in AROUND]


def _scene(rng: Generator, jpeg: bytes, width: int, height: int) -> Picture:
    """A part of a picture at that size, often with printed labels in it."""
    source = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert source is not None
    source = np.asarray(source[..., ::-1], np.uint8)
    side = min(source.shape[:2])
    if side > 400:
        # Of a large still, a part at any scale.
        part = int(np.exp(rng.uniform(np.log(300), np.log(side))))
        top, left = (int(rng.integers(0, n - part + 1)) for n in source.shape[:2])
        source = source[top : top + part, left : left + part]
    picture = graded_crop(rng, source, width, height)
    while rng.random() < 0.35:
        plate = label(rng, min(width, height))
        free = np.maximum([width - plate.shape[1], height - plate.shape[0]], 0)
        x, y = (rng.random(2) * free).astype(int)
        picture = pasted(picture, plate, (int(x), int(y)))
    return picture


def _ink(overlay: Overlay, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return where an overlay covers a picture, ``[h, w]``, 0 or 1; the plate of a card is no ink."""
    black, white = (overlay.draw(np.full(shape, level, np.uint8), index) for level in (0, 255))
    alpha = 1 - (white.astype(np.float32) - black).mean(2) / 255
    if overlay.kind == "title_card" and alpha.min() > 0.1:
        alpha = np.abs(black.astype(np.float32) - np.median(black, (0, 1))).max(2) / 255
    return np.asarray(alpha > 0.12 * overlay.opacity + 0.02, np.float32)


def _cut(
    rng: Generator, gray: Plane, ink: NDArray[np.float32], *, around: bool, faint: bool
) -> tuple[Plane, Plane, Plane]:
    """A crop of a picture, around its overlay or anywhere, with target and weight of every cell."""
    high, wide = CROP
    gray = np.pad(gray, ((0, max(0, high - gray.shape[0])), (0, max(0, wide - gray.shape[1]))), mode="edge")
    ink = np.pad(ink, ((0, gray.shape[0] - ink.shape[0]), (0, gray.shape[1] - ink.shape[1])))
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(gray.shape, CROP, strict=True))
    rows, columns = np.nonzero(ink > 0.3)
    if len(rows) and around:
        k = int(rng.integers(len(rows)))
        top = int(np.clip(rows[k] - rng.integers(high), 0, gray.shape[0] - high))
        left = int(np.clip(columns[k] - rng.integers(wide), 0, gray.shape[1] - wide))
    gray, ink = gray[top : top + high, left : left + wide], ink[top : top + high, left : left + wide]
    cells = cv2.resize(ink, (wide // STRIDE, high // STRIDE), interpolation=cv2.INTER_AREA)
    target = (cells > 0.25).astype(np.uint8)
    # Cells that an overlay touches a little are neither. Those beside it count: without them, boxes were
    # a cell too large.
    weight = ((cells < 0.02) | (cells > 0.25)).astype(np.uint8)
    if faint:
        # Marks that are hardly seen would teach false ones.
        weight[cv2.dilate(target, np.ones((3, 3), np.uint8)) > 0] = 0
    return gray, target, weight


if __name__ == "__main__":
    main()
