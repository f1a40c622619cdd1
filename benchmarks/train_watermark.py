"""Train the network that scores candidates.

``python -m benchmarks.train_watermark --videos FILE... --stills FOLDER --examples FILE`` writes
``stages/watermark/head.json``. Films are made as :mod:`benchmarks.watermark` makes them, from other
footage and of seeds below 1000; stills become shots by a slow pan or zoom. None of these files should be
among those that figures are reported for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from benchmarks.footage import FPS, Footage, Picture, random_film, read_footage, worth_showing
from benchmarks.overlays import Box, random_overlay
from benchmarks.watermark import HARD, Case, hard_film, planned
from stages.watermark.appearance import Appearance
from stages.watermark.evidence import FEATURES, HEAD_FILE, SIDE_PX, Gray, candidates, shared

HIDDEN = 12
PRIOR = -2.2
"""Added to the log odds: every second film of the examples has an overlay, in practice few have. The score
of 0.5 is one of 0.9 on the examples. The films must be of footage that the appearance network was not
trained on, or the head trusts it too much."""
STILL_PICTURES = 14


def main() -> None:
    """Make films, gather candidates, train, and write the weights."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_watermark", description=__doc__)
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    parser.add_argument("--stills", type=Path)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--examples", type=Path, required=True, help="candidates; made if it is not there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.examples.exists():
        context = multiprocessing.get_context("spawn")
        cases = planned(arguments.seed, arguments.films)
        with (
            context.Pool(arguments.workers, _open, (arguments.videos, arguments.stills)) as pool,
            arguments.examples.open("w") as out,
        ):
            for found in pool.imap(_examples, cases, chunksize=2):
                out.writelines(f"{json.dumps(one)}\n" for one in found)
    rows = [json.loads(line) for line in arguments.examples.read_text().splitlines()]
    fit(rows)


def fit(rows: Sequence[dict[str, object]]) -> None:
    """Fit the head; a fifth of the films is held out first to tell how well it does."""
    torch.manual_seed(0)
    x = torch.tensor([row["features"] for row in rows], dtype=torch.float32)
    y = torch.tensor([float(bool(row["overlay"])) for row in rows])
    known = torch.tensor([row["overlay"] is not None for row in rows])
    case = torch.tensor([int(str(row["case"])) for row in rows])
    mean, scale = x.mean(0), x.std(0) + 1e-3
    x = (x - mean) / scale
    for held in (case % 5 == 0, torch.zeros_like(known)):
        net = nn.Sequential(nn.Linear(len(FEATURES), HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
        optimiser = torch.optim.AdamW(net.parameters(), lr=2e-2, weight_decay=3e-2)
        chosen = known & ~held
        for step in range(600):
            for group in optimiser.param_groups:
                group["lr"] = 2e-2 * (1 - step / 600)
            noisy = x[chosen] + 0.1 * torch.randn_like(x[chosen])
            loss = nn.functional.binary_cross_entropy_with_logits(net(noisy)[:, 0], y[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if held.any():
            with torch.no_grad():
                report(rows, torch.sigmoid(net(x)[:, 0]).numpy(), held.numpy())
    first, last = net[0], net[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    saved = {
        "mean": mean.tolist(), "scale": scale.tolist(), "in": first.weight.tolist(),
        "bias": first.bias.tolist(), "out": last.weight[0].tolist(), "offset": last.bias.item() + PRIOR,
    }  # fmt: skip
    rounded = json.loads(json.dumps(saved), parse_float=lambda text: round(float(text), 5))
    HEAD_FILE.write_text(json.dumps(rounded) + "\n")


def report(rows: Sequence[dict[str, object]], scores: NDArray[np.float32], held: NDArray[np.bool_]) -> None:
    """Print recall and false findings of the held-out films at some thresholds."""
    films: dict[str, list[tuple[float, object]]] = {}
    about: dict[str, tuple[str, float]] = {}
    for row, score, out in zip(rows, scores, held, strict=True):
        if out:
            real = row["features"] != [0.0] * len(FEATURES)
            films.setdefault(str(row["film"]), []).append((float(score) if real else 0.0, row["overlay"]))
            about[str(row["film"])] = (str(row["kind"]), float(str(row["opacity"])))
    for threshold in (0.3, 0.5, 0.7, 0.9):
        parts: dict[str, list[bool]] = {}
        for film, found in films.items():
            kind, opacity = about[film]
            if opacity and opacity < 0.4:
                continue
            wanted = [score for score, overlay in found if not opacity or overlay]
            parts.setdefault(kind, []).append(max(wanted, default=0.0) > threshold)
        print(threshold, {kind: f"{sum(hits)}/{len(hits)}" for kind, hits in sorted(parts.items())})


_footage: list[Footage] = []
_appearance: Appearance


def _open(videos: list[Path], stills: Path | None) -> None:
    global _appearance
    cv2.setNumThreads(1)
    _appearance = Appearance()
    _footage.extend(read_footage(videos))
    if stills:
        rng = np.random.default_rng(7)
        folders = sorted(path for path in stills.iterdir() if path.is_dir())
        for folder in (folders[int(n)] for n in rng.permutation(len(folders))[:60]):
            _footage.extend(still_shot(rng, path) for path in sorted(folder.glob("*.jpg")))


def still_shot(rng: Generator, path: Path) -> Footage:
    """A still as a shot: under a slow pan and zoom, or unmoved."""
    picture = cv2.imread(str(path))
    assert picture is not None
    side = min(picture.shape[:2])
    moves = rng.random() < 0.6
    begin, end = rng.random((2, 2)), rng.random((2, 2))
    jpegs = []
    for number in range(STILL_PICTURES):
        share = number / STILL_PICTURES if moves else 0.0
        zoom, at = ((1 - share) * begin + share * end)[0, 0], ((1 - share) * begin + share * end)[1]
        part = side * (0.8 + 0.2 * zoom)
        corner = at * (np.array(picture.shape[:2]) - part)
        matrix = np.array(
            [[400 / part, 0, -corner[1] * 400 / part], [0, 400 / part, -corner[0] * 400 / part]]
        )
        shot = cv2.warpAffine(picture, matrix, (400, 400), flags=cv2.INTER_CUBIC)
        jpegs.append(cv2.imencode(".jpg", shot)[1])
    return Footage(name=path.name, group=str(path.parent), jpegs=jpegs)


def _examples(case: Case) -> list[dict[str, object]]:
    rng = np.random.default_rng([case.seed, case.number])
    if case.kind in HARD:
        film = hard_film(rng, _footage, case.kind)
        return _rows(case, "hard", film, None, 0.0, rng)
    film = random_film(rng, _footage, int(rng.choice([1, 2, 3, 4, 5, 6])))
    while not worth_showing(film):
        film = random_film(rng, _footage, 2)
    height, width = film[0].shape[:2]
    overlay = random_overlay(rng, case.kind, width, height, len(film), FPS)
    covered = [overlay.draw(picture, index) for index, picture in enumerate(film)]
    box = overlay.box(width, height, len(film))
    plain = _rows(case, "untouched", film, None, 0.0, rng)
    return plain + _rows(case, case.kind, covered, box, overlay.opacity, rng)


def _rows(
    case: Case, kind: str, film: Sequence[Picture], box: Box | None, opacity: float, rng: Generator
) -> list[dict[str, object]]:
    quality = int(rng.integers(35, 85))
    rows: list[dict[str, object]] = []
    for one in candidates([_gray(picture, quality) for picture in film[::2]], _appearance):
        covers = shared(one.box, box) if box is not None else 0.0
        # A candidate that touches the overlay a little is neither.
        truth = True if covers > 0.5 else False if covers == 0 else None
        rows.append({
            "case": case.number, "film": f"{case.number}-{kind}", "kind": kind, "opacity": opacity,
            "overlay": truth, "features": one.features,
        })  # fmt: skip
    # Films without candidates count too.
    rows.append({"case": case.number, "film": f"{case.number}-{kind}", "kind": kind, "opacity": opacity,
                 "overlay": None, "features": [0.0] * len(FEATURES)})  # fmt: skip
    return rows


def _gray(picture: Picture, quality: int) -> Gray:
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    gray = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    assert gray is not None
    scale = min(1.0, SIDE_PX / min(gray.shape))
    size = (round(gray.shape[1] * scale), round(gray.shape[0] * scale))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    main()
