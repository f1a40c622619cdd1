"""Measure how well overlays are found: ``python -m benchmarks.watermark --seed N [--videos DIR]``.

Films of one to six stretches of real footage are made, cropped, scaled and graded at random, and every film
is judged twice by the product's own stages (probe, scan, clip, watermark, with the default configuration):
with a random overlay, and untouched. Films without overlays that look as if they had one are judged
beside them. Only pictures at 4 a second are written, as small H.264 files.

- ``recall``: share of the films with an overlay of at least 40 % opacity in which it was found: some
  finding scores above the threshold and meets the overlay's box.
- ``false_reject_rate``: share of the untouched and of the hard films with a finding above the threshold.
- ``precision``: found overlays, over these and the false ones.
- ``box_iou``: mean overlap over union of the box found and the true one, where found.

Seeds below 1000 are for development. Seeds of reported figures start at 1000.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

from benchmarks.footage import (
    FPS,
    SIDE_PX,
    Footage,
    Picture,
    random_film,
    read_footage,
    video_files,
    worth_showing,
)
from benchmarks.machine import machine, markdown
from benchmarks.overlays import KINDS, Box, label, pasted, random_overlay
from models.language import Endpoint
from models.media import write_video
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.platform.memo import Memo
from stages.base import Stage, Workspace
from stages.records import Transcript, Video
from stages.watermark.stage import box_iou

MIN_OPACITY = 0.4
FOLDERS = ("clips", "real", "recipes", "scenes")
OVERLAID = ("dj1.mp4", "dj2.mp4", "testvideo.mp4", "fades.mp4")
"""Files of the default folders that have overlays of their own, or show nothing."""
HARD = ("busy_middle", "two_cameras", "label_still", "label_moving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One film to make and judge: ``kind`` is an overlay's, or one of ``HARD``."""

    seed: int
    number: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Verdict on one film.

    Attributes:
        kind: of the overlay laid over it; ``untouched``, or a kind of hard film.
        opacity: of the overlay; 0 without one.
        box: of the overlay; None without one.
        score: of its strongest finding, of those that meet the box if there is one.
        found_kind: the kind that the finding names.
        iou: of the finding's box with the true one.
        flagged: whether the score is above the threshold.
    """

    case: int
    kind: str
    behaviour: str
    opacity: float
    shots: int
    box: Box | None
    score: float
    found_kind: str
    iou: float
    flagged: bool


def main() -> None:
    """Make and judge the films, print tables, then one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watermark", description=__doc__)
    parser.add_argument("--seed", type=int, default=1000, help="of films and overlays")
    parser.add_argument("--videos", type=Path, help="footage without overlays (default: VIDEOAUTEUR_DATA)")
    parser.add_argument("--skip", nargs="*", default=OVERLAID, help="names of files that have overlays")
    parser.add_argument("--clips", type=int, default=300, help="films with an overlay")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--out", type=Path, help="write every film's judgement here, one JSON object a line"
    )
    arguments = parser.parse_args()
    data = os.environ.get("VIDEOAUTEUR_DATA")
    if arguments.videos is None and data is None:
        parser.error("give --videos, or set VIDEOAUTEUR_DATA to the folder of trial data")
    folders = [arguments.videos] if arguments.videos else [Path(str(data)) / name for name in FOLDERS]
    paths = video_files(folders, arguments.skip)
    if not paths:
        parser.error(f"no video files in {', '.join(map(str, folders))}")
    started = time.perf_counter()
    cases = planned(arguments.seed, arguments.clips)
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.workers, _open, (paths,)) as pool:
        judged = [one for part in pool.imap(_judge, cases, chunksize=4) for one in part]
    if arguments.out:
        arguments.out.write_text("".join(f"{json.dumps(asdict(one))}\n" for one in judged))
    print(f"{machine()}\n")
    print(f"{len(judged)} films of {len(paths)} files, {time.perf_counter() - started:.0f} s\n")
    print_tables(judged)
    print(json.dumps(figures(judged)))


def planned(seed: int, clips: int) -> list[Case]:
    """The films of a seed: as many of each kind of overlay as of another, and a hard one for every two."""
    kinds = [*(KINDS[number % len(KINDS)] for number in range(clips)),
             *(HARD[number % len(HARD)] for number in range(clips // 2))]  # fmt: skip
    return [Case(seed=seed, number=number, kind=kind) for number, kind in enumerate(kinds)]


def figures(judged: Sequence[Judged]) -> dict[str, float]:
    """The four figures; see the module's text."""
    marked = [one for one in judged if one.box is not None and one.opacity >= MIN_OPACITY]
    clean = [one for one in judged if one.box is None]
    found = [one for one in marked if one.flagged]
    false = sum(one.flagged for one in clean)
    return {
        "recall": round(len(found) / len(marked), 4),
        "precision": round(len(found) / max(1, len(found) + false), 4),
        "false_reject_rate": round(false / len(clean), 4),
        "box_iou": round(fmean([one.iou for one in found] or [0.0]), 4),
    }


def print_tables(judged: Sequence[Judged]) -> None:
    """Print recall by kind, opacity, behaviour and shots, and false findings by film."""
    marked = [one for one in judged if one.box is not None]
    bands: list[tuple[str, Callable[[Judged], bool]]] = [
        ("below 0.4", lambda one: one.opacity < MIN_OPACITY),
        ("0.4 to 0.6", lambda one: MIN_OPACITY <= one.opacity <= 0.6),
        ("above 0.6", lambda one: one.opacity > 0.6),
    ]
    rows = []
    for kind in KINDS:
        of_kind = [one for one in marked if one.kind == kind]
        found = [one for one in of_kind if one.flagged and one.opacity >= MIN_OPACITY]
        rows.append([
            kind, *(_share([one for one in of_kind if band(one)]) for _, band in bands),
            fmean([one.iou for one in found] or [0.0]),
            fmean([one.found_kind == kind for one in found] or [0.0]),
        ])  # fmt: skip
    print("Found, by kind and opacity; box IoU and share named rightly at 0.4 and more\n")
    print(markdown(["kind", *(name for name, _ in bands), "box IoU", "named"], rows), "\n")
    strong = [one for one in marked if one.opacity >= MIN_OPACITY]
    clean = [one for one in judged if one.box is None]
    for title, chosen, key in (
        ("Found at 0.4 and more, by behaviour", strong, lambda one: one.behaviour),
        ("Found at 0.4 and more, by number of shots", strong, lambda one: str(one.shots)),
        ("False findings, by film", clean, lambda one: one.kind),
    ):
        parts: dict[str, list[Judged]] = defaultdict(list)
        for one in chosen:
            parts[key(one)].append(one)
        print(f"{title}\n")
        print(markdown(["films", "flagged"], [[name, _share(parts[name])] for name in sorted(parts)]), "\n")


def _share(judged: Sequence[Judged]) -> str:
    if not judged:
        return "-"
    found = sum(one.flagged for one in judged)
    return f"{found / len(judged):.3f} ({found} of {len(judged)})"


class Judge:
    """The product's stages up to the watermark filter, and the footage that films are made of."""

    def __init__(self, paths: Iterable[Path]) -> None:
        cv2.setNumThreads(1)
        config = Config.model_validate(
            {"transcribe": {"require_speech": False}, "clip": {"min_sharpness": 0, "min_motion": 0,
             "min_exposure": 0, "max_exposure": 1}}
        )  # fmt: skip
        self.threshold = config.watermark.threshold
        self.footage = read_footage(paths)
        self._folder = tempfile.TemporaryDirectory()
        scratch = Path(self._folder.name)
        workspace = Workspace(
            scratch=scratch, answers=Memo(scratch / "memo"), vision=None,
            language=Endpoint(base_url="http://127.0.0.1:9/v1", model="none"),
        )  # fmt: skip
        names = ("probe", "scan", "clip", "watermark")
        self._stages: list[Stage] = [stage for stage in build_stages(config) if stage.name in names]
        for stage in self._stages:
            stage.open(workspace)
        self._path = scratch / "film.mp4"

    def run(self, case: Case) -> list[Judged]:
        """Make the film of a case and judge it, with and without its overlay."""
        rng = np.random.default_rng([case.seed, case.number])
        if case.kind in HARD:
            return [self._judged(case, case.kind, hard_film(rng, self.footage, case.kind))]
        shots = int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.15, 0.15, 0.2, 0.2, 0.15, 0.15]))
        film = random_film(rng, self.footage, shots)
        while not worth_showing(film):
            film = random_film(rng, self.footage, shots)
        height, width = film[0].shape[:2]
        overlay = random_overlay(rng, case.kind, width, height, len(film), FPS)
        covered = [overlay.draw(picture, index) for index, picture in enumerate(film)]
        crf = int(rng.integers(19, 29))
        plain = self._judged(case, "untouched", film, crf, shots=shots)
        box = overlay.box(width, height, len(film))
        marked = self._judged(case, case.kind, covered, crf, shots=shots, box=box)
        return [plain, replace(marked, behaviour=overlay.behaviour, opacity=overlay.opacity)]

    def _judged(
        self,
        case: Case,
        kind: str,
        film: Sequence[Picture],
        crf: int = 23,
        *,
        shots: int = 1,
        box: Box | None = None,
    ) -> Judged:
        video = self.video(case, kind, film, crf)
        findings = [finding for mark in video.watermarks for finding in mark.findings]
        met = [finding for finding in findings if box is None or box_iou(finding.box, box) > 0]
        best = max(met, key=lambda finding: finding.score, default=None)
        return Judged(
            case=case.number, kind=kind, behaviour="", opacity=0.0, shots=shots, box=box,
            score=best.score if best else 0.0,
            found_kind=best.kind if best else "",
            iou=box_iou(best.box, box) if best and box else 0.0,
            flagged=best is not None and best.score > self.threshold,
        )  # fmt: skip

    def video(self, case: Case, kind: str, film: Sequence[Picture], crf: int) -> Video:
        """Write a film and run the stages on it."""
        write_video(self._path, film, FPS, crf=crf)
        name = f"{case.number:08d}{len(kind):08d}"
        silence = Transcript(language="", sentences=[], model="none")
        video = Video(uri=self._path.as_uri(), video_id=name, content_id=name, transcript=silence)
        for stage in self._stages:
            video = stage.measure(video)
        return video


def hard_film(rng: Generator, footage: Sequence[Footage], kind: str) -> list[Picture]:
    """A film without an overlay that looks as if it had one.

    ``busy_middle``: a still camera, a busy part in the middle. ``two_cameras``: two of these that take
    turns. ``label_still`` and ``label_moving``: a printed label in the scene, before a still camera with a
    busy middle, or moving with the scene in one of several shots.
    """
    if kind == "label_moving":
        film = random_film(rng, footage, int(rng.integers(2, 5)))
        return _with_label(rng, film)
    film = random_film(rng, footage, 1)
    while not worth_showing(film):
        film = random_film(rng, footage, 1)
    height, width = film[0].shape[:2]
    stills = [film[0]]
    if kind == "two_cameras":
        other = random_film(rng, footage, 1)[0]
        stills.append(np.asarray(cv2.resize(other, (width, height)), np.uint8))
    if kind == "label_still":
        plate = label(rng, min(width, height))
        stills = [pasted(still, plate, _place(rng, still, plate)) for still in stills]
    mask = _middle(rng, width, height)
    busy = random_film(rng, footage, 2)
    change = rng.uniform(2, 5) * FPS
    noise = rng.uniform(0.5, 2.5)
    shake = rng.choice([0.0, 0.4])
    result = []
    for index in range(len(film)):
        still = stills[int(index / change) % len(stills)].astype(np.float32)
        shift = np.array([[1, 0, rng.normal(0, shake)], [0, 1, rng.normal(0, shake)]], np.float32)
        still = cv2.warpAffine(still, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        moving = cv2.resize(busy[index % len(busy)], (width, height)).astype(np.float32)
        picture = still + mask * (moving - still) + rng.normal(0, noise, still.shape)
        result.append(np.asarray(np.clip(picture, 0, 255), np.uint8))
    return result


def _middle(rng: Generator, width: int, height: int) -> Any:
    """A soft mask ``[h, w, 1]`` of a busy part around the middle."""
    y, x = np.mgrid[:height, :width]
    middle = (rng.uniform(0.4, 0.6) * width, rng.uniform(0.4, 0.65) * height)
    radii = (rng.uniform(0.2, 0.42) * width, rng.uniform(0.2, 0.42) * height)
    away = np.hypot((x - middle[0]) / radii[0], (y - middle[1]) / radii[1])
    return np.clip((1.15 - away) / 0.3, 0, 1)[..., None].astype(np.float32)


def _place(rng: Generator, picture: Picture, plate: Any) -> tuple[int, int]:
    """Draw the place of a label in a scene: anywhere."""
    high, wide = picture.shape[:2]
    x, y = rng.uniform(0, 1, 2) * (max(0, wide - plate.shape[1]), max(0, high - plate.shape[0]))
    return int(x), int(y)


def _with_label(rng: Generator, film: list[Picture]) -> list[Picture]:
    """A label that moves with the scene, from some picture to the end of its shot."""
    plate = label(rng, min(film[0].shape[:2]))
    begin = int(rng.integers(0, max(1, len(film) - round(3 * FPS))))
    x, y = _place(rng, film[0], plate)
    at = np.array([x, y], np.float64)
    result = film[:begin]
    before: Any = None
    for index in range(begin, len(film)):
        gray = cv2.cvtColor(film[index], cv2.COLOR_RGB2GRAY).astype(np.float32)
        if before is not None:
            if float(np.abs(gray - before).mean()) > 40:
                return result + film[index:]
            move, _ = cv2.phaseCorrelate(before, gray)
            at += move if np.hypot(*move) < 0.1 * SIDE_PX else 0
        before = gray
        place = np.rint(at + rng.normal(0, 0.5, 2))
        result.append(pasted(film[index], plate, (int(place[0]), int(place[1]))))
    return result


_judge_here: Judge


def _open(paths: list[Path]) -> None:
    global _judge_here
    _judge_here = Judge(paths)


def _judge(case: Case) -> list[Judged]:
    return _judge_here.run(case)


if __name__ == "__main__":
    main()
