"""Train the network that tells drawn overlays from scenes.

``python -m benchmarks.train_appearance STILLS --videos FILE...`` writes
``stages/watermark/appearance.json``. Random overlays (:mod:`benchmarks.overlays`) lie over
stills and over pictures of the given videos; printed labels in the scene are shown as what is no overlay.
None of these files should be among those that figures are reported for.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from benchmarks.footage import FPS, SIZES, Picture, graded_crop, read_footage
from benchmarks.overlays import KINDS, label, pasted, random_overlay
from stages.watermark.appearance import LAYERS, STRIDE, WEIGHTS_FILE
from stages.watermark.evidence import SIDE_PX

CROP = (128, 192)
COUNT = 48
"""Pictures of a film that stands for one picture: long enough for subtitles and cards to show up."""


def main() -> None:
    """Make samples, train, and write the weights."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_appearance", description=__doc__)
    parser.add_argument("stills", type=Path, help="folder of pictures")
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="footage without overlays")
    parser.add_argument("--samples", type=int, default=2400)
    parser.add_argument("--seconds", type=float, default=300, help="time to train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(arguments.seed)
    stills = [path.read_bytes() for path in sorted(arguments.stills.rglob("*.jpg"))]
    shots = [bytes(jpeg) for one in read_footage(arguments.videos) for jpeg in one.jpegs]
    started = time.perf_counter()
    made = [
        sample(rng, stills if not shots or rng.random() < 0.5 else shots) for _ in range(arguments.samples)
    ]
    pictures = torch.from_numpy(np.stack([picture for picture, _, _ in made]))
    targets = torch.from_numpy(np.stack([target for _, target, _ in made]))
    weights = torch.from_numpy(np.stack([weight for _, _, weight in made]))
    print(f"{len(made)} samples, {time.perf_counter() - started:.0f} s", flush=True)
    net = network()
    train(net, pictures, targets, weights, rng, arguments.seconds)
    save(net, arguments.out)


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


def train(
    net: nn.Sequential,
    pictures: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    rng: Generator,
    seconds: float,
) -> None:
    """Fit to the targets for some time, with a rate that falls to zero; the last tenth is held out."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-3)
    held = len(pictures) // 10
    fit = len(pictures) - held
    started, step, shown = time.perf_counter(), 0, 0.0
    while (spent := (time.perf_counter() - started) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 30) * (1 - spent)
        chosen = torch.from_numpy(rng.integers(0, fit, 16))
        batch = pictures[chosen].float() / 64 - 2
        truth, weight = targets[chosen].float(), weights[chosen].float()
        if rng.random() < 0.5:
            batch = -batch
        logits = net(batch[:, None])[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth, weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        step += 1
        if spent >= shown:
            shown += 0.1
            with torch.no_grad():
                logits = torch.cat(
                    [net(part[:, None].float() / 64 - 2)[:, 0] for part in torch.split(pictures[fit:], 32)]
                )
            truth, known = targets[fit:] > 0, weights[fit:] > 0
            hit = ((logits > 0) & truth & known).sum() / (truth & known).sum()
            false = ((logits > 0) & ~truth & known).sum() / (~truth & known).sum()
            print(
                f"step {step}, loss {loss.item():.4f}, held out: found {hit:.3f}, false {false:.4f}",
                flush=True,
            )


def save(net: nn.Sequential, path: Path) -> None:
    """Write weights and biases as half floats."""
    convolutions = [part for part in net if isinstance(part, nn.Conv2d)]
    content = [
        {
            name: base64.b64encode(value.detach().numpy().astype("<f2").tobytes()).decode()
            for name, value in part.named_parameters()
        }
        for part in convolutions
    ]
    path.write_text(json.dumps(content, indent=1) + "\n")


def sample(
    rng: Generator, sources: Sequence[bytes]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """A grey crop, its target and its weight at the network's stride."""
    jpeg = np.frombuffer(sources[int(rng.integers(len(sources)))], np.uint8)
    source = np.asarray(cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    picture: Picture = graded_crop(rng, source, width, height)
    if rng.random() < 0.35:
        plate = label(rng, min(width, height))
        free = np.maximum([width - plate.shape[1], height - plate.shape[0]], 0)
        x, y = (rng.random(2) * free).astype(int)
        picture = pasted(picture, plate, (int(x), int(y)))
    alpha = np.zeros((height, width), np.float32)
    opacity = 1.0
    if rng.random() < 0.6:
        overlay = random_overlay(rng, str(rng.choice(KINDS)), width, height, COUNT, FPS)
        opacity = overlay.opacity
        index = next(
            (int(i) for i in rng.permutation(COUNT) if any(track(int(i)) for _, track in overlay.stamps)), 0
        )
        black, white = (overlay.draw(np.full_like(picture, level), index) for level in (0, 255))
        # The plate of a title card is no ink.
        alpha = 1 - (white.astype(np.float32) - black).mean(2) / 255
        if overlay.kind == "title_card" and alpha.min() > 0.1:
            alpha = np.abs(black.astype(np.float32) - np.median(black, (0, 1))).max(2) / 255
        picture = overlay.draw(picture, index)
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 92))])
    gray = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    scale = min(1.0, SIDE_PX / min(width, height))
    size = (round(width * scale), round(height * scale))
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    ink = cv2.resize((alpha > 0.12 * opacity + 0.02).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    ink = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((5, 9), np.uint8))
    return _cut(rng, gray, ink, faint=opacity < 0.3)


def _cut(
    rng: Generator, gray: NDArray[np.uint8], ink: NDArray[np.float32], *, faint: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """A crop of a picture, mostly around its overlay, with the target of every cell."""
    high, wide = CROP
    gray = np.pad(gray, ((0, max(0, high - gray.shape[0])), (0, max(0, wide - gray.shape[1]))), mode="edge")
    ink = np.pad(ink, ((0, gray.shape[0] - ink.shape[0]), (0, gray.shape[1] - ink.shape[1])))
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(gray.shape, CROP, strict=True))
    rows, columns = np.nonzero(ink > 0.3)
    if len(rows) and rng.random() < 0.7:
        k = int(rng.integers(len(rows)))
        top = int(np.clip(rows[k] - rng.integers(high), 0, gray.shape[0] - high))
        left = int(np.clip(columns[k] - rng.integers(wide), 0, gray.shape[1] - wide))
    gray, ink = gray[top : top + high, left : left + wide], ink[top : top + high, left : left + wide]
    cells = cv2.resize(ink, (wide // STRIDE, high // STRIDE), interpolation=cv2.INTER_AREA)
    target = (cells > 0.25).astype(np.uint8)
    # Cells at the rim of an overlay, and marks that are hardly seen, teach nothing.
    near = cv2.dilate(target, np.ones((3, 3), np.uint8))
    weight = ((near == target) & ((cells < 0.02) | (cells > 0.25))).astype(np.uint8)
    if faint:
        weight[near > 0] = 0
    return gray, target, weight


if __name__ == "__main__":
    main()
